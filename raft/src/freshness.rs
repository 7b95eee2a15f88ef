//! How old the local state is: the age of DESIGN section 7, on this process's monotonic clock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Confirmed but not yet applied answers that are remembered; forgetting one only makes the age too large.
const MAX_PENDING: usize = 64;

/// The answers of the leader to "what is committed?", and from when each counts.
#[derive(Debug, Default)]
pub(crate) struct Confirmations {
    counts_from: Option<Instant>,
    pending: VecDeque<(u64, Instant)>,
}

impl Confirmations {
    /// A quorum confirmed that nothing above `index` was committed when the question was asked at `sent`.
    pub(crate) fn confirmed(&mut self, index: u64, sent: Instant) {
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_back();
        }
        self.pending.push_back((index, sent));
    }

    /// The age of a state that has applied everything up to `applied`; `MAX` before the first answer.
    pub(crate) fn age(&mut self, applied: u64, now: Instant) -> Duration {
        while let Some((index, sent)) = self.pending.front().copied() {
            if index > applied {
                break;
            }
            self.pending.pop_front();
            self.counts_from = Some(self.counts_from.map_or(sent, |old| old.max(sent)));
        }
        self.counts_from.map_or(Duration::MAX, |from| now.saturating_duration_since(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_it_is_applied_and_from_when_it_was_asked() {
        // A lagging replica must not call itself fresh because the leader answered.
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut known = Confirmations::default();
        assert_eq!(known.age(100, at(0)), Duration::MAX);
        known.confirmed(5, at(10));
        known.confirmed(9, at(200));
        assert_eq!(known.age(4, at(300)), Duration::MAX);
        assert_eq!(known.age(5, at(300)), Duration::from_millis(290));
        assert_eq!(known.age(9, at(300)), Duration::from_millis(100));
        // Without further answers it grows.
        assert_eq!(known.age(9, at(5000)), Duration::from_millis(4800));
    }

    #[test]
    fn a_flood_of_answers_is_bounded() {
        let start = Instant::now();
        let mut known = Confirmations::default();
        for i in 0..1000 {
            known.confirmed(i + 10, start);
        }
        assert_eq!(known.pending.len(), MAX_PENDING);
    }
}
