//! When a tenant is tried next: at once, then after growing pauses.

use std::time::Duration;

use tokio::time::Instant;

/// After the shard answered that it is at it.
const SHORTEST: Duration = Duration::from_millis(100);
/// Between two tries of what does not come about.
pub const LONGEST: Duration = Duration::from_secs(5);

/// One tenant's turn.
#[derive(Debug, Default)]
pub struct Turn {
    tries: u32,
    running: bool,
    due: Option<Instant>,
}

impl Turn {
    /// A try is under way.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether it is time for the next try.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.running && self.due.is_none_or(|due| due <= now)
    }

    /// When the next try is due; none: at once.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A try begins.
    pub fn begin(&mut self) {
        self.running = true;
    }

    /// A try ended. An answer keeps the pauses short for a while, since clearing a tenant away takes several.
    pub fn end(&mut self, answered: bool, now: Instant) {
        self.running = false;
        self.tries = self.tries.saturating_add(1);
        let doublings = if answered { self.tries / 8 } else { self.tries };
        self.due = Some(now + (SHORTEST * 2u32.saturating_pow(doublings.min(16))).min(LONGEST));
    }

    /// A try ended that knows itself when the next one makes sense.
    pub fn end_until(&mut self, due: Instant) {
        *self = Self { due: Some(due), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard that is down must not be called in a tight loop, and one that is back must not wait for long.
    #[test]
    fn pauses_grow_to_a_bound() {
        let now = Instant::now();
        let mut turn = Turn::default();
        assert!(turn.is_due(now));
        let mut pauses = Vec::new();
        for _ in 0..40 {
            turn.begin();
            assert!(!turn.is_due(now + LONGEST));
            turn.end(false, now);
            pauses.push(turn.due().unwrap() - now);
        }
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[39]), (2 * SHORTEST, LONGEST));
        assert!(turn.is_due(now + LONGEST) && !turn.is_due(now));
    }
}
