//! One tenant on one feed stream: where it stands, and what the state of a moment says of it. Pure.

use conflux_common::error::{ApiError, Code};
use conflux_proto::internal::{FeedEnd, FeedRevision, FeedSubscribe};
use conflux_raft::Read;

use crate::{
    machine::TenantState,
    query::{self, TenantRow},
};

/// Revisions read from the history at once.
const PAGE: u32 = 256;

/// Where a subscription stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    /// The epoch that the gateway believes in.
    pub epoch: u64,
    /// Everything up to this revision has been sent, or was not asked for. None: joins at the present one.
    pub sent: Option<u64>,
    /// The life of the history that it follows; known from the first page on.
    pub incarnation: Option<u64>,
    /// The last revision that this replica is known to have applied. Behind `sent` while the gateway has seen more
    /// elsewhere: no mark is sent then.
    pub applied: u64,
    /// Takes live frames; else it still reads the history.
    pub live: bool,
    /// The tenant is being handed over: another shard may go on with it, and no mark vouches for its present.
    pub frozen: bool,
    /// The tenant was unknown here, and a look-up has been waited for.
    pub looked_up: bool,
}

/// Why a subscription ends, as the gateway is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The history does not go back so far; the lowest revision after which one may join.
    Compacted(u64),
    /// This shard has the tenant under another epoch.
    WrongEpoch,
    /// The same, and the gateway's epoch is the higher one: this replica may have missed something.
    Behind,
    /// This replica knows nothing of the tenant.
    NotHere,
    /// The tenant is being deleted or is gone.
    Deleted,
}

impl Ended {
    pub(super) fn to_wire(self) -> FeedEnd {
        let (reason, floor) = match self {
            Ended::Compacted(floor) => ("compacted", floor),
            Ended::WrongEpoch | Ended::Behind => ("wrong_epoch", 0),
            Ended::NotHere => ("not_here", 0),
            Ended::Deleted => ("deleted", 0),
        };
        FeedEnd { reason: reason.to_owned(), floor }
    }
}

/// The next part of the history of a subscription, from the state of one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Page {
    pub revisions: Vec<FeedRevision>,
    /// The tenant's revision at that moment.
    pub present: u64,
    pub incarnation: u64,
    pub frozen: bool,
}

/// What a live frame means to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Send it.
    Send,
    /// Already sent, or not asked for.
    Skip,
    /// Revisions are missing before it: read the history again.
    Hole,
    /// It is of another ownership.
    Ended(Ended),
}

impl Subscription {
    pub(super) fn new(asked: &FeedSubscribe) -> Self {
        Self {
            epoch: asked.epoch,
            sent: asked.after,
            incarnation: None,
            applied: 0,
            live: false,
            frozen: false,
            looked_up: false,
        }
    }

    /// Reads on where it stands. The inner error ends the subscription, the outer one is a failure of this replica.
    pub(super) fn page(&self, rows: &dyn Read, tenant: u64) -> Result<Result<Page, Ended>, ApiError> {
        let row = match query::tenant(rows, conflux_common::ids::TenantId(tenant))? {
            Some(row) => row,
            None => return Ok(Err(Ended::NotHere)),
        };
        if let Some(ended) = self.ended_by(&row) {
            return Ok(Err(ended));
        }
        let after = self.sent.unwrap_or(row.revision);
        let frozen = query::state_of(&row) == Some(TenantState::Frozen);
        let page = |revisions| Page { revisions, present: row.revision, incarnation: row.incarnation, frozen };
        if after >= row.revision {
            return Ok(Ok(page(Vec::new())));
        }
        match query::history(rows, &row, after, 0, PAGE) {
            Ok(history) => Ok(Ok(page(history.revisions))),
            Err(e) if e.code == Code::OutOfRange => Ok(Err(Ended::Compacted(row.event_floor))),
            Err(e) => Err(e),
        }
    }

