//! What processes cost, as the kernel counts it.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Ticks of `/proc/PID/stat` in a second; Linux shows 100 to programs on every machine.
const TICKS: f64 = 100.0;

/// Processes by what they are: `gateway`, `shard`, `etcd`.
pub type Groups = BTreeMap<String, Vec<i32>>;

/// What a group of processes has used so far, or used between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds of processor time, user and system.
    pub cpu_s: f64,
    /// Resident bytes at the look.
    pub resident: u64,
    /// Bytes sent to the disk.
    pub written: u64,
}

/// A look at all groups, and at this process as `driver`.
pub fn look(groups: &Groups) -> BTreeMap<String, Usage> {
    let mut all: BTreeMap<String, Usage> = groups
        .iter()
        .map(|(name, pids)| {
            let sum = pids.iter().map(|pid| of(*pid)).fold(Usage::default(), |a, b| Usage {
                cpu_s: a.cpu_s + b.cpu_s,
                resident: a.resident + b.resident,
                written: a.written + b.written,
            });
            (name.clone(), sum)
        })
        .collect();
    all.insert("driver".into(), of(std::process::id() as i32));
    all
}

/// What was used between two looks; resident bytes are those of the second.
pub fn between(before: &BTreeMap<String, Usage>, after: &BTreeMap<String, Usage>) -> BTreeMap<String, Usage> {
    let used = |name: &String, now: &Usage| {
        let then = before.get(name).copied().unwrap_or_default();
        Usage {
            cpu_s: (now.cpu_s - then.cpu_s).max(0.0),
            resident: now.resident,
            written: now.written.saturating_sub(then.written),
        }
    };
    after.iter().map(|(name, now)| (name.clone(), used(name, now))).collect()
}

/// A process that is gone has used nothing.
fn of(pid: i32) -> Usage {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    Usage {
        cpu_s: cpu_seconds(&read("stat")),
        resident: field(&read("status"), "VmRSS:") * 1024,
        written: field(&read("io"), "write_bytes:"),
    }
}

/// The name in it may hold blanks and brackets: count from the last one.
fn cpu_seconds(stat: &str) -> f64 {
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / TICKS
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// Seconds that all processors of the machine were busy since its start.
pub fn machine_busy_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let numbers: Vec<f64> = first.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq: all but the idle ones.
    let busy = numbers.iter().take(7).enumerate().filter(|(at, _)| !matches!(at, 3 | 4));
    busy.map(|(_, n)| n).sum::<f64>() / TICKS
}

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Resident bytes of one process.
pub fn resident(pid: i32) -> u64 {
    of(pid).resident
}

/// Bytes of all files below a directory, as the disk holds them.
pub fn bytes_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        // Deleted meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// Reads every file below a directory, so that the kernel has them in memory.
pub fn read_below(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let read = match path.is_dir() {
            true => read_below(&path),
            false => {
                fs::File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()).map(drop))
            }
        };
        match read {
            // Deleted meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => read?,
        }
    }
    Ok(())
}

/// `GET` over plain HTTP of what a process says of itself: status and body.
pub async fn get(url: &str, path: &str) -> Result<(u16, String)> {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await??;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}

/// Lets this process and those that it starts open as many files as the system allows; how many.
pub fn raise_open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    // More than the hard limit only where the kernel lets this user.
    let most =
        [hard.max(131_072), hard].into_iter().find(|most| setrlimit(Resource::RLIMIT_NOFILE, *most, *most).is_ok());
    most.unwrap_or(soft)
}

/// Whether the process exists and is no zombie.
pub fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| !s.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu_seconds(stat), 3.0);
    }

    #[test]
    fn this_process_is_seen() {
        let seen = look(&Groups::new());
        assert!(seen["driver"].resident > 0);
        assert!(runs(std::process::id() as i32));
    }
}
