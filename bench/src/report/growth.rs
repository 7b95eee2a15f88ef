//! What more configs cost.

use super::{line, mib};
use crate::{
    results::{Grown, Results, Window},
    statistics::spread,
};

/// Latencies, then what is kept.
pub fn tables(page: &mut String, r: &Results) {
    let Some(first) = r.growth.first() else { return };
    line!(page, "## Growth\n");
    line!(
        page,
        "Values of {} B with {} version(s) each, spread over {} tenant(s), keys uniform over all of them, edge reads off; medians of the rounds. Put through the public API: into Conflux as changesets of 100, sixteen at a time; into etcd one by one, 256 at a time.\n",
        first.value_bytes,
        first.versions,
        first.tenants
    );
    line!(
        page,
        "| entries | side | fetch p50 ms, one in flight | p50, of 64 | p99, of 64 | fetches/s | write p50, of 64 | p99 | writes/s | put, values/s | servers, us for a value |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for g in &r.growth {
        line!(
            page,
            "| {} | {} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} |",
            g.entries,
            g.side,
            ms(&g.fetch_one, |w| w.p50_us),
            ms(&g.fetch, |w| w.p50_us),
            ms(&g.fetch, |w| w.p99_us),
            rate(&g.fetch),
            ms(&g.write, |w| w.p50_us),
            ms(&g.write, |w| w.p99_us),
            rate(&g.write),
            g.loaded as f64 / g.loading_s,
            g.loading_cpu_s * 1e6 / g.loaded.max(1) as f64
        );
    }
    line!(
        page,
        "\nOf one member. Memory: the largest after the load, and the restarted one once it was ready. A restart is of a follower that was stopped, until it is ready (Conflux) or all three answer and agree on a leader (etcd). A copy is a member's whole state, read as a stream by the load (`/_cluster/{{group}}/backup`, `Maintenance/Snapshot`).\n"
    );
    line!(
        page,
        "| entries | side | resident MiB | after the restart | on disk MiB | log | state | restart s | copy MiB | copy s |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for g in &r.growth {
        let told = |bytes: f64| if bytes > 0.0 { format!("{:.0}", mib(bytes)) } else { "-".into() };
        line!(
            page,
            "| {} | {} | {:.0} | {:.0} | {:.0} | {} | {} | {:.1} | {:.0} | {:.1} |",
            g.entries,
            g.side,
            mib(g.resident as f64),
            mib(g.resident_restarted as f64),
            mib(g.disk as f64),
            told(g.log_bytes),
            told(g.state_bytes),
            g.restart_s,
            mib(g.snapshot_bytes as f64),
            g.snapshot_s
        );
    }
    page.push('\n');
}

/// The median of the rounds, in milliseconds.
pub fn ms(windows: &[Window], of: fn(&Window) -> u64) -> f64 {
    spread(windows.iter().map(|w| of(w) as f64 / 1e3)).unwrap_or_default().median
}

fn rate(windows: &[Window]) -> f64 {
    spread(windows.iter().map(Window::rate)).unwrap_or_default().median
}

/// One side's, smallest first.
pub fn of<'a>(r: &'a Results, side: &str) -> Vec<&'a Grown> {
    let mut all: Vec<_> = r.growth.iter().filter(|g| g.side == side).collect();
    all.sort_by_key(|g| g.entries);
    all
}
