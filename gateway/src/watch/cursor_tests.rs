//! Each revision once and in order, whatever the feed, the history and the network do.

use std::time::Instant;

use conflux_common::ids::Incarnation;
use conflux_proto::{
    internal::{FeedEvent, FeedMark, FeedRevision},
    v1::Event,
};
use proptest::prelude::*;

use super::*;
use crate::watch::ring::{Bounds, Taken};

fn mark(revision: u64) -> RevisionMark {
    RevisionMark { incarnation: Incarnation(1), revision: Revision(revision) }
}

fn revision(number: u64) -> FeedRevision {
    let event = Event { revision: number, ..Event::default() };
    FeedRevision {
        revision: number,
        incarnation: 1,
        events: vec![FeedEvent { event: Some(event), ..Default::default() }],
    }
}

fn is_selected(change: &Change) -> bool {
    !change.event.revision.is_multiple_of(3)
}

const SMALL: Bounds = Bounds { revisions: 4, bytes: 1 << 20, age: std::time::Duration::from_secs(60) };

/// What may happen, in any order.
#[derive(Debug, Clone)]
enum Happening {
    /// The shard commits so many.
    Commit(u64),
    /// The feed brings so many, from where its subscription stands.
    Bring(u64),
    /// The feed loses some on the way (it must not, but should it).
    Skip,
    /// It breaks; the next stream begins where the ring is, or with some of what was already brought.
    Reconnect(u64),
    /// A progress mark.
    Mark,
    /// The shard compacts all but the last few, and the feed's subscription ends.
    Compact,
    /// The watcher does its next step; a page has at most so many and may come from a replica that is behind.
    Step { page: u64, behind: u64 },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (1u64..6).prop_map(Happening::Commit),
        4 => (1u64..6).prop_map(Happening::Bring),
        1 => Just(Happening::Skip),
        1 => (0u64..4).prop_map(Happening::Reconnect),
        2 => Just(Happening::Mark),
        1 => Just(Happening::Compact),
        8 => (1u64..5, 0u64..4).prop_map(|(page, behind)| Happening::Step { page, behind }),
    ]
}

/// One tenant, its feed, and one watcher that resumes whenever it is cut.
struct World {
    present: u64,
    floor: u64,
    ring: Ring,
    /// The last that the feed's subscription has brought; none before it has joined.
    brought: Option<u64>,
    cursor: Cursor,
    told: Vec<u64>,
    /// The watcher learned that the history is compacted.
    compacted: bool,
}

