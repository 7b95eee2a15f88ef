//! At which revision a watch begins.

use std::time::{Duration, Instant};

use conflux_common::{
    error::{ApiError, Code},
    ids::{Incarnation, Revision, RevisionMark},
};
use tokio::time::timeout_at;

use super::{history::History, hub::Hub, ring::Ring};

/// How long a client waits at most before its watch begins.
const DEADLINE: Duration = Duration::from_secs(8);
/// A watch from now begins where the feed is after so long, even if no quorum has confirmed that it is the present.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a watch cannot begin where it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misplaced {
    /// The tenant is in another life; it is at this revision.
    OtherLife(RevisionMark),
    /// There is no such revision yet; the present one is this.
    Future(RevisionMark),
    /// The tenant is deleted.
    Gone,
}

/// Where the watch begins, as far as the ring can say; `None`: ask again when it has changed.
///
/// "Now" is the first position that a quorum confirmed after the question: what was acknowledged before is not told,
/// what begins after the answer is. That a revision does not exist yet is only believed on such a word too, since the
/// feed may be behind what the client has seen.
pub fn start(
    ring: &Ring,
    from: Option<RevisionMark>,
    asked: Instant,
    patient: bool,
) -> Result<Option<RevisionMark>, Misplaced> {
    if ring.ended().is_some() {
        return Err(Misplaced::Gone);
    }
    let Some(position) = ring.position() else { return Ok(None) };
    let confirmed = ring.is_confirmed_since(asked);
    let Some(from) = from else { return Ok((confirmed || !patient).then_some(position)) };
    let refusal = if from.incarnation != position.incarnation {
        Misplaced::OtherLife(position)
    } else if from.revision > position.revision {
        Misplaced::Future(position)
    } else {
        return Ok(Some(from));
    };
    if confirmed { Err(refusal) } else { Ok(None) }
}

/// Waits until it can be said where the watch begins.
pub async fn begin(hub: &Hub, history: &History, from: Option<RevisionMark>) -> Result<RevisionMark, ApiError> {
    let asked = Instant::now();
    let mut changes = hub.changes();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let impatient = tokio::time::Instant::now() + PATIENCE;
    loop {
        changes.borrow_and_update();
        let now = tokio::time::Instant::now();
        let patient = now < impatient;
        match hub.with_ring(|ring| start(ring, from, asked, patient)) {
            Ok(Some(at)) => return Ok(at),
            Ok(None) if now >= deadline => return Err(silent()),
            Ok(None) => {}
            Err(misplaced) => return Err(refusal(hub, history, misplaced).await),
        }
        let until = if patient { impatient } else { deadline };
        let _ = timeout_at(until, changes.changed()).await;
    }
}

fn silent() -> ApiError {
    let text = "the tenant's changes cannot be followed at present: watch again later";
    ApiError::new(Code::Unavailable, text).retry_after(Duration::from_secs(1))
}

async fn refusal(hub: &Hub, history: &History, why: Misplaced) -> ApiError {
    match why {
        Misplaced::Gone => gone(),
        Misplaced::Future(present) => {
            let text = format!("the revision to resume from does not exist yet: the present one is {present}");
            let error = ApiError::new(Code::OutOfRange, text);
            error.with_detail("from", "above the present revision").with_detail("present", present.to_string())
        }
        Misplaced::OtherLife(present) => other_life(hub, history, present).await,
    }
}

/// NOT_FOUND: the tenant is deleted.
pub fn gone() -> ApiError {
    ApiError::new(Code::NotFound, "the tenant is deleted")
}

/// OUT_OF_RANGE: what the client has seen is of a life of the tenant that was lost.
pub async fn other_life(hub: &Hub, history: &History, present: RevisionMark) -> ApiError {
    let at = present.revision.0;
    let told = history.page(hub, at, at, |page| Ok((page.incarnation, page.floor))).await;
    let floor = match told {
        Ok((incarnation, floor)) => RevisionMark { incarnation: Incarnation(incarnation), revision: Revision(floor) },
        Err(_) => present,
    };
    let text = format!(
        "COMPACTED: the tenant was restored as another incarnation, whose history begins after {floor}; read anew and watch from there"
    );
    ApiError::new(Code::OutOfRange, text).with_detail("floor", floor.to_string())
}

#[cfg(test)]
mod tests {
    use conflux_proto::internal::FeedMark;

    use super::*;

    fn mark(incarnation: u64, revision: u64) -> RevisionMark {
        RevisionMark { incarnation: Incarnation(incarnation), revision: Revision(revision) }
    }

    fn ring(incarnation: u64, revision: u64, heard: Instant, age: Duration) -> Ring {
        let mut ring = Ring::default();
        let age_ms = age.as_millis() as u64;
        ring.mark(&FeedMark { revision, incarnation, age_ms, epoch: 1, frozen: false }, heard);
        ring
    }

    #[test]
    fn now_is_what_a_quorum_confirms_after_the_question() {
        // Else a change that was acknowledged before the watch began could be told as if it came after.
        let asked = Instant::now();
        let (before, after) = (asked + Duration::from_millis(10), asked + Duration::from_millis(500));
        let age = Duration::from_millis(100);
        assert_eq!(start(&ring(1, 5, before, age), None, asked, true), Ok(None));
        assert_eq!(start(&ring(1, 5, after, age), None, asked, true), Ok(Some(mark(1, 5))));
        assert_eq!(start(&ring(1, 5, before, age), None, asked, false), Ok(Some(mark(1, 5))), "without a quorum");
        assert_eq!(start(&Ring::default(), None, asked, false), Ok(None));
    }

    #[test]
    fn a_future_revision_is_refused_but_not_by_a_feed_that_is_behind() {
        // etcd #20221: it must neither wait for ever nor tell old changes as if they were new.
        let asked = Instant::now();
        let heard = asked + Duration::from_millis(500);
        let fresh = ring(1, 5, heard, Duration::ZERO);
        assert_eq!(start(&fresh, Some(mark(1, 5)), asked, true), Ok(Some(mark(1, 5))));
        assert_eq!(start(&fresh, Some(mark(1, 6)), asked, true), Err(Misplaced::Future(mark(1, 5))));
        let behind = ring(1, 5, heard, Duration::from_secs(3));
        assert_eq!(start(&behind, Some(mark(1, 6)), asked, false), Ok(None));
    }

    #[test]
    fn another_life_is_never_misread() {
        let asked = Instant::now();
        let fresh = ring(2, 5, asked + Duration::from_millis(500), Duration::ZERO);
        for theirs in [mark(1, 3), mark(1, 9), mark(3, 3)] {
            assert_eq!(start(&fresh, Some(theirs), asked, true), Err(Misplaced::OtherLife(mark(2, 5))));
        }
    }
}
