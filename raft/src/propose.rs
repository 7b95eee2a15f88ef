//! From a command to its answer, within bounds of number, bytes and time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, ForwardToLeader},
    raft::responder::ProgressResponder,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    app::App,
    error::ProposeError,
    membership::leader_name,
    node::Committed,
    replica::{Life, Member, Replica},
    types::{Command, TypeConfig},
};

/// The largest command.
pub(crate) const MAX_COMMAND: usize = 4 << 20;
/// An election takes about so long: a write that meets one waits instead of being sent round.
const ELECTION: Duration = Duration::from_millis(1500);

type Written = Result<openraft::raft::ClientWriteResponse<TypeConfig>, ClientWriteError<TypeConfig>>;

/// Room in the queue: given back when the entry is applied or can no longer be, even if nobody waits for it any more.
struct Room {
    _slot: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

pub(crate) async fn propose<A: App>(
    replica: &Arc<Replica<A>>,
    command: Bytes,
    within: Duration,
) -> Result<Committed, ProposeError> {
    let began = Instant::now();
    let outcome = try_propose(replica, command, within).await;
    replica.series.proposed(&outcome, began.elapsed());
    outcome
}

async fn try_propose<A: App>(
    replica: &Arc<Replica<A>>,
    command: Bytes,
    within: Duration,
) -> Result<Committed, ProposeError> {
    if command.len() > MAX_COMMAND {
        return Err(ProposeError::TooLarge { size: command.len(), max: MAX_COMMAND });
    }
    let deadline = Instant::now() + within;
    let bytes = command.len().clamp(1, replica.settings.raft.max_in_flight_bytes.max(1)) as u32;
    let room = Room {
        _slot: replica.slots.clone().try_acquire_owned().map_err(|_| ProposeError::Overloaded)?,
        _bytes: replica.room.clone().try_acquire_many_owned(bytes).map_err(|_| ProposeError::Overloaded)?,
    };
    let patience = deadline.min(Instant::now() + ELECTION);
    let mut room = Some(room);
    loop {
        let member = leading(replica, patience).await?;
        let command = Command::app(replica.stamp_ms(&member), command.clone());
        let taken = room.take().ok_or(ProposeError::Overloaded)?;
        match write(&member, command, taken, deadline).await? {
            Ok(committed) => return Ok(committed),
            Err((forward, back)) => {
                room = Some(back);
                not_yet(&member, &forward, patience).await?;
            }
        }
    }
}

/// The member, once it leads; waits while nobody is known to lead.
async fn leading<A: App>(replica: &Replica<A>, patience: Instant) -> Result<Arc<Member<A>>, ProposeError> {
    let member = match replica.life() {
        Life::Member(member) => member,
        Life::Standby => return Err(ProposeError::NotLeader { leader: None }),
        Life::Stopped => return Err(ProposeError::Stopping),
    };
    let mut metrics = member.raft.server_metrics();
    loop {
        let server = metrics.borrow_and_update().clone();
        if server.state.is_leader() {
            return Ok(member);
        }
        if server.current_leader.is_some_and(|id| id != member.id()) {
            return Err(ProposeError::NotLeader { leader: leader_name(&server) });
        }
        match timeout_at(patience, metrics.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(ProposeError::Stopping),
            Err(_) => return Err(ProposeError::NotLeader { leader: None }),
        }
    }
}

/// Nothing was proposed. A leader that was just elected has no lease before its first heartbeat is answered: wait for
/// that. Otherwise say who leads.
pub(crate) async fn not_yet<A: App>(
    member: &Member<A>,
    forward: &ForwardToLeader<TypeConfig>,
    patience: Instant,
) -> Result<(), ProposeError> {
    let server = member.server();
    if forward.leader_id.is_some_and(|id| id != member.id()) || !server.state.is_leader() {
        return Err(ProposeError::NotLeader { leader: leader_name(&server) });
    }
    let mut progress = member.raft.data_metrics();
    let before = progress.borrow_and_update().last_quorum_acked;
    loop {
        match timeout_at(patience, progress.changed()).await {
            Ok(Ok(())) if progress.borrow_and_update().last_quorum_acked != before => return Ok(()),
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(ProposeError::Stopping),
            Err(_) => return Err(ProposeError::NotLeader { leader: None }),
        }
    }
}

/// Proposes; the inner error is of a command that certainly was not, with its room.
async fn write<A: App>(
    member: &Member<A>,
    command: Command,
    room: Room,
    deadline: Instant,
) -> Result<Result<Committed, (ForwardToLeader<TypeConfig>, Room)>, ProposeError> {
    let (responder, answer) = ProgressResponder::complete_only();
    let sent = timeout_at(deadline, member.raft.client_write_ff(command, Some(responder))).await;
    match sent {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(ProposeError::Stopping),
        // Whether it was put into consensus' queue is not known.
        Err(_) => return Err(ProposeError::Unknown("the deadline passed".into())),
    }
    // A task of its own keeps the room taken for as long as the entry is under way, whatever the caller does.
    let (done, outcome) = oneshot::channel();
    tokio::spawn(async move {
        let written: Option<Written> = answer.await.ok();
        if let Err((_, room)) = done.send((written, room)) {
            drop(room);
        }
    });
    let (written, room) = match timeout_at(deadline, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => return Err(ProposeError::Unknown("the node stopped".into())),
        Err(_) => return Err(ProposeError::Unknown("the deadline passed".into())),
    };
    match written {
        Some(Ok(response)) => Ok(Ok(Committed { index: response.log_id.index, answer: response.data.0 })),
        Some(Err(ClientWriteError::ForwardToLeader(forward))) => Ok(Err((forward, room))),
        Some(Err(error)) => Err(ProposeError::Unknown(error.to_string())),
        None => Err(ProposeError::Unknown("consensus stopped".into())),
    }
}
