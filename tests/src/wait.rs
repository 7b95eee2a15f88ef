//! Waiting for a condition of another process, which can only be polled.

use std::time::{Duration, Instant};

/// Polls `check` until it gives a value; panics with `what` after `within`.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, within: Duration, mut check: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(start.elapsed() < within, "gave up after {within:?} waiting until {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
