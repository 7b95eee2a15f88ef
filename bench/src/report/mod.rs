//! The page: what was aimed at, then ratios, then what they are made of.

mod costs;
mod growth;
mod plots;
mod ratios;
mod targets;
mod watchers;

use std::path::Path;

use anyhow::{Context, Result};

use crate::{
    results::{Comparison, Results},
    statistics::{Spread, quantile, sorted},
};

/// Writing to a string cannot fail.
macro_rules! line {
    ($page:expr, $($part:tt)*) => {{
        use std::fmt::Write;
        let _ = writeln!($page, $($part)*);
    }};
}
use line;

/// Writes the page, and its plots into a directory of its name beside it.
pub fn write(results: &Results, page: &Path) -> Result<()> {
    let directory = page.with_extension("");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let name = directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    for plot in plots::all(results) {
        let path = directory.join(plot.file);
        std::fs::write(&path, &plot.svg).with_context(|| format!("writing {}", path.display()))?;
    }
    std::fs::write(page, text(results, &name)).with_context(|| format!("writing {}", page.display()))
}

/// The page; plots are below `directory`.
fn text(results: &Results, directory: &str) -> String {
    let mut page = String::new();
    head(&mut page, results);
    targets::table(&mut page, results);
    ratios::table(&mut page, results);
    for plot in plots::all(results) {
        line!(page, "![{}]({directory}/{})\n", plot.title, plot.file);
    }
    ratios::figures(&mut page, results);
    costs::table(&mut page, results);
    costs::syncs(&mut page, results);
    costs::proxies(&mut page, results);
    watchers::table(&mut page, results);
    kills(&mut page, results);
    moves(&mut page, results);
    growth::tables(&mut page, results);
    starts(&mut page, results);
    page.push_str(include_str!("../../reading.md"));
    scenarios(&mut page, results);
    page
}

fn scenarios(page: &mut String, r: &Results) {
    if r.scenarios.is_empty() {
        return;
    }
    line!(page, "\n## When\n");
    line!(page, "| scenario | began | took s |\n|---|---|---|");
    for (name, took) in &r.scenarios {
        line!(page, "| {name} | {} | {:.0} |", took.began, took.seconds);
    }
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
    let m = &r.machine;
    line!(page, "| machine | {} processors ({}), {} MiB, Linux {} |", m.cores, m.processor, m.memory_mib, m.kernel);
    line!(page, "| load average before the start | {} |", m.load_before);
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

fn three(s: Spread) -> String {
    format!("{:.2} / **{:.2}** / {:.2}", s.least, s.median, s.most)
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
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
    line!(page, "| side | kills | least ms | p50 ms | p90 ms | p99 ms | most ms |\n|---|---|---|---|---|---|---|");
    for k in &r.leader_kills {
        let gaps = sorted(k.gaps_ms.clone());
        let at = |share| quantile(&gaps, share);
        line!(
            page,
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            k.side,
            gaps.len(),
            at(0.0),
            at(0.5),
            at(0.9),
            at(0.99),
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
    let whole = sorted(m.whole_ms.clone());
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

fn starts(page: &mut String, r: &Results) {
    if r.starts.is_empty() {
        return;
    }
    line!(page, "## Start, and doing nothing\n");
    line!(
        page,
        "From the start of the command on an empty directory to the first acknowledged write: `conflux dev` with its defaults (ten processes: two shard groups and placement of three, a gateway; it makes all certificates, a tenant and keys), etcd's three members with certificates that are there. Then five seconds later, while nobody asks for anything.\n"
    );
    line!(page, "| side | starts | first write, least ms | median ms | most ms |\n|---|---|---|---|---|");
    for s in &r.starts {
        let times = sorted(s.first_write_ms.clone());
        let at = |share| quantile(&times, share);
        line!(page, "| {} | {} | {:.0} | {:.0} | {:.0} |", s.side, times.len(), at(0.0), at(0.5), at(1.0));
    }
    line!(page, "\n| process | idle: % of a processor | resident MiB |\n|---|---|---|");
    for s in &r.starts {
        for (name, used) in &s.idle {
            line!(page, "| {name} | {:.1} | {:.0} |", 100.0 * used.cpu_s / s.idle_s, mib(used.resident as f64));
        }
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        results::{LeaderKills, Measured, Watches, Window},
        scenario::{CONFLUX, ETCD, Kind},
    };

    fn measured() -> Results {
        let side = |name: &str, answered| {
            let window = Window { seconds: 1.0, answered, p50_us: 10, p99_us: 20, ..Window::default() };
            Measured { side: name.into(), windows: vec![window] }
        };
        let compared = Comparison {
            kind: Kind::Fetch,
            name: "fetch / range".into(),
            concurrency: 64,
            value_bytes: 1024,
            offered: None,
            sides: vec![side(CONFLUX, 300), side(ETCD, 200)],
        };
        let watches = Watches { side: CONFLUX.into(), error: Some("too many".into()), ..Watches::default() };
        let kills = LeaderKills { side: ETCD.into(), gaps_ms: vec![10.0, 30.0, 20.0] };
        Results { comparisons: vec![compared], watches: vec![watches], leader_kills: vec![kills], ..Results::default() }
    }

    #[test]
    fn the_page_has_what_was_measured_and_leaves_out_the_rest() {
        let page = text(&measured(), "benchmarks");
        for part in [
            "| fetch / range | conflux | 1 KiB | 64 in flight | 1.50 / **1.50** / 1.50 |",
            "not measured: too many",
            "| etcd | 3 | 10 | 20 | 30 | 30 | 30 |",
            "](benchmarks/kills.svg)",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        for absent in ["## Growth", "## A tenant moves", "growth.svg"] {
            assert!(!page.contains(absent), "{absent}");
        }
    }

    #[test]
    fn every_row_of_a_table_has_as_many_cells() {
        let page = text(&measured(), "benchmarks");
        let cells = |line: &str| line.matches(" |").count();
        for table in page.split("\n\n").filter(|t| t.starts_with("| ")) {
            let head = table.lines().next().unwrap();
            assert!(table.lines().skip(2).all(|row| cells(row) == cells(head)), "{table}");
        }
    }

    #[test]
    fn plots_are_written_beside_the_page() {
        let directory = tempfile::tempdir().unwrap();
        write(&measured(), &directory.path().join("figures.md")).unwrap();
        let plot = std::fs::read_to_string(directory.path().join("figures/ratios.svg")).unwrap();
        assert!(plot.contains("fetch, 1 KiB, 64 in flight") && plot.ends_with("</svg>\n"));
    }
}
