//! The page: ratios first, then what they are made of.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    process::Usage,
    results::{Comparison, Results, Round, Window},
    statistics::{Spread, quantile, spread},
};

/// `docs/benchmarks.md`.
pub fn page(results: &Results) -> String {
    let mut page = String::new();
    head(&mut page, results);
    ratios(&mut page, results);
    figures(&mut page, results);
    costs(&mut page, results);
    watches(&mut page, results);
    kills(&mut page, results);
    moves(&mut page, results);
    page.push_str(include_str!("../reading.md"));
    page
}

/// Writing to a string cannot fail.
macro_rules! line {
    ($page:expr, $($part:tt)*) => { let _ = writeln!($page, $($part)*); };
}

fn head(page: &mut String, r: &Results) {
    line!(page, "# Benchmarks\n");
    line!(
        page,
        "Conflux beside a three-member etcd on the same machine, in the same run, with the same load in alternating windows. Written by"
    );
    line!(
        page,
        "`conflux-bench report` from `docs/benchmarks.json`; `make bench` measures anew. The ratios count: absolute figures are of this machine and this hour.\n"
    );
    line!(page, "| | |\n|---|---|");
    line!(page, "| run | {} |", r.began);
    line!(
        page,
        "| machine | {} processors ({}), {} MiB, Linux {} |",
        r.machine.cores,
        r.machine.processor,
        r.machine.memory_mib,
        r.machine.kernel
    );
    line!(page, "| load average before the start | {} |", r.machine.load_before);
    line!(
        page,
        "| Conflux | {}: one shard group of three, placement of three, one gateway; TLS and an API key at the gateway, mTLS within, every change synced |",
        r.conflux_version
    );
    line!(
        page,
        "| etcd | {}: three members with its defaults; TLS and client certificates for clients and peers |",
        r.etcd_version
    );
    if !r.note.is_empty() {
        line!(page, "| of this run | {} |", r.note);
    }
    line!(
        page,
        "\nLoad, gateway, shards, placement and etcd share the processors, so each figure is of what all of them together can do.\n"
    );
}

fn load_of(c: &Comparison) -> String {
    match c.offered {
        Some(rate) => format!("{rate:.0}/s offered"),
        None => format!("{} in flight", c.concurrency),
    }
}

fn size_of(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

fn of(c: &Comparison, what: impl Fn(&Round) -> f64) -> Spread {
    spread(c.rounds.iter().map(what)).unwrap_or(Spread { least: 0.0, median: 0.0, most: 0.0 })
}

fn three(s: Spread) -> String {
    format!("{:.2} / **{:.2}** / {:.2}", s.least, s.median, s.most)
}

fn ratios(page: &mut String, r: &Results) {
    line!(page, "## Ratios, Conflux to etcd\n");
    line!(
        page,
        "Least, **median** and most of the rounds. Throughput: more is better for Conflux. Latency: less is better. An open loop's throughput is what was offered.\n"
    );
    line!(page, "| what (Conflux / etcd) | value | load | throughput | p50 | p99 |\n|---|---|---|---|---|---|");
    for c in &r.comparisons {
        let over = |f: fn(&Window) -> f64| three(of(c, |r| f(&r.conflux) / f(&r.etcd)));
        let throughput = if c.offered.is_some() { "-".into() } else { over(Window::rate) };
        line!(
            page,
            "| {} | {} | {} | {throughput} | {} | {} |",
            c.name,
            size_of(c.value_bytes),
            load_of(c),
            over(|w| w.p50_us as f64),
            over(|w| w.p99_us as f64)
        );
    }
    page.push('\n');
}

fn figures(page: &mut String, r: &Results) {
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
        for (side, window) in [("Conflux", (|r| &r.conflux) as fn(&Round) -> &Window), ("etcd", |r| &r.etcd)] {
            let median = |f: fn(&Window) -> f64| of(c, |r| f(window(r))).median;
            let most = of(c, |r| window(r).max_us as f64).most / 1e3;
            let failed: u64 = c.rounds.iter().map(|r| window(r).failed).sum();
            line!(
                page,
                "| {} | {} | {} | {side} | {:.0} | {:.2} | {:.2} | {:.2} | {most:.1} | {failed} | {:.0} % |",
                c.name,
                size_of(c.value_bytes),
                load_of(c),
                median(Window::rate),
                median(|w| w.p50_us as f64) / 1e3,
                median(|w| w.p90_us as f64) / 1e3,
                median(|w| w.p99_us as f64) / 1e3,
                100.0 * median(|w| w.others)
            );
        }
    }
    page.push('\n');
}

