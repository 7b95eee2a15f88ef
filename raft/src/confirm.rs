//! `Confirm`: how fresh a replica is, what the members' clocks show, and which level each can apply (ADR 1, "Age").

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use conflux_common::planted;
use conflux_proto::internal;
use openraft::{LinearizerOption, errors::LinearizableReadError};
use tonic::Status;

use crate::{
    app::App,
    barrier::read_index,
    codec,
    replica::{Heard, Member, Replica},
    types::{Command, TypeConfig},
};

/// A quorum that does not answer within this time does not confirm.
pub(crate) const WITHIN: Duration = Duration::from_secs(1);
/// A level that a member told longer ago counts no more.
const LEVEL_FRESH: Duration = Duration::from_secs(10);

/// Why a leader could not confirm what is committed.
#[derive(Debug, Clone)]
pub(crate) enum Unconfirmed {
    NotLeader,
    NoQuorum,
    Stopped(String),
}

/// One ReadIndex round of this member's own. What asks for one shares it with others: [`read_index`].
pub(crate) async fn confirm<A: App>(member: &Member<A>, within: Duration) -> Result<crate::types::LogId, Unconfirmed> {
    let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(within);
    let answer = tokio::time::timeout(within, member.raft.get_read_linearizer(option)).await;
    let error = match answer {
        Ok(Ok(linearizer)) => return Ok(*linearizer.read_log_id().log_id()),
        Ok(Err(error)) => error,
        Err(_) => return Err(Unconfirmed::NoQuorum),
    };
    Err(match error.into_api_error() {
        Some(LinearizableReadError::ForwardToLeader(f)) if f.leader_id.is_some() => Unconfirmed::NotLeader,
        // A leader whose lease ran out names nobody.
        Some(LinearizableReadError::ForwardToLeader(_)) if member.is_leader() => Unconfirmed::NoQuorum,
        Some(LinearizableReadError::ForwardToLeader(_)) => Unconfirmed::NotLeader,
        Some(LinearizableReadError::QuorumNotEnough(_)) => Unconfirmed::NoQuorum,
        None => Unconfirmed::Stopped("consensus stopped".into()),
    })
}

/// The leader's side.
pub(crate) async fn answer<A: App>(
    replica: &Arc<Replica<A>>,
    member: &Arc<Member<A>>,
    from: u64,
    request: &internal::ConfirmRequest,
) -> Result<internal::ConfirmResponse, Status> {
    // An id that nobody has could be any number: what is heard is remembered for each.
    if member.server().membership_config.membership().get_node(&from).is_none() {
        return Err(Status::failed_precondition(format!("node {from} is no member")));
    }
    replica.heard_clock(from, request.wall_clock_ms, None);
    replica.heard.lock().insert(from, Heard { level: request.supported_level, at: Instant::now() });
    let read_index = match read_index(member, WITHIN).await {
        Ok(id) => id,
        Err(Unconfirmed::NotLeader) => return Err(Status::failed_precondition("not the leader")),
        Err(Unconfirmed::NoQuorum) => return Err(Status::unavailable("no quorum")),
        Err(Unconfirmed::Stopped(why)) => return Err(Status::unavailable(why)),
    };
    Ok(internal::ConfirmResponse {
        read_index: Some(codec::log_id_to_proto(&read_index)),
        wall_clock_ms: replica.now().wall / 1000,
        group_time_ms: replica.stamp_ms(member),
    })
}

/// Asks every `confirm_every_ms` until the replica stops.
pub(crate) async fn run<A: App>(replica: Arc<Replica<A>>) {
    let period = Duration::from_millis(replica.settings.raft.confirm_every_ms.max(10));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = replica.stop.cancelled() => return,
        }
        let Some(member) = replica.member() else { continue };
        let sent = Instant::now();
        if planted::has("unconfirmed_age") {
            replica.confirmations.lock().confirmed(0, sent);
        }
        if member.is_leader() {
            if let Ok(id) = read_index(&member, WITHIN).await {
                replica.confirmations.lock().confirmed(id.index, sent);
                raise_level(&replica, &member).await;
            }
        } else if let Err(status) = ask(&replica, &member, sent).await {
            tracing::debug!(%status, "the leader did not confirm");
        }
    }
}

/// The follower's side.
async fn ask<A: App>(replica: &Arc<Replica<A>>, member: &Arc<Member<A>>, sent: Instant) -> Result<(), Status> {
    let server = member.server();
    let Some(leader) = server.current_leader.filter(|id| *id != member.id()) else { return Ok(()) };
    let Some(node) = server.membership_config.membership().get_node(&leader) else { return Ok(()) };
    let request = internal::ConfirmRequest {
        route: Some(member.sender.route(leader)),
        wall_clock_ms: replica.now().wall / 1000,
        supported_level: A::LEVEL,
    };
    let answer = replica.links.call(node, WITHIN, async |client| client.confirm(request).await).await?;
    let index = answer.read_index.ok_or_else(|| Status::internal("an answer without an index"))?.index;
    replica.heard_clock(leader, answer.wall_clock_ms, Some(answer.group_time_ms));
    replica.confirmations.lock().confirmed(index, sent);
    Ok(())
}

/// Proposes the highest level that every member supports, if that is above the present one.
async fn raise_level<A: App>(replica: &Arc<Replica<A>>, member: &Arc<Member<A>>) {
    let present = replica.state.level();
    if A::LEVEL <= present {
        return;
    }
    let server = member.server();
    let supported = {
        let heard = replica.heard.lock();
        let level_of = |id: &u64| match *id == member.id() {
            true => Some(A::LEVEL),
            false => heard.get(id).filter(|h| h.at.elapsed() < LEVEL_FRESH).map(|h| h.level),
        };
        server.membership_config.nodes().map(|(id, _)| level_of(id).unwrap_or(0)).min().unwrap_or(0)
    };
    if supported <= present {
        return;
    }
    tracing::info!(from = present, to = supported, "every member supports a higher level; raising it");
    let command = Command::raise_level(replica.stamp_ms(member), supported);
    let written: Result<_, openraft::errors::RaftError<TypeConfig, _>> =
        match tokio::time::timeout(WITHIN, member.raft.client_write(command)).await {
            Ok(written) => written,
            Err(_) => return,
        };
    if let Err(error) = written {
        tracing::debug!(%error, "the level was not raised; tried again");
    }
}
