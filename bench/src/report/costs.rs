//! What an answer costs: processor time, bytes to the disk, syncs, memory.

use super::{line, load_of, mib, size_of};
use crate::{
    results::{Measured, Results, Window},
    scenario::Kind,
};

/// Of all closed loops.
pub fn table(page: &mut String, r: &Results) {
    if r.comparisons.is_empty() {
        return;
    }
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
        for side in &c.sides {
            line!(
                page,
                "| {} | {} | {} | {} | {:.0} | {} | {:.0} | {:.0} | {:.0} |",
                c.name,
                size_of(c.value_bytes),
                load_of(c),
                side.side,
                side.median(Window::cpu_us),
                parts(side),
                side.median(|w| w.cpu_us_of("driver")),
                side.median(Window::written),
                mib(side.median(Window::resident))
            );
        }
    }
    page.push('\n');
}

fn parts(side: &Measured) -> String {
    let names = side.windows.first().map(|w| w.used.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let servers = names.iter().filter(|n| *n != "driver");
    servers.map(|n| format!("{n} {:.0}", side.median(|w| w.cpu_us_of(n)))).collect::<Vec<_>>().join(", ")
}

/// Forced to the disk.
pub fn syncs(page: &mut String, r: &Results) {
    if r.syncs.is_empty() {
        return;
    }
    line!(page, "### Syncs for a change\n");
    line!(
        page,
        "`fsync`, `fdatasync` and `msync` of all processes of a side while 1 KiB values are changed, counted in a run of its own under `strace --seccomp-bpf`, whose rates are not used. One change needs two syncs at least, on two of three members; changes that wait together share them.\n"
    );
    line!(page, "| side | in flight | changes | syncs | syncs for a change |\n|---|---|---|---|---|");
    for s in &r.syncs {
        let each = s.syncs as f64 / s.changes.max(1) as f64;
        line!(page, "| {} | {} | {} | {} | {each:.3} |", s.side, s.concurrency, s.changes, s.syncs);
    }
    page.push('\n');
}

/// The gateway beside nginx: how much of a processor each needs, and how much later an answer comes.
pub fn proxies(page: &mut String, r: &Results) {
    let all = || r.comparisons.iter().filter(|c| c.kind == Kind::Proxy);
    if all().next().is_none() {
        return;
    }
    line!(page, "## The gateway beside nginx\n");
    line!(
        page,
        "The same fetch (stale, 1 KiB) of the same three members: through the gateway with edge reads off, through nginx, and at the members themselves. Clients speak h2 over TLS to each. The gateway authenticates an API key, authorizes, limits, finds the shard and proxies over h2, each of its threads over a connection of its own to a member; nginx (two workers, `keepalive 256`) adds headers that never change and proxies over HTTP/1.1, with the same client certificate towards the shards. *Requests/s for one processor*: answers by the processor seconds of the proxy alone.\n"
    );
    line!(
        page,
        "| load | side | answers/s | p50 ms | p50 more than without a proxy, ms | proxy, us of processor | shard, us | requests/s for one processor of the proxy |\n|---|---|---|---|---|---|---|---|"
    );
    for c in all() {
        let direct = c.sides.first().map_or(0.0, |s| s.median(|w| w.p50_us as f64));
        for (n, side) in c.sides.iter().enumerate() {
            let proxy = side.median(|w| w.cpu_us_of("gateway") + w.cpu_us_of("nginx"));
            let p50 = side.median(|w| w.p50_us as f64);
            let (added, per_core) = match n {
                0 => ("-".into(), "-".into()),
                _ => (format!("{:.2}", (p50 - direct) / 1e3), format!("{:.0}", 1e6 / proxy)),
            };
            line!(
                page,
                "| {} | {} | {:.0} | {:.2} | {added} | {proxy:.0} | {:.0} | {per_core} |",
                load_of(c),
                side.side,
                side.median(Window::rate),
                p50 / 1e3,
                side.median(|w| w.cpu_us_of("shard"))
            );
        }
    }
    page.push('\n');
}