impl World {
    fn new(present: u64, start: u64) -> Self {
        let (cursor, ring) = (Cursor::new(mark(start)), Ring::default());
        World { present, floor: 0, ring, brought: None, cursor, told: Vec::new(), compacted: false }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Commit(n) => self.present += n,
            Happening::Bring(n) => (0..n).for_each(|_| self.bring()),
            Happening::Skip => self.brought = self.brought.map(|b| (b + 1).min(self.present)),
            Happening::Reconnect(again) => {
                self.brought = self.ring.position().map(|p| p.revision.0.saturating_sub(again).max(self.floor));
            }
            Happening::Mark => self.mark(),
            Happening::Compact => {
                self.floor = self.floor.max(self.present.saturating_sub(3));
                if self.ring.position().is_none_or(|p| p.revision.0 < self.floor) {
                    self.ring.lose();
                    self.brought = None;
                }
            }
            Happening::Step { page, behind } => self.step(page, behind),
        }
    }

    fn bring(&mut self) {
        let Some(brought) = self.brought else { return self.mark() };
        if brought < self.present {
            self.brought = Some(brought + 1);
            let taken = self.ring.revision(revision(brought + 1), &SMALL, Instant::now());
            self.again(taken);
        }
    }

    fn mark(&mut self) {
        // A mark speaks of what was brought; without a start the feed joins at the present.
        let brought = *self.brought.get_or_insert(self.present);
        let mark = FeedMark { revision: brought, incarnation: 1, age_ms: 0, epoch: 1, frozen: false };
        let taken = self.ring.mark(&mark, Instant::now());
        self.again(taken);
    }

    fn again(&mut self, taken: Taken) {
        if taken == Taken::Hole {
            self.brought = self.ring.position().map(|p| p.revision.0);
        }
    }

    fn step(&mut self, page: u64, behind: u64) {
        match self.cursor.step(&self.ring) {
            Step::Give(held) => {
                if is_selected(&held.changes[0]) {
                    self.told.push(held.mark.revision.0);
                }
            }
            Step::Read { after, to } if after < self.floor => {
                assert!(to > after);
                self.compacted = true;
            }
            Step::Read { after, to } => {
                let present = self.present.saturating_sub(behind);
                let revisions = (after + 1..=to.min(present).min(after + page)).map(revision).collect();
                let answer = HistoryResponse { revisions, floor: self.floor, incarnation: 1, revision: present };
                let _ = self.cursor.page(answer, is_selected);
            }
            Step::Overrun => self.cursor = Cursor::new(self.cursor.at()),
            Step::Wait => {}
            Step::OtherLife | Step::Ended(_) => panic!("it has one life and goes on"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn each_revision_is_told_once_and_in_order(
        present in 0u64..20,
        back in 0u64..20,
        happenings in proptest::collection::vec(happening(), 1..120),
    ) {
        let start = present.saturating_sub(back);
        let mut world = World::new(present, start);
        for what in happenings {
            world.happen(what);
            let wanted: Vec<u64> = (start + 1..=world.cursor.at().revision.0).filter(|n| n % 3 != 0).collect();
            prop_assert_eq!(&world.told, &wanted, "what it says that it has told is what it has told");
        }
        // Left in peace it comes to the present, unless what it missed is compacted.
        for _ in 0..400 {
            world.mark();
            world.bring();
            world.step(4, 0);
            if world.compacted {
                return Ok(());
            }
        }
        prop_assert_eq!(world.cursor.at(), mark(world.present));
    }
}

fn ring(frames: std::ops::RangeInclusive<u64>) -> Ring {
    let mut ring = Ring::default();
    frames.for_each(|n| {
        ring.revision(revision(n), &SMALL, Instant::now());
    });
    ring
}

#[test]
fn who_falls_out_of_the_ring_is_cut_and_not_skipped() {
    // A slow watcher must neither lose a change nor make the gateway read the history for it again and again.
    let mut ring = ring(1..=4);
    let mut cursor = Cursor::new(mark(2));
    assert!(matches!(cursor.step(&ring), Step::Give(held) if held.mark == mark(3)));
    for n in 5..=8 {
        ring.revision(revision(n), &SMALL, Instant::now());
    }
    assert!(matches!(cursor.step(&ring), Step::Overrun | Step::Give(_)));
    ring.revision(revision(9), &SMALL, Instant::now());
    assert!(matches!(cursor.step(&ring), Step::Overrun));
    assert_eq!(cursor.at(), mark(3), "it resumes after what it was given");
    let mut resumed = Cursor::new(cursor.at());
    assert!(matches!(resumed.step(&ring), Step::Read { after: 3, to: 5 }));
}

#[test]
fn a_page_that_does_not_follow_on_is_refused() {
    // A replica that is behind, of another life, or with a hole must not pass for the history.
    let mut cursor = Cursor::new(mark(2));
    let page =
        |revisions: Vec<FeedRevision>, incarnation| HistoryResponse { revisions, floor: 0, incarnation, revision: 9 };
    assert_eq!(cursor.page(page(vec![], 1), is_selected), Err(Misfit::Behind));
    assert_eq!(cursor.page(page(vec![revision(4)], 1), is_selected), Err(Misfit::Hole));
    assert_eq!(cursor.page(page(vec![revision(3)], 2), is_selected), Err(Misfit::OtherLife));
    assert_eq!(cursor.at(), mark(2));
    assert_eq!(cursor.page(page(vec![revision(2), revision(3), revision(4)], 1), is_selected), Ok(()));
    assert!(matches!(cursor.step(&ring(9..=9)), Step::Give(held) if held.mark == mark(4)), "3 is not selected");
}

#[test]
fn another_selection_sees_what_the_last_one_passed_over() {
    // A page is kept as far as it was selected; with a new selection it has to be read again.
    let mut cursor = Cursor::new(mark(2));
    let answer = HistoryResponse { revisions: vec![revision(3)], floor: 0, incarnation: 1, revision: 3 };
    cursor.page(answer.clone(), is_selected).unwrap();
    cursor.rewind();
    assert!(matches!(cursor.step(&ring(4..=4)), Step::Read { after: 2, to: 3 }));
    cursor.page(answer, |_| true).unwrap();
    assert!(matches!(cursor.step(&ring(4..=4)), Step::Give(held) if held.mark == mark(3)));
}

#[test]
fn another_life_and_the_end_are_told() {
    let other = FeedRevision { incarnation: 2, ..revision(5) };
    let mut ring = ring(1..=4);
    let mut cursor = Cursor::new(mark(4));
    ring.revision(other, &SMALL, Instant::now());
    assert!(matches!(cursor.step(&ring), Step::OtherLife));
    ring.end(Ended::Deleted);
    assert!(matches!(cursor.step(&ring), Step::Ended(Ended::Deleted)));
}