    fn ended_by(&self, row: &TenantRow) -> Option<Ended> {
        match query::state_of(row) {
            _ if query::waits(row) => Some(Ended::NotHere),
            _ if row.epoch < self.epoch => Some(Ended::Behind),
            Some(TenantState::Active | TenantState::Frozen | TenantState::Moved) if row.epoch != self.epoch => {
                Some(Ended::WrongEpoch)
            }
            // Another life of the tenant: its revisions say nothing about those that were sent.
            Some(TenantState::Active | TenantState::Frozen)
                if self.incarnation.is_some_and(|i| i != row.incarnation) =>
            {
                Some(Ended::Compacted(row.event_floor))
            }
            Some(TenantState::Active | TenantState::Frozen) => None,
            Some(TenantState::Deleting | TenantState::Deleted) => Some(Ended::Deleted),
            // Placement may have given it to this shard already, which a look-up tells.
            Some(TenantState::Importing | TenantState::Prepared) => Some(Ended::Behind),
            Some(TenantState::Moved | TenantState::Absent) | None => Some(Ended::NotHere),
        }
    }

    /// Notes that this page has been sent. It is live once it has reached the present of the page.
    pub(super) fn sent_page(&mut self, page: &Page) {
        self.incarnation = Some(page.incarnation);
        self.applied = page.present;
        self.frozen = page.frozen;
        let reached = page.revisions.last().map(|r| r.revision).or(self.sent).unwrap_or(page.present);
        self.sent = Some(reached);
        self.live = reached >= page.present;
    }

    /// What to do with a live revision.
    pub(super) fn take(&mut self, epoch: u64, revision: &FeedRevision) -> Taken {
        if !self.live {
            // It reads the history until that has this revision too.
            return Taken::Skip;
        }
        if epoch != self.epoch {
            return Taken::Ended(Ended::WrongEpoch);
        }
        let sent = self.sent.unwrap_or(0);
        self.applied = self.applied.max(revision.revision);
        if revision.revision <= sent {
            return Taken::Skip;
        }
        if revision.revision > sent + 1 || self.incarnation != Some(revision.incarnation) {
            self.live = false;
            return Taken::Hole;
        }
        self.sent = Some(revision.revision);
        Taken::Send
    }

