//! What the gateway knows of one tenant's changes: the last revisions and how far they reach. Pure.
//!
//! The feed may repeat itself (a reconnect, a move) and may even leave a hole; what is kept here is dense, and
//! only grows at its end. Watchers look at it with their own cursors, so a slow one costs nobody anything.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use conflux_common::ids::{Epoch, Incarnation, Revision, RevisionMark};
use conflux_proto::internal::{FeedMark, FeedPosition, FeedRevision};

use super::revision::Held;

/// Bounds of what is kept for each tenant.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Revisions.
    pub revisions: usize,
    /// Bytes, about.
    pub bytes: usize,
    /// A watcher is behind for less than this, or its connection has been given up.
    pub age: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ring {
    held: VecDeque<(Instant, Arc<Held>)>,
    bytes: usize,
    /// None until the feed has said where it joined.
    position: Option<RevisionMark>,
    /// When a quorum confirmed that nothing above the position existed.
    confirmed: Option<Instant>,
    /// When the question was sent whose answer vouches for the position, less the age that the answer told; and under which
    /// epoch it was answered.
    vouched: Option<(Instant, Epoch)>,
    /// How often it began anew, because the feed could not go on where it was.
    starts: u64,
    ended: Option<Ended>,
}

/// Up to where everything is known, and since when that is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vouched {
    /// Up to where.
    pub mark: RevisionMark,
    /// Everything that was acknowledged before this moment of our monotonic clock is at or below the mark.
    pub at: Instant,
    /// Who vouched served the tenant under this epoch.
    pub epoch: Epoch,
    /// As [`Ring::starts`].
    pub starts: u64,
}

/// Why there is nothing more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The tenant is deleted.
    Deleted,
}

/// What the feed's frame leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Watchers have something to look at.
    New,
    /// Nothing.
    Nothing,
    /// Something is missing before it: subscribe again after [`Ring::position`].
    Hole,
}

impl Ring {
    /// Up to where everything is known.
    pub fn position(&self) -> Option<RevisionMark> {
        self.position
    }

    /// Whether a quorum said after `then` that nothing above the position existed.
    pub fn is_confirmed_since(&self, then: Instant) -> bool {
        self.confirmed.is_some_and(|at| at > then)
    }

    /// Since when the position is certain. None: it never was, or is no longer known.
    pub fn vouched(&self) -> Option<Vouched> {
        let (mark, (at, epoch)) = (self.position.filter(|_| self.ended.is_none())?, self.vouched?);
        Some(Vouched { mark, at, epoch, starts: self.starts })
    }

    /// Takes what a member said of the tenant: everything acknowledged before `at` is in what it had sent. Says whether nobody
    /// had vouched before.
    pub fn vouch(&mut self, said: &FeedPosition, at: Instant) -> bool {
        let mark = RevisionMark { incarnation: Incarnation(said.incarnation), revision: Revision(said.revision) };
        // It had sent all that it speaks of before; else nothing is known of what lies between.
        let here = self.position.is_some_and(|p| p.incarnation == mark.incarnation && p.revision >= mark.revision);
        let epoch = Epoch(said.epoch);
        if !here || self.vouched.is_some_and(|(then, before)| at <= then && epoch <= before) {
            return false;
        }
        self.vouched.replace((at, epoch)).is_none()
    }

    /// The revision after which everything is held. None while nothing is known.
    pub fn floor(&self) -> Option<u64> {
        let position = self.position?.revision.0;
        Some(position - self.held.len() as u64)
    }

    /// Changes when the ring began anew: what lies below it then was not missed by slowness.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Why it has ended.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// The revision above this one, if it is held.
    pub fn next(&self, above: u64) -> Option<&Arc<Held>> {
        let index = above.checked_sub(self.floor()?)?;
        self.held.get(usize::try_from(index).ok()?).map(|(_, held)| held)
    }

