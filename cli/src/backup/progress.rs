//! How far a backup or restore has come, on standard error.

use std::time::{Duration, Instant};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(2);

/// Of one group.
pub struct Progress {
    what: String,
    total: u64,
    done: u64,
    told: Instant,
}

impl Progress {
    /// Begins, with a line of its own.
    pub fn begin(what: String, total: u64) -> Self {
        eprintln!("{what}: {}", size(total));
        Self { what, total, done: 0, told: Instant::now() }
    }

    /// So many bytes more.
    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let percent = self.done * 100 / self.total.max(1);
            eprintln!("{}: {} of {} ({percent} %)", self.what, size(self.done), size(self.total));
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