    /// The revision of a progress mark, where one may be sent: everything applied here has been sent.
    pub(super) fn mark(&self) -> Option<(u64, u64)> {
        match (self.live, self.sent, self.incarnation) {
            (true, Some(sent), Some(incarnation)) if self.applied == sent => Some((sent, incarnation)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live_at(sent: u64) -> Subscription {
        Subscription {
            epoch: 1,
            sent: Some(sent),
            incarnation: Some(1),
            applied: sent,
            live: true,
            frozen: false,
            looked_up: false,
        }
    }

    fn revision(number: u64) -> FeedRevision {
        FeedRevision { revision: number, incarnation: 1, events: vec![] }
    }

    /// Each revision once: what the history already gave is skipped, what is missing is read again.
    #[test]
    fn live_frames_follow_on_exactly() {
        let mut s = live_at(5);
        assert_eq!(s.take(1, &revision(5)), Taken::Skip);
        assert_eq!(s.take(1, &revision(6)), Taken::Send);
        assert_eq!(s.take(1, &revision(8)), Taken::Hole);
        assert!(!s.live, "it reads the history again");
        assert_eq!(s.take(1, &revision(7)), Taken::Skip);
        assert_eq!(s.sent, Some(6));
    }

    /// Revisions of another epoch or life must not pass for the ones that the gateway follows.
    #[test]
    fn another_ownership_ends_it() {
        assert_eq!(live_at(5).take(2, &revision(6)), Taken::Ended(Ended::WrongEpoch));
        let other_life = FeedRevision { incarnation: 2, ..revision(6) };
        assert_eq!(live_at(5).take(1, &other_life), Taken::Hole);
    }

    /// A mark is a promise that nothing up to now is missing: none while reading, none behind what the gateway has.
    #[test]
    fn marks_promise_no_more_than_was_sent() {
        assert_eq!(live_at(5).mark(), Some((5, 1)));
        assert_eq!(Subscription { live: false, ..live_at(5) }.mark(), None);
        assert_eq!(Subscription { applied: 3, ..live_at(5) }.mark(), None, "the gateway has seen 5 elsewhere");
    }

    /// Joining: page by page until the present; without a start, at the present at once.
    #[test]
    fn pages_lead_to_the_present() {
        let asked = FeedSubscribe { tenant_id: 7, epoch: 1, after: Some(2) };
        let mut s = Subscription::new(&asked);
        s.sent_page(&Page { revisions: vec![revision(3), revision(4)], present: 5, incarnation: 1, frozen: false });
        assert!(!s.live);
        s.sent_page(&Page { revisions: vec![revision(5)], present: 5, incarnation: 1, frozen: false });
        assert!(s.live);
        let mut now = Subscription::new(&FeedSubscribe { after: None, ..asked });
        now.sent_page(&Page { revisions: vec![], present: 9, incarnation: 1, frozen: false });
        assert_eq!(now.mark(), Some((9, 1)));
    }

    /// A tenant at revision 5, of which the events above 2 are kept.
    fn state(change: impl FnOnce(&mut TenantRow)) -> conflux_raft::view::MemoryState {
        let mut state = conflux_raft::view::MemoryState::new();
        let mut row = TenantRow {
            id: 7,
            name: "acme".into(),
            incarnation: 1,
            state: "active".into(),
            epoch: 1,
            revision: 5,
            event_floor: 2,
            ..Default::default()
        };
        change(&mut row);
        state.apply(|tx| {
            crate::store::tenant::put(tx, &row);
            for revision in 3..=5 {
                crate::store::event::put(tx, 7, revision, &Default::default());
            }
        });
        state
    }

    fn page_of(state: &conflux_raft::view::MemoryState, subscription: &Subscription) -> Result<Page, Ended> {
        state.read(|view| subscription.page(view, 7)).unwrap()
    }

    /// Who comes back finds what it missed; who comes back too late is told from where on it can.
    #[test]
    fn the_history_is_read_from_where_it_stands_or_is_compacted() {
        let from = |after| Subscription { sent: Some(after), live: false, ..live_at(0) };
        let numbers = |page: Page| page.revisions.iter().map(|r| r.revision).collect::<Vec<_>>();
        let state = state(|_| ());
        assert_eq!(page_of(&state, &from(2)).map(numbers), Ok(vec![3, 4, 5]));
        assert_eq!(page_of(&state, &from(4)).map(numbers), Ok(vec![5]));
        assert_eq!(page_of(&state, &from(1)), Err(Ended::Compacted(2)));
        // It has seen more at another replica: nothing to read, and no mark until this one has it too.
        let mut ahead = from(9);
        let page = page_of(&state, &ahead).unwrap();
        ahead.sent_page(&page);
        assert_eq!((ahead.live, ahead.mark()), (true, None));
        assert_eq!(ahead.take(1, &revision(9)), Taken::Skip);
        assert_eq!(ahead.take(1, &revision(10)), Taken::Send);
        assert_eq!(ahead.mark(), Some((10, 1)));
    }

    /// A snapshot may bring another life of the tenant, another epoch, or its end: none of them is a continuation.
    #[test]
    fn another_state_of_the_tenant_ends_it() {
        type Change = fn(&mut TenantRow);
        let cases: [(Change, Ended); 7] = [
            (|row| row.incarnation = 2, Ended::Compacted(2)),
            (|row| row.epoch = 2, Ended::WrongEpoch),
            (|row| row.epoch = 0, Ended::Behind),
            (|row| row.state = "deleting".into(), Ended::Deleted),
            (|row| row.id = 8, Ended::NotHere),
            (|row| (row.state, row.epoch) = ("moved".into(), 2), Ended::WrongEpoch),
            (|row| row.state = "prepared".into(), Ended::Behind),
        ];
        for (change, ended) in cases {
            assert_eq!(page_of(&state(change), &live_at(4)), Err(ended));
        }
    }
}
