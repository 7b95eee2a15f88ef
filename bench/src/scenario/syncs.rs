//! Calls that force data to the disk, for each change: both sides run under strace, which stops a process at such a call only and
//! leaves all others alone (`--seccomp-bpf`). What is counted holds; the rates of such a run are not used.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Bench, CONFLUX, ETCD};
use crate::{
    compare::{Driven, Side},
    conflux::{Federation, Setup, Space},
    connection::Protocol,
    etcd::Etcd,
    load::{self, Shape},
    results::{Results, Syncs},
};

/// Calls that return when the data is on the disk.
const CALLS: &str = "trace=fsync,fdatasync,msync";

/// Configs, on both sides.
const CONFIGS: u64 = 1000;

/// One change in flight, and more.
const CONCURRENCIES: [usize; 3] = [1, 64, 256];

/// A federation and an etcd of its own.
pub async fn measure(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let found = std::process::Command::new("strace").arg("-V").stdout(std::process::Stdio::null()).status();
    found.context("strace cannot be run: apt-get install strace")?;
    let directory = tempfile::Builder::new().prefix("syncs-bench-").tempdir_in(&bench.base)?;
    let under = |file: &str| {
        let file = directory.path().join(file).display().to_string();
        ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "signal=none", "-e", CALLS, "-o", &file].map(str::to_owned)
    };
    let setup = Setup { shards: Some(1), under: under("conflux").into(), ..Setup::default() };
    let federation = Federation::start(&bench.run.conflux, &bench.base, &setup).await?;
    let etcd = Etcd::start(&bench.run.etcd, &bench.base, &under("etcd-{name}")).await?;
    let space = Space::new(vec![federation.demo().await?], "s", 1024, CONFIGS);
    let endpoints = vec![federation.endpoint(Protocol::Http2)?];
    load::fill(&endpoints, &space.first_puts(), 0..CONFIGS, 32).await?;
    load::fill(&etcd.endpoints()?, &etcd.first_puts(1024, CONFIGS), 0..CONFIGS, 32).await?;
    let sides = [
        Side { name: CONFLUX.into(), endpoints, requests: space.puts(), processes: federation.processes() },
        Side {
            name: ETCD.into(),
            endpoints: etcd.endpoints()?,
            requests: etcd.puts(1024, CONFIGS),
            processes: etcd.processes(),
        },
    ];
    results.syncs.clear();
    for concurrency in CONCURRENCIES {
        for side in &sides {
            let shape = Shape { concurrency, window: bench.plan.window * 3, offered: None };
            let driven = Driven::warm(side, shape).await?;
            let before = counted(directory.path(), &side.name)?;
            let changes = driven.window(shape).await?.answered;
            let syncs = counted(directory.path(), &side.name)? - before;
            eprintln!(
                "{}, {concurrency} in flight: {syncs} syncs for {changes} changes, {:.2} for one",
                side.name,
                syncs as f64 / changes.max(1) as f64
            );
            results.syncs.push(Syncs { side: side.name.clone(), concurrency, changes, syncs });
        }
    }
    Ok(())
}

/// Calls so far, in all files of a side. One that another thread interrupts is on two lines.
fn counted(directory: &Path, side: &str) -> Result<u64> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(side) {
            let text = std::fs::read_to_string(entry.path())?;
            count += text.lines().filter(|line| is_call(line)).count() as u64;
        }
    }
    Ok(count)
}

fn is_call(line: &str) -> bool {
    line.contains("sync(") && !line.contains("resumed>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_on_two_lines_is_one() {
        let lines = [
            "812 fdatasync(31) = 0",
            "813 fsync(7 <unfinished ...>",
            "813 <... fsync resumed>) = 0",
            "814 +++ exited with 0 +++",
        ];
        assert_eq!(lines.iter().filter(|line| is_call(line)).count(), 2);
    }
}
