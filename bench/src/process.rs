//! What processes cost, as the kernel counts it.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};

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
