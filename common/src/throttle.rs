//! Bounds how often one kind of line is logged, so that a peer cannot fill the disk with refused handshakes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const WINDOW: Duration = Duration::from_secs(10);
const LINES_A_WINDOW: u32 = 10;

/// Ten lines in ten seconds.
#[derive(Debug)]
pub(crate) struct Throttle(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    said: u32,
    kept_back: u64,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether to log now, and how many lines were kept back since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut slot = self.0.lock();
        let window = slot.get_or_insert(Window { began: now, said: 0, kept_back: 0 });
        if now.duration_since(window.began) >= WINDOW {
            window.began = now;
            window.said = 0;
        }
        if window.said >= LINES_A_WINDOW {
            window.kept_back += 1;
            return None;
        }
        window.said += 1;
        Some(std::mem::take(&mut window.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood says ten lines, and the next window tells how many were kept back.
    #[test]
    fn a_flood_is_cut() {
        let throttle = Throttle::new();
        let start = Instant::now();
        let said = (0..100).filter(|_| throttle.pass_at(start).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!(throttle.pass_at(start + WINDOW), Some(90));
        assert_eq!(throttle.pass_at(start + WINDOW), Some(0));
    }
}