    /// Takes a revision.
    pub fn revision(&mut self, revision: FeedRevision, bounds: &Bounds, now: Instant) -> Taken {
        if self.ended.is_some() {
            return Taken::Nothing;
        }
        let incarnation = Incarnation(revision.incarnation);
        let Some(position) = self.position.filter(|p| p.incarnation == incarnation) else {
            // The first one, or the first of another life: what was before is not known here.
            self.begin(incarnation, revision.revision.saturating_sub(1));
            self.push(revision, bounds, now);
            return Taken::New;
        };
        match revision.revision.checked_sub(position.revision.0) {
            None | Some(0) => Taken::Nothing,
            Some(1) => {
                self.push(revision, bounds, now);
                Taken::New
            }
            Some(_) => Taken::Hole,
        }
    }

    /// Takes a progress mark, heard at `now`.
    pub fn mark(&mut self, mark: &FeedMark, now: Instant) -> Taken {
        if self.ended.is_some() || mark.frozen {
            return Taken::Nothing;
        }
        let incarnation = Incarnation(mark.incarnation);
        let known = self.position.filter(|p| p.incarnation == incarnation);
        match known.map(|p| p.revision.0) {
            None => self.begin(incarnation, mark.revision),
            Some(at) if mark.revision > at => return Taken::Hole,
            // Of a replica that is behind: it confirms nothing about what it has not seen.
            Some(at) if mark.revision < at => return Taken::Nothing,
            Some(_) => {}
        }
        if let Some(at) = now.checked_sub(Duration::from_millis(mark.age_ms))
            && self.confirmed.is_none_or(|c| at > c)
        {
            self.confirmed = Some(at);
            return Taken::New;
        }
        if known.is_none() { Taken::New } else { Taken::Nothing }
    }

    /// The feed cannot go on after the position: its history is gone. The next frame begins anew.
    pub fn lose(&mut self) {
        self.held.clear();
        self.bytes = 0;
        self.position = None;
        self.confirmed = None;
        self.vouched = None;
        self.starts += 1;
    }

    /// Nothing more will come.
    pub fn end(&mut self, why: Ended) {
        self.ended = Some(why);
    }

