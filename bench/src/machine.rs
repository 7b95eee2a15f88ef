//! What the machine is, for the reader of the page.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// As the kernel shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    /// `/proc/loadavg` before anything was started.
    pub load_before: String,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let named = |text: &str, name: &str| {
            let line = text.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(':'));
            line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = named(&read("/proc/meminfo"), "MemTotal");
        Self {
            processor: named(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").trim().to_owned(),
        }
    }
}

/// Fails where a run could fill the disk: a federation refuses what grows below 10 % free, and a full disk hurts everybody.
pub fn check_disk(directory: &Path, needed: u64) -> Result<()> {
    let at = nix::sys::statvfs::statvfs(directory).with_context(|| directory.display().to_string())?;
    let unit = at.fragment_size();
    let (free, all) = (at.blocks_available() * unit, at.blocks() * unit);
    let must = needed + all / 10;
    if free < must {
        bail!(
            "{} has {} GiB free, and this run wants {} GiB beside the tenth of the disk below which a federation takes no more: \
             free some, name another --data-dir, or measure less (--quick)",
            directory.display(),
            free >> 30,
            needed >> 30
        );
    }
    Ok(())
}

/// Now, in UTC, to the second.
pub fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    format!("{} {:02}:{:02}:{:02} UTC", now.date(), now.hour(), now.minute(), now.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_small_is_told_before_anything_is_started() {
        let told = check_disk(Path::new("/"), 1 << 60).unwrap_err().to_string();
        assert!(told.contains("--data-dir"), "{told}");
        assert!(check_disk(Path::new("/nowhere"), 0).unwrap_err().to_string().contains("/nowhere"));
    }
}