fn costs(page: &mut String, r: &Results) {
    line!(page, "## What one answer costs\n");
    line!(
        page,
        "Medians over the closed loops: processor time of the servers by process, and of the load itself; bytes that the servers sent to the disk; resident memory of all of a side's processes.\n"
    );
    line!(
        page,
        "| what | value | load | side | servers, us | of these | load, us | bytes written | resident MiB |\n|---|---|---|---|---|---|---|---|---|"
    );
    for c in r.comparisons.iter().filter(|c| c.offered.is_none()) {
        for (side, window) in [("Conflux", (|r| &r.conflux) as fn(&Round) -> &Window), ("etcd", |r| &r.etcd)] {
            let cost = |name: &str| of(c, |r| cpu_us(window(r), name)).median;
            let names: Vec<_> = c.rounds.first().map(|r| window(r).used.keys().cloned().collect()).unwrap_or_default();
            let parts = names.iter().filter(|n| *n != "driver").map(|n| format!("{n} {:.0}", cost(n)));
            line!(
                page,
                "| {} | {} | {} | {side} | {:.0} | {} | {:.0} | {:.0} | {:.0} |",
                c.name,
                size_of(c.value_bytes),
                load_of(c),
                of(c, |r| window(r).cpu_us()).median,
                parts.collect::<Vec<_>>().join(", "),
                cost("driver"),
                of(c, |r| window(r).written()).median,
                of(c, |r| resident_mib(&window(r).used)).median
            );
        }
    }
    page.push('\n');
}

fn cpu_us(window: &Window, group: &str) -> f64 {
    window.used.get(group).map_or(0.0, |u| u.cpu_s) * 1e6 / window.answered.max(1) as f64
}

fn resident_mib(used: &BTreeMap<String, Usage>) -> f64 {
    let servers = used.iter().filter(|(name, _)| *name != "driver");
    servers.map(|(_, u)| u.resident).sum::<u64>() as f64 / f64::from(1 << 20)
}

fn watches(page: &mut String, r: &Results) {
    if r.watches.is_empty() {
        return;
    }
    line!(page, "## Watchers\n");
    line!(
        page,
        "Each watcher has a TLS connection of its own (h2; SSE at the gateway, a watch stream at etcd's members in turn). One writer makes five changes of 1 KiB a second. Delay: from the answer to the writer until the *last* watcher was told. An event of etcd carries the value, one of Conflux tells what changed. Memory: resident bytes added since before the watchers came, for each of them; the load is not in it. What the processes had kept from earlier work they use again first, so with few watchers the figure is too low to mean anything.\n"
    );
    line!(
        page,
        "| watchers | side | changes | delay p50 ms | p99 ms | max ms | not delivered | KiB per watcher | of these | processors used by servers | opened in s |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for w in &r.watches {
        // Placement has no part in a watch: what it grows by meanwhile is of other things.
        let beside = |name: &str| matches!(name, "driver" | "placement");
        let servers = || w.bytes_per_watcher.iter().filter(|(name, _)| !beside(name));
        let parts: Vec<_> = servers().map(|(n, b)| format!("{n} {:.1}", b / 1024.0)).collect();
        let cpu: f64 = w.used.iter().filter(|(name, _)| *name != "driver").map(|(_, u)| u.cpu_s).sum();
        line!(
            page,
            "| {} | {} | {} | {:.1} | {:.1} | {:.1} | {} | {:.1} | {} | {:.2} | {:.1} |",
            w.watchers,
            w.side,
            w.changes,
            w.last_p50_ms,
            w.last_p99_ms,
            w.last_max_ms,
            w.missing,
            servers().map(|(_, b)| b).sum::<f64>() / 1024.0,
            parts.join(", "),
            cpu / w.seconds,
            w.opening_s
        );
    }
    page.push('\n');
}

fn kills(page: &mut String, r: &Results) {
    if r.leader_kills.is_empty() {
        return;
    }
    line!(page, "## A leader is killed\n");
    line!(
        page,
        "`kill -9`; the gap is from the kill to the first acknowledgement of a write that was sent after it (a probe every 10 ms): through the gateway, and at etcd's two living members.\n"
    );
    line!(page, "| side | kills | least ms | p50 ms | p90 ms | most ms |\n|---|---|---|---|---|---|");
    for k in &r.leader_kills {
        let mut gaps = k.gaps_ms.clone();
        gaps.sort_by(f64::total_cmp);
        let at = |share| quantile(&gaps, share);
        line!(
            page,
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |",
            k.side,
            gaps.len(),
            at(0.0),
            at(0.5),
            at(0.9),
            at(1.0)
        );
    }
    page.push('\n');
}

fn moves(page: &mut String, r: &Results) {
    let Some(m) = &r.moves else { return };
    line!(page, "## A tenant moves\n");
    line!(
        page,
        "Between two shard groups, to and fro, under four writers of 1 KiB; etcd has no such thing. The pause is what the federation says of its freeze; what a client notices of it is the longest write.\n"
    );
    line!(
        page,
        "| moves | given up | pause p50 ms | p99 ms | most ms | whole move p50 ms | writes | refused | write p50 ms | p99 ms | longest ms | contents |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut whole = m.whole_ms.clone();
    whole.sort_by(f64::total_cmp);
    let pause = |share| quantile(&m.pauses_ms, share);
    line!(
        page,
        "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {:.2} | {:.2} | {:.1} | {} |",
        whole.len(),
        m.given_up,
        pause(0.5),
        pause(0.99),
        pause(1.0),
        quantile(&whole, 0.5),
        m.writes,
        m.refused,
        m.write_p50_us as f64 / 1e3,
        m.write_p99_us as f64 / 1e3,
        m.write_max_us as f64 / 1e3,
        size_of(m.tenant_bytes as usize)
    );
    page.push('\n');
}