    /// Lets go of what is older than any watcher can be behind.
    pub fn trim(&mut self, bounds: &Bounds, now: Instant) {
        while self.held.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > bounds.age) {
            self.evict();
        }
        self.held.shrink_to(2 * self.held.len());
    }

    fn begin(&mut self, incarnation: Incarnation, position: u64) {
        self.lose();
        self.position = Some(RevisionMark { incarnation, revision: Revision(position) });
    }

    fn push(&mut self, revision: FeedRevision, bounds: &Bounds, now: Instant) {
        let held = Held::from(revision);
        self.position = Some(held.mark);
        self.bytes += held.size;
        self.held.push_back((now, Arc::new(held)));
        while self.held.len() > bounds.revisions || (self.bytes > bounds.bytes && self.held.len() > 1) {
            self.evict();
        }
    }

    fn evict(&mut self) {
        if let Some((_, gone)) = self.held.pop_front() {
            self.bytes -= gone.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { revisions: 100, bytes: 1 << 20, age: Duration::from_secs(60) };

    fn revision(number: u64) -> FeedRevision {
        FeedRevision { revision: number, incarnation: 1, events: vec![] }
    }

    fn mark(number: u64) -> FeedMark {
        FeedMark { revision: number, incarnation: 1, age_ms: 0, epoch: 1, frozen: false }
    }

    fn position(number: u64, incarnation: u64) -> FeedPosition {
        FeedPosition { tenant_id: 1, revision: number, incarnation, epoch: 1 }
    }

    #[test]
    fn a_position_is_vouched_for_by_who_had_sent_it() {
        // The edge answers by this: what is not known to be complete must never look young.
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut ring = ring(&[5, 6]);
        assert_eq!(ring.vouched(), None, "a mark or a revision that came unasked says nothing of when");
        ring.vouch(&position(7, 1), at(1));
        ring.vouch(&position(6, 2), at(1));
        assert_eq!(ring.vouched(), None, "it speaks of what never came here");
        ring.vouch(&position(6, 1), at(10));
        ring.vouch(&position(6, 1), at(5));
        assert_eq!(ring.vouched().map(|v| (v.at, v.mark.revision.0)), Some((at(10), 6)), "never back in time");
        ring.revision(revision(7), &BOUNDS, now);
        assert_eq!(ring.vouched().map(|v| (v.at, v.mark.revision.0)), Some((at(10), 7)), "newer, and not younger");
        ring.lose();
        assert_eq!(ring.vouched(), None);
        ring.revision(revision(9), &BOUNDS, now);
        ring.vouch(&position(9, 1), at(20));
        assert!(ring.vouched().is_some_and(|v| v.starts == ring.starts()));
        ring.end(Ended::Deleted);
        assert_eq!(ring.vouched(), None);
    }

    fn ring(frames: &[u64]) -> Ring {
        let mut ring = Ring::default();
        for number in frames {
            ring.revision(revision(*number), &BOUNDS, Instant::now());
        }
        ring
    }

    fn held(ring: &Ring) -> Vec<u64> {
        ring.held.iter().map(|(_, h)| h.mark.revision.0).collect()
    }

    #[test]
    fn what_comes_again_is_not_held_twice() {
        // After a reconnect or a move the feed begins with what may be known already.
        let mut ring = ring(&[5, 6, 5, 6, 7]);
        assert_eq!(held(&ring), [5, 6, 7]);
        assert_eq!(ring.mark(&mark(6), Instant::now()), Taken::Nothing, "a mark of a replica that is behind");
        assert_eq!(ring.position().unwrap().revision.0, 7);
    }

    #[test]
    fn a_hole_is_never_taken() {
        let mut ring = ring(&[5]);
        assert_eq!(ring.revision(revision(7), &BOUNDS, Instant::now()), Taken::Hole);
        assert_eq!(ring.mark(&mark(6), Instant::now()), Taken::Hole, "the mark speaks of one that never came");
        assert_eq!(held(&ring), [5]);
        assert_eq!(ring.position().unwrap().revision.0, 5);
    }

    #[test]
    fn it_is_bounded_in_number_and_bytes_and_age() {
        let bounds = Bounds { revisions: 3, ..BOUNDS };
        let now = Instant::now();
        let mut ring = Ring::default();
        for number in 1..=10 {
            ring.revision(revision(number), &bounds, now);
        }
        assert_eq!((held(&ring), ring.floor()), (vec![8, 9, 10], Some(7)));
        assert!(ring.next(6).is_none());
        assert_eq!(ring.next(7).unwrap().mark.revision.0, 8);
        assert!(ring.next(10).is_none());
        let tight = Bounds { bytes: 300, ..bounds };
        ring.revision(revision(11), &tight, now);
        assert!(held(&ring).len() <= 2, "{:?}", held(&ring));
        ring.trim(&bounds, now + Duration::from_secs(61));
        assert_eq!((held(&ring), ring.floor()), (vec![], Some(11)));
        assert_eq!(ring.bytes, 0);
    }

    #[test]
    fn another_life_begins_anew() {
        // A restore that lost history counts again from an older revision; the two must not be mixed.
        let mut ring = ring(&[5, 6]);
        let starts = ring.starts();
        let other = FeedRevision { incarnation: 2, ..revision(4) };
        assert_eq!(ring.revision(other, &BOUNDS, Instant::now()), Taken::New);
        assert_eq!((held(&ring), ring.starts()), (vec![4], starts + 1));
    }

    #[test]
    fn only_a_quorums_word_from_after_the_question_confirms() {
        let asked = Instant::now();
        let mut ring = ring(&[5]);
        let old = FeedMark { age_ms: 1000, ..mark(5) };
        ring.mark(&old, asked + Duration::from_millis(900));
        assert!(!ring.is_confirmed_since(asked));
        ring.mark(&old, asked + Duration::from_millis(1100));
        assert!(ring.is_confirmed_since(asked));
        let never = FeedMark { age_ms: u64::MAX, ..mark(5) };
        ring.lose();
        ring.mark(&never, Instant::now());
        assert!(!ring.is_confirmed_since(asked) && ring.position().is_some());
    }
}
