//! The plots of the page.

use super::{growth, load_of, size_of};
use crate::{
    results::{Comparison, Results, Window},
    scenario::{CONFLUX, ETCD, Kind},
    statistics::sorted,
    svg::{Bar, Line, bars, lines},
};

/// A file of its own.
pub struct Plot {
    pub file: &'static str,
    pub title: &'static str,
    pub svg: String,
}

/// All of which there are figures.
pub fn all(r: &Results) -> Vec<Plot> {
    let mut plots = Vec::new();
    let ratios: Vec<_> = r.comparisons.iter().filter(|c| c.kind != Kind::Proxy && c.offered.is_none()).collect();
    let rates =
        |kind: Kind| r.comparisons.iter().filter(move |c| c.kind == kind && c.offered.is_none()).collect::<Vec<_>>();
    let mut add = |file, title, svg: Option<String>| plots.extend(svg.map(|svg| Plot { file, title, svg }));
    add("ratios.svg", "Throughput, Conflux to etcd", ratio_bars("Throughput, Conflux to etcd (1: as many)", &ratios));
    add("fetch.svg", "Fetches per second", rate_bars("Fetches per second", &rates(Kind::Fetch)));
    add("change.svg", "Durable changes per second", rate_bars("Durable changes per second", &rates(Kind::Change)));
    add("p99.svg", "p99 at an equal offered rate", offered_bars(r));
    add("watch.svg", "Last of all watchers told", watch_bars(r));
    add("kills.svg", "Gap after a leader's death", gaps(r));
    add("growth.svg", "Fetch p50 by the number of configs", grown(r));
    plots
}

/// Names in the order in which they first come.
fn series<'a>(comparisons: &[&'a Comparison]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for side in comparisons.iter().flat_map(|c| &c.sides) {
        if !names.contains(&side.side.as_str()) {
            names.push(&side.side);
        }
    }
    names
}

fn label(c: &Comparison) -> String {
    let own = c.name.split(" / ").next().unwrap_or_default();
    format!("{own}, {}, {}", size_of(c.value_bytes), load_of(c))
}

/// `None` where there is nothing to show.
fn some(bars: Vec<Bar>, plot: impl Fn(&[Bar]) -> String) -> Option<String> {
    (!bars.is_empty()).then(|| plot(&bars))
}

fn ratio_bars(title: &str, comparisons: &[&Comparison]) -> Option<String> {
    let names: Vec<&str> = series(comparisons).into_iter().filter(|n| *n != ETCD).collect();
    let mut all = Vec::new();
    for c in comparisons {
        for side in c.sides.iter().take(c.sides.len().saturating_sub(1)) {
            let series = names.iter().position(|n| *n == side.side).unwrap_or_default();
            all.extend(c.ratio(side, Window::rate).map(|s| bar(label(c), series, s)));
        }
    }
    some(all, |all| bars(title, "times etcd", &names, all, Some(1.0)))
}

fn bar(label: String, series: usize, s: crate::statistics::Spread) -> Bar {
    Bar { label, series, value: s.median, least: s.least, most: s.most }
}

fn side_bars(comparisons: &[&Comparison], what: fn(&Window) -> f64) -> Vec<Bar> {
    let names = series(comparisons);
    let mut all = Vec::new();
    for c in comparisons {
        for (n, side) in c.sides.iter().enumerate() {
            let series = names.iter().position(|n| *n == side.side).unwrap_or_default();
            let label = if n == 0 { label(c) } else { String::new() };
            all.push(bar(label, series, side.spread(what)));
        }
    }
    all
}

fn rate_bars(title: &str, comparisons: &[&Comparison]) -> Option<String> {
    some(side_bars(comparisons, Window::rate), |all| bars(title, "per second", &series(comparisons), all, None))
}

fn offered_bars(r: &Results) -> Option<String> {
    let offered: Vec<_> = r.comparisons.iter().filter(|c| c.offered.is_some()).collect();
    let all = side_bars(&offered, |w| w.p99_us as f64 / 1e3);
    some(all, |all| bars("p99 at an equal offered rate", "ms", &series(&offered), all, None))
}

fn watch_bars(r: &Results) -> Option<String> {
    let measured = r.watches.iter().filter(|w| w.error.is_none());
    let all = measured.map(|w| Bar {
        label: format!("{} watchers, {}, {} on a connection", w.watchers, w.transport, w.per_connection),
        series: usize::from(w.side == ETCD),
        value: w.last_p99_ms,
        least: w.last_p50_ms,
        most: w.last_max_ms,
    });
    let title = "Last of all watchers told: p99, from p50 to the longest";
    some(all.collect(), |all| bars(title, "ms", &[CONFLUX, ETCD], all, Some(100.0)))
}

fn gaps(r: &Results) -> Option<String> {
    let all: Vec<_> = r
        .leader_kills
        .iter()
        .filter(|k| !k.gaps_ms.is_empty())
        .map(|k| {
            let gaps = sorted(k.gaps_ms.clone());
            let share = |n: usize| 100.0 * (n + 1) as f64 / gaps.len() as f64;
            let over = gaps.iter().enumerate().map(|(n, gap)| (*gap, share(n)));
            Line { name: k.side.clone(), points: std::iter::once((gaps[0], 0.0)).chain(over).collect() }
        })
        .collect();
    (!all.is_empty()).then(|| lines("Gap after a leader's death", ("ms", "% of kills that were over by then"), &all))
}

fn grown(r: &Results) -> Option<String> {
    let line = |side: &str| {
        let points =
            growth::of(r, side).iter().map(|g| (g.entries as f64, growth::ms(&g.fetch, |w| w.p50_us))).collect();
        Line { name: side.into(), points }
    };
    let all = [line(CONFLUX), line(ETCD)];
    (!r.growth.is_empty()).then(|| lines("Fetch p50 of 64 in flight", ("entries", "ms"), &all))
}
