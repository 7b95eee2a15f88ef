//! What the kernel knows of this process, for `/metrics`; under the names that Prometheus' own clients use.

use std::{
    fs,
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Linux counts CPU time in 1/100 s in `/proc`, on every architecture it shows to users (USER_HZ).
const TICKS_A_SECOND: f64 = 100.0;

/// When the process started, as near as we know: at the first call.
pub(super) fn start() -> (Instant, SystemTime) {
    static START: OnceLock<(Instant, SystemTime)> = OnceLock::new();
    *START.get_or_init(|| (Instant::now(), SystemTime::now()))
}

/// Reads the figures anew. What a system does not have is left out.
pub(super) fn refresh() {
    let (instant, time) = start();
    metrics::gauge!("process_uptime_seconds").set(instant.elapsed().as_secs_f64());
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!("process_start_time_seconds").set(since_epoch.as_secs_f64());
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kib) = field(&status, "VmRSS:") {
            metrics::gauge!("process_resident_memory_bytes").set(kib as f64 * 1024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            metrics::gauge!("process_threads").set(threads as f64);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The directory that is being read is open too.
        metrics::gauge!("process_open_fds").set(open.count().saturating_sub(1) as f64);
    }
    if let Some(limit) = fs::read_to_string("/proc/self/limits").ok().and_then(|text| field(&text, "Max open files")) {
        metrics::gauge!("process_max_fds").set(limit as f64);
    }
    if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_ticks) {
        metrics::gauge!("process_cpu_seconds").set(ticks as f64 / TICKS_A_SECOND);
    }
}

/// The first number after a label at the begin of a line.
fn field(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// User and system time. The second field, the command's name, may hold blanks and brackets: count from its end.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's texts are read by label, not by place.
    #[test]
    fn proc_is_read() {
        assert_eq!(field("Name:\tx\nVmRSS:\t  2048 kB\nThreads:\t7\n", "VmRSS:"), Some(2048));
        assert_eq!(
            field("Max open files            1024                 4096      files", "Max open files"),
            Some(1024)
        );
        assert_eq!(field("Name: x", "VmRSS:"), None);
        assert_eq!(cpu_ticks("1 (a ) b) S 0 1 1 0 -1 4 5 6 7 8 30 12 0 0 20"), Some(42));
    }
}
