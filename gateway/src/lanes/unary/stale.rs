//! Stale reads: any replica, and the next one before the client notices that the first is slow or gone.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use conflux_common::error::{ApiError, Hint};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    Outgoing, Unary,
    answer::Answered,
    retry::{Attempts, Next, Trouble},
};
use crate::upstream::Peer;

/// A replica that has not answered after this has a second one asked beside it.
const HEDGE: Duration = Duration::from_millis(150);
/// For one replica.
const PER_TRY: Duration = Duration::from_secs(2);

/// Who was asked, and what came of it.
type Try = (Arc<Peer>, Result<Answered, Trouble>);

/// What one round over the replicas came to.
enum Round {
    Answered(Box<Answered>),
    /// Nobody could; the best answer that there was, and the trouble that says most.
    Failed(Option<Box<Answered>>, Trouble),
}

impl Unary {
    /// Asks replicas until one answers or the deadline is over.
    pub(super) async fn of_any(&self, mut outgoing: Outgoing) -> Result<Answered, ApiError> {
        let mut attempts = Attempts::new(true, outgoing.destination.epoch());
        loop {
            let (fallback, trouble) = match self.round(&outgoing).await {
                Round::Answered(answered) => return Ok(*answered),
                Round::Failed(fallback, trouble) => (fallback, trouble),
            };
            match attempts.next(&trouble) {
                Next::Refresh(floor) => {
                    self.refresh(&mut outgoing, floor).await?;
                    attempts.routed(outgoing.destination.epoch());
                }
                Next::Pause(pause) if outgoing.remaining() > pause && fallback.is_none() => {
                    tokio::time::sleep(pause).await;
                    self.follow_move(&mut outgoing, &mut attempts);
                }
                Next::Hold(pause) if outgoing.remaining() > pause => {
                    self.hold(&outgoing, pause).await;
                    self.follow_move(&mut outgoing, &mut attempts);
                }
                // A member that names a leader cannot have served a stale read for another reason than its start.
                Next::Ask(_) if outgoing.remaining() > HEDGE => {
                    tokio::time::sleep(HEDGE).await;
                    self.follow_move(&mut outgoing, &mut attempts);
                }
                _ => return fallback.map(|a| *a).ok_or_else(|| outgoing.given_up(false, &trouble)),
            }
        }
    }

    /// Asks one replica after another, each as soon as the one before failed or was slow.
    async fn round(&self, outgoing: &Outgoing) -> Round {
        let mut left: VecDeque<Arc<Peer>> = self.upstream.by_health(outgoing.destination.group()).into();
        let mut asked: FuturesUnordered<BoxFuture<'_, Try>> = FuturesUnordered::new();
        let mut slow: Vec<Arc<Peer>> = Vec::new();
        let mut failed = Round::Failed(None, Trouble::Failed(crate::upstream::FailureKind::NotSent));
        loop {
            if let Some(peer) = left.pop_front() {
                slow.push(peer.clone());
                asked.push(Box::pin(async move {
                    let limit = PER_TRY.min(outgoing.remaining());
                    let result = self.once(&peer, outgoing, limit).await;
                    (peer, result)
                }));
            }
            let hedge = Instant::now() + HEDGE;
            let next = if left.is_empty() {
                asked.next().await
            } else {
                match tokio::time::timeout_at(hedge, asked.next()).await {
                    Ok(next) => next,
                    Err(_) => continue,
                }
            };
            let Some((peer, result)) = next else { return failed };
            slow.retain(|p| p.name != peer.name);
            match judge(outgoing, result) {
                Ok(answered) => {
                    // Whoever was asked before and still says nothing is asked last for a while.
                    slow.iter().for_each(|p| self.upstream.note_failure(p));
                    return Round::Answered(Box::new(answered));
                }
                Err(worse) => failed = better(failed, worse),
            }
        }
    }
}

/// Whether this is an answer for the client.
fn judge(outgoing: &Outgoing, result: Result<Answered, Trouble>) -> Result<Answered, Round> {
    let answered = result.map_err(|trouble| Round::Failed(None, trouble))?;
    match answered.trouble() {
        // A replica that is behind knows an older epoch, or none: another may know better.
        Some(Trouble::Refused(Hint::WrongEpoch(theirs))) if theirs <= outgoing.destination.epoch().0 => {
            Err(Round::Failed(None, Trouble::Refused(Hint::WrongEpoch(theirs))))
        }
        Some(trouble @ Trouble::Refused(_)) => Err(Round::Failed(None, trouble)),
        // `min_revision` not reached: another replica may have it; if none has, this is the answer.
        _ if answered.is_unavailable() => {
            Err(Round::Failed(Some(Box::new(answered)), Trouble::Refused(Hint::TryOther)))
        }
        _ => Ok(answered),
    }
}

/// Of two failures the one that says more: a newer epoch, then an answer, then the later one.
fn better(one: Round, other: Round) -> Round {
    let epoch = |round: &Round| match round {
        Round::Failed(_, Trouble::Refused(Hint::WrongEpoch(epoch))) => *epoch,
        _ => 0,
    };
    let has_answer = |round: &Round| matches!(round, Round::Failed(Some(_), _));
    let keep = epoch(&one) > epoch(&other) || (epoch(&one) == epoch(&other) && has_answer(&one) && !has_answer(&other));
    if keep { one } else { other }
}
