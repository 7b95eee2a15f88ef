//! So many bytes a second, all imports of a process together: a copy must not slow the tenants that are served here.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// See the module.
pub(super) struct Pace {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::default() }
    }

    /// Takes the time of so many bytes, and waits until those before them have had theirs.
    pub(super) async fn take(&self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let start = {
            let (now, mut free_at) = (Instant::now(), self.free_at.lock());
            let start = free_at.map_or(now, |at| at.max(now));
            *free_at = Some(start + cost);
            start
        };
        sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two imports share one pace: ten mebibytes at one a second take nine seconds until the last may go.
    #[tokio::test(start_paused = true)]
    async fn bytes_wait_for_those_before_them() {
        let (pace, start) = (Pace::new(1 << 20), Instant::now());
        for _ in 0..5 {
            tokio::join!(pace.take(1 << 20), pace.take(1 << 20));
        }
        assert_eq!(start.elapsed().as_secs(), 9);
    }
}
