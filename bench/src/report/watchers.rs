//! Who was told, how soon, and what a watcher costs.

use super::line;
use crate::results::{Results, Watches};

/// By number and transport.
pub fn table(page: &mut String, r: &Results) {
    if r.watches.is_empty() {
        return;
    }
    line!(page, "## Watchers\n");
    line!(
        page,
        "One writer makes changes of 1 KiB. Delay: from the answer to the writer until the *last* watcher was told. An event of etcd carries the value, one of Conflux tells what changed. Each row has a gateway that was started for it, and etcd's members were restarted. Memory: resident bytes that were added between the moment before the watchers came and three seconds after the last one had come, while nothing was changed; after the changes in the next column. TLS is on everywhere; where a hundred watchers share an h2 connection, nearly all of a row is what a watcher itself needs, and the difference to the row with a connection each is what the connection and its TLS need.\n"
    );
    line!(
        page,
        "| watchers | how | on a connection | changes, a second | delay p50 ms | p99 ms | max ms | not delivered | ended | KiB for each, idle | of these | after changes | processors used by servers | opened in s |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for w in &r.watches {
        if let Some(error) = &w.error {
            line!(
                page,
                "| {} | {} | {} | not measured: {error} | | | | | | | | | | |",
                w.watchers,
                how(w),
                w.per_connection
            );
            continue;
        }
        let parts: Vec<_> = w.idle_bytes_per_watcher.iter().map(|(n, b)| format!("{n} {:.1}", b / 1024.0)).collect();
        let cpu: f64 = w.used.iter().filter(|(name, _)| *name != "driver").map(|(_, u)| u.cpu_s).sum();
        line!(
            page,
            "| {} | {} | {} | {}, {} | {:.1} | {:.1} | {:.1} | {} | {} | {:.1} | {} | {:.1} | {:.2} | {:.1} |",
            w.watchers,
            how(w),
            w.per_connection,
            w.changes,
            w.changes_per_s,
            w.last_p50_ms,
            w.last_p99_ms,
            w.last_max_ms,
            w.missing,
            w.ended,
            w.idle_bytes_per_watcher.values().sum::<f64>() / 1024.0,
            parts.join(", "),
            w.bytes_per_watcher.values().sum::<f64>() / 1024.0,
            cpu / w.seconds,
            w.opening_s
        );
    }
    page.push('\n');
}

fn how(w: &Watches) -> String {
    format!("{}, {}", w.side, w.transport)
}
