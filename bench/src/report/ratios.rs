//! Each side to its peer, and what the ratios are made of.

use super::{line, load_of, size_of, three};
use crate::{
    results::{Results, Window},
    scenario::{EDGE, Kind},
};

/// All comparisons but the proxies, whose measure is another one.
pub fn table(page: &mut String, r: &Results) {
    if r.comparisons.is_empty() {
        return;
    }
    line!(page, "## Ratios, Conflux to etcd\n");
    line!(
        page,
        "Least, **median** and most of the rounds. Throughput: more is better for Conflux. Latency: less is better. An open loop's throughput is what was offered. *{EDGE}*: stale fetches are answered at the gateway where it can; *conflux*: by a gateway with that switched off.\n"
    );
    line!(
        page,
        "| what (Conflux / etcd) | side | value | load | throughput | p50 | p99 |\n|---|---|---|---|---|---|---|"
    );
    for c in r.comparisons.iter().filter(|c| c.kind != Kind::Proxy) {
        for side in c.sides.iter().take(c.sides.len().saturating_sub(1)) {
            let over = |f: fn(&Window) -> f64| c.ratio(side, f).map(three).unwrap_or_default();
            let throughput = if c.offered.is_some() { "-".into() } else { over(Window::rate) };
            line!(
                page,
                "| {} | {} | {} | {} | {throughput} | {} | {} |",
                c.name,
                side.side,
                size_of(c.value_bytes),
                load_of(c),
                over(|w| w.p50_us as f64),
                over(|w| w.p99_us as f64)
            );
        }
    }
    page.push('\n');
}

/// All comparisons, in figures.
pub fn figures(page: &mut String, r: &Results) {
    if r.comparisons.is_empty() {
        return;
    }
    line!(page, "## Figures\n");
    line!(
        page,
        "Medians of the rounds; failed: of all rounds. Open loops count each answer from when its request was due. *Others*: the share of the processors that neither the measured side nor the load used: the idle other side and other programs.\n"
    );
    line!(
        page,
        "| what | value | load | side | answers/s | p50 ms | p90 ms | p99 ms | max ms | failed | others |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for c in &r.comparisons {
        for side in &c.sides {
            line!(
                page,
                "| {} | {} | {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {} | {:.0} % |",
                c.name,
                size_of(c.value_bytes),
                load_of(c),
                side.side,
                side.median(Window::rate),
                side.median(|w| w.p50_us as f64) / 1e3,
                side.median(|w| w.p90_us as f64) / 1e3,
                side.median(|w| w.p99_us as f64) / 1e3,
                side.spread(|w| w.max_us as f64).most / 1e3,
                side.failed(),
                100.0 * side.median(|w| w.others)
            );
        }
    }
    page.push('\n');
}
