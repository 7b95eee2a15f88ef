//! Writes and strong reads: found their way to the leader, through elections and moved tenants.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code, Hint},
    ids::{GroupName, MemberName},
};
use tokio::time::Instant;

use super::{
    FAIR, Outgoing, Unary,
    answer::Answered,
    retry::{Attempts, Next, Trouble},
};
use crate::upstream::Peer;

/// A leader that says nothing for so long may be cut off: others are asked. One that is dead or frozen is found sooner,
/// by the pings of its connection.
const PER_TRY: Duration = Duration::from_secs(4);
/// A large content takes its time to be sent, checked and synced: so many bytes earn a second more. A try that is given up
/// too early is work lost, and the next one would meet the same end.
const BYTES_A_SECOND: u64 = 128 * 1024;

impl Unary {
    /// Asks the leader until it answers or the deadline is over.
    pub(super) async fn of_leader(&self, mut outgoing: Outgoing) -> Result<Answered, ApiError> {
        let mut attempts = Attempts::new(outgoing.repeatable, outgoing.destination.epoch());
        let mut named: Option<String> = None;
        let mut waiting = None;
        // Whom to ask while no leader is known: each member in turn.
        let mut turn = 0;
        loop {
            let group = outgoing.destination.group().clone();
            let trouble = match self.choose(&group, named.take(), &mut turn) {
                None => Trouble::Failed(crate::upstream::FailureKind::NotSent),
                Some(peer) => {
                    let limit = patience(outgoing.body.len()).min(outgoing.remaining());
                    match self.once(&peer, &outgoing, limit).await.map(|a| (a.trouble(), a)) {
                        Ok((None, answered)) => {
                            self.routes.note_leader(&group, Some(peer.name.clone()));
                            let doubtful = outgoing.write && attempts.maybe_applied();
                            let refusal = doubtful.then(|| answered.of_this_try_only()).flatten();
                            return refusal.map_or(Ok(answered), |refusal| Err(honest(refusal, &attempts)));
                        }
                        Ok((Some(trouble), _)) | Err(trouble) => {
                            if trouble != Trouble::TimedOut || limit >= FAIR {
                                self.doubt(&group, &peer, &trouble);
                            }
                            trouble
                        }
                    }
                }
            };
            match attempts.next(&trouble) {
                Next::Ask(leader) => named = Some(leader),
                Next::GiveUp => return Err(outgoing.given_up(attempts.maybe_applied(), &trouble)),
                Next::Refresh(floor) => {
                    self.refresh(&mut outgoing, floor).await.map_err(|error| honest(error, &attempts))?;
                    attempts.routed(outgoing.destination.epoch());
                }
                next @ (Next::Pause(pause) | Next::Hold(pause)) => {
                    if waiting.is_none() {
                        waiting = Some(self.waiting.try_acquire().map_err(|_| too_many_wait(&attempts))?);
                    }
                    if outgoing.remaining() <= pause {
                        return Err(outgoing.given_up(attempts.maybe_applied(), &trouble));
                    }
                    match next {
                        Next::Hold(_) => self.hold(&outgoing, pause).await,
                        _ => self.pause(&group, pause).await,
                    }
                    self.follow_move(&mut outgoing, &mut attempts);
                }
            }
        }
    }

    /// The member to ask: the named one, else the believed leader, else each in turn.
    fn choose(&self, group: &GroupName, named: Option<String>, turn: &mut usize) -> Option<Arc<Peer>> {
        let named = named.and_then(|name| MemberName::new(name).ok());
        let known = named.or_else(|| self.routes.leader(group));
        if let Some(peer) = known.and_then(|name| self.upstream.peer(group, &name)) {
            return Some(peer);
        }
        let peers = self.upstream.by_health(group);
        *turn += 1;
        peers.get((*turn - 1) % peers.len().max(1)).cloned()
    }

    /// Forgets a leader that does not act as one.
    fn doubt(&self, group: &GroupName, peer: &Peer, trouble: &Trouble) {
        let believed = self.routes.leader(group).is_none_or(|leader| leader == peer.name);
        // Whoever speaks of the tenant acts as a leader.
        if !believed || matches!(trouble, Trouble::Refused(Hint::WrongEpoch(_) | Hint::Frozen)) {
            return;
        }
        let named = match trouble {
            Trouble::Refused(Hint::NotLeader(Some(name))) => MemberName::new(name.as_str()).ok(),
            _ => None,
        };
        self.routes.note_leader(group, named);
    }

    /// Waits, but no longer than until someone finds the leader.
    async fn pause(&self, group: &GroupName, pause: Duration) {
        let mut changed = self.routes.subscribe();
        let jitter = pause.mul_f64(rand::random_range(0.75..1.25));
        let until = Instant::now() + jitter;
        loop {
            let news = tokio::time::timeout_at(until, changed.changed()).await;
            if !matches!(news, Ok(Ok(()))) || self.routes.leader(group).is_some() {
                return;
            }
        }
    }

    /// Waits, but no longer than until the tenant is elsewhere.
    pub(super) async fn hold(&self, outgoing: &Outgoing, pause: Duration) {
        let super::Destination::Tenant(route) = &outgoing.destination else { return };
        let mut changed = self.routes.subscribe();
        let until = Instant::now() + pause.mul_f64(rand::random_range(0.75..1.25));
        let moved = || self.routes.tenant_by_id(route.id).is_none_or(|known| known.epoch > route.epoch);
        while !moved() && matches!(tokio::time::timeout_at(until, changed.changed()).await, Ok(Ok(()))) {}
    }

    /// The mirror may have heard of a move while we waited.
    pub(super) fn follow_move(&self, outgoing: &mut Outgoing, attempts: &mut Attempts) {
        let super::Destination::Tenant(route) = &outgoing.destination else { return };
        if let Some(newer) = self.routes.tenant_by_id(route.id).filter(|r| r.epoch > route.epoch) {
            attempts.routed(newer.epoch);
            outgoing.destination = super::Destination::Tenant(newer);
        }
    }
}

/// How long one try with a body of this size may take.
fn patience(bytes: usize) -> Duration {
    PER_TRY + Duration::from_millis(bytes as u64 * 1000 / BYTES_A_SECOND)
}

fn too_many_wait(attempts: &Attempts) -> ApiError {
    let error = ApiError::new(Code::Unavailable, "too many requests wait for a leader");
    honest(error.retry_after(Duration::from_secs(1)), attempts)
}

/// A refusal that had no effect itself, after tries that may have had one.
fn honest(error: ApiError, attempts: &Attempts) -> ApiError {
    if attempts.maybe_applied() { error.outcome_unknown() } else { error }
}
