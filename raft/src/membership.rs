//! Who is in the group: joins, promotion, removal, hand-over. The leader's work; one change at a time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use conflux_common::ids::MemberName;
use conflux_proto::internal;
use openraft::{
    ChangeMembers, Instant as _,
    async_runtime::watch::WatchReceiver,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::{
    app::App,
    codec,
    error::{FatalError, ProposeError},
    propose::not_yet,
    replica::{Member, Replica, ServerMetrics},
    types::{Command, Node, TypeConfig},
};

/// A learner that lacks no more entries than this is made a voter.
const CAUGHT_UP: u64 = 256;
/// For one change under a healthy quorum.
const CHANGE_WITHIN: Duration = Duration::from_secs(8);

/// For a member to answer that it is there.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);

/// Between two looks at a change that is not committed yet.
const IN_PROGRESS: Duration = Duration::from_millis(200);

type Change = ChangeMembers<u64, Node>;

/// Answers a `Join`: gives a new id to whoever the log or an operator lets in.
pub(crate) async fn join<A: App>(
    replica: &Arc<Replica<A>>,
    request: &internal::JoinRequest,
) -> Result<internal::JoinResponse, Status> {
    let Some(member) = replica.member() else { return Err(Status::unavailable("not a member yet")) };
    let server = member.server();
    if !server.state.is_leader() {
        return Ok(elsewhere(&server));
    }
    let Some(node) = request.node.as_ref().map(codec::node_from_proto) else {
        return Err(Status::invalid_argument("the node is missing"));
    };
    if !is_address(&node.raft_address) || !is_address(&node.service_address) {
        return Err(Status::invalid_argument("an address is not host:port"));
    }
    // One at a time: a second question of the same member must see what the first one did.
    let Ok(_alone) = tokio::time::timeout(CHANGE_WITHIN, replica.changing.lock()).await else {
        return Err(Status::unavailable("another membership change is under way"));
    };
    let old = ids_of(&member.server(), &node.member);
    if old.is_empty() && !may_join(replica, &node.member).map_err(|e| Status::unavailable(e.to_string()))? {
        let reason = format!("{} is not known here: an operator must admit it", node.member);
        return Ok(internal::JoinResponse { reason, ..Default::default() });
    }
    let id = let_in(replica, &member, &node, old).await.map_err(|e| Status::unavailable(e.to_string()))?;
    Ok(internal::JoinResponse { node_id: id, founding: member.sender.founding.clone(), ..Default::default() })
}

/// An operator's permission is an admission without addresses; the admission of the join that uses it replaces it.
fn may_join<A: App>(replica: &Replica<A>, name: &str) -> Result<bool, FatalError> {
    Ok(replica.state.admitted(name)?.is_some_and(|admission| admission.raft_address.is_empty()))
}

fn elsewhere(server: &ServerMetrics) -> internal::JoinResponse {
    let leader = server.current_leader.and_then(|id| server.membership_config.membership().get_node(&id).cloned());
    internal::JoinResponse {
        reason: "not the leader".into(),
        // Always set: the asker goes on to the next member.
        leader: Some(leader.map(|node| codec::node_to_proto(&node)).unwrap_or_default()),
        ..Default::default()
    }
}

/// Whether it can be `host:port`.
pub(crate) fn is_address(text: &str) -> bool {
    text.len() <= 256
        && text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn ids_of(server: &ServerMetrics, name: &str) -> BTreeSet<u64> {
    server.membership_config.nodes().filter(|(_, node)| node.member == name).map(|(id, _)| *id).collect()
}

/// Logs the admission, from whose index the id follows, then swaps the member's old ids for it in ONE change: its name
/// is in the membership at every moment, so that a crash in between needs no operator.
async fn let_in<A: App>(
    replica: &Arc<Replica<A>>,
    member: &Arc<Member<A>>,
    node: &Node,
    old: BTreeSet<u64>,
) -> Result<u64, ProposeError> {
    let deadline = Instant::now() + CHANGE_WITHIN;
    let id = log_admission(replica, member, node.clone(), deadline).await?;
    tracing::info!(member = node.member, id, replaces = ?old, "letting a member in as a learner");
    let voters: BTreeSet<u64> = member.server().membership_config.voter_ids().collect();
    let mut changes = removal(&voters, &old);
    changes.push(Change::AddNodes([(id, node.clone())].into()));
    change(member, Change::Batch(changes), deadline).await?;
    Ok(id)
}

/// Gives a member other addresses under its id. Only after the member has answered there (`relocate.rs`).
pub(crate) async fn set_node<A: App>(
    replica: &Arc<Replica<A>>,
    member: &Arc<Member<A>>,
    id: u64,
    node: Node,
) -> Result<(), ProposeError> {
    let deadline = Instant::now() + CHANGE_WITHIN;
    let _alone = timeout_at(deadline, replica.changing.lock()).await.map_err(|_| ProposeError::Overloaded)?;
    // Removed in the meantime: `SetNodes` would bring it back as a learner.
    if member.server().membership_config.membership().get_node(&id).is_none_or(|known| known.member != node.member) {
        return Err(ProposeError::Refused(format!("node {id} is no member any more")));
    }
    change(member, Change::SetNodes([(id, node)].into()), deadline).await
}

async fn log_admission<A: App>(
    replica: &Replica<A>,
    member: &Member<A>,
    node: Node,
    deadline: Instant,
) -> Result<u64, ProposeError> {
    loop {
        let command = Command::admit(replica.stamp_ms(member), node.clone());
        let written = timeout_at(deadline, member.raft.client_write(command)).await.map_err(|_| late())?;
        match written {
            Ok(written) => {
                let missing = || ProposeError::Unknown("no node id was given".into());
                return written.data.node_id().ok_or_else(missing);
            }
            Err(error) => again(member, error, deadline).await?,
        }
    }
}

/// Waits until it may be tried again, where nothing was done yet and this member still leads.
async fn again<A: App>(
    member: &Member<A>,
    error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
    deadline: Instant,
) -> Result<(), ProposeError> {
    match error {
        RaftError::Fatal(_) => Err(ProposeError::Stopping),
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_yet(member, &forward, deadline).await,
        // The one before, perhaps a former leader's, is not committed yet.
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            let mut metrics = member.raft.server_metrics();
            let until = deadline.min(Instant::now() + IN_PROGRESS);
            // Whether it changed or not: the next try says how it stands.
            let _ = timeout_at(until, metrics.changed()).await;
            if Instant::now() < deadline { Ok(()) } else { Err(late()) }
        }
        RaftError::APIError(other) => Err(ProposeError::Unknown(other.to_string())),
    }
}

fn late() -> ProposeError {
    ProposeError::Unknown("no quorum within the deadline".into())
}

async fn change<A: App>(member: &Member<A>, change: Change, deadline: Instant) -> Result<(), ProposeError> {
    loop {
        let changed = member.raft.change_membership(change.clone(), false);
        match timeout_at(deadline, changed).await.map_err(|_| late())? {
            Ok(_) => return Ok(()),
            // Each of our changes may be made twice.
            Err(error) => again(member, error, deadline).await?,
        }
    }
}

/// While this process leads: finishes changes that a former leader left half done and promotes who has caught up.
pub(crate) async fn run<A: App>(replica: Arc<Replica<A>>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = replica.stop.cancelled() => return,
        }
        let Some(member) = replica.member() else { continue };
        if !member.is_leader() {
            continue;
        }
        let Ok(_alone) = replica.changing.try_lock() else { continue };
        if let Err(error) = settle(&member).await {
            tracing::debug!(%error, "a membership change did not finish; tried again");
        }
    }
}

async fn settle<A: App>(member: &Member<A>) -> Result<(), ProposeError> {
    let deadline = Instant::now() + CHANGE_WITHIN;
    let server = member.server();
    if server.membership_config.get_joint_config().len() > 1 {
        tracing::info!("finishing a membership change that was left half done");
        return change(member, Change::AddVoterIds(BTreeSet::new()), deadline).await;
    }
    let ready = caught_up(member, &server);
    if ready.is_empty() {
        return Ok(());
    }
    tracing::info!(ids = ?ready, "learners have caught up; making them voters");
    change(member, Change::AddVoterIds(ready), deadline).await
}

/// Learners that lack little and answered of late.
fn caught_up<A: App>(member: &Member<A>, server: &ServerMetrics) -> BTreeSet<u64> {
    let data = member.raft.data_metrics().borrow_watched().clone();
    let last = data.last_log.map_or(0, |id| id.index);
    let (Some(replication), Some(heartbeat)) = (data.replication, data.heartbeat) else { return BTreeSet::new() };
    let near = |id: &u64| replication.get(id).is_some_and(|at| at.is_some_and(|at| at.index + CAUGHT_UP >= last));
    let alive =
        |id: &u64| heartbeat.get(id).is_some_and(|at| at.is_some_and(|at| at.elapsed() < Duration::from_secs(2)));
    server.membership_config.membership().learner_ids().filter(|id| near(id) && alive(id)).collect()
}

fn leading<A: App>(replica: &Replica<A>) -> Result<Arc<Member<A>>, ProposeError> {
    let member = replica.member().ok_or(ProposeError::NotLeader { leader: None })?;
    let server = member.server();
    match server.state.is_leader() {
        true => Ok(member),
        false => Err(ProposeError::NotLeader { leader: leader_name(&server) }),
    }
}

/// The leader's member name.
pub(crate) fn leader_name(server: &ServerMetrics) -> Option<String> {
    let id = server.current_leader?;
    server.membership_config.membership().get_node(&id).map(|node| node.member.clone())
}

/// An operator lets this name in: logged, so that any later leader knows.
pub(crate) async fn admit<A: App>(
    replica: &Replica<A>,
    name: &MemberName,
    within: Duration,
) -> Result<(), ProposeError> {
    let member = leading(replica)?;
    if !ids_of(&member.server(), name.as_str()).is_empty() {
        return Err(ProposeError::Refused(format!("{name} is a member already")));
    }
    let node = Node { member: name.to_string(), ..Node::default() };
    log_admission(replica, &member, node, Instant::now() + within).await?;
    tracing::info!(member = %name, "an operator lets a member in");
    Ok(())
}

/// Removes a member for good.
pub(crate) async fn remove<A: App>(
    replica: &Replica<A>,
    name: &MemberName,
    within: Duration,
) -> Result<(), ProposeError> {
    let deadline = Instant::now() + within;
    let _alone = timeout_at(deadline, replica.changing.lock()).await.map_err(|_| ProposeError::Overloaded)?;
    let member = leading(replica)?;
    let server = member.server();
    let ids = ids_of(&server, name.as_str());
    if ids.is_empty() {
        // Takes back a permission that was not used yet.
        let revoked = Node { member: name.to_string(), raft_address: "revoked".into(), ..Node::default() };
        return log_admission(replica, &member, revoked, deadline).await.map(drop);
    }
    let voters: BTreeSet<u64> = server.membership_config.voter_ids().collect();
    let rest: BTreeSet<u64> = voters.difference(&ids).copied().collect();
    if rest.is_empty() {
        return Err(ProposeError::Refused(format!(
            "{name} is the only voter: without it the group is gone. Add another member first"
        )));
    }
    let alive = alive(replica, &member, &server, &rest).await;
    if alive.len() * 2 <= rest.len() {
        return Err(ProposeError::Refused(no_quorum(&server, name, &rest, &alive)));
    }
    if ids.contains(&member.id()) {
        return Err(give_way(replica, &member, &alive, deadline).await);
    }
    change(&member, Change::Batch(removal(&voters, &ids)), deadline).await
}

/// The leader does not remove itself: it hands over to one that stays, which is told the removal next. (One that is cut
/// off by its own removal could not say whether it succeeded.)
async fn give_way<A: App>(
    replica: &Replica<A>,
    member: &Member<A>,
    stay: &BTreeSet<u64>,
    deadline: Instant,
) -> ProposeError {
    let replication = member.raft.data_metrics().borrow_watched().replication.clone().unwrap_or_default();
    let Some(to) = stay.iter().copied().max_by_key(|id| replication.get(id).copied().flatten()) else {
        return ProposeError::Refused("no member that stays could lead".into());
    };
    match hand_over(replica, member, to, deadline).await {
        Ok(()) => ProposeError::NotLeader { leader: leader_name(&member.server()) },
        Err(error) => error,
    }
}

/// Why not, and what to do instead.
fn no_quorum(server: &ServerMetrics, name: &MemberName, rest: &BTreeSet<u64>, alive: &BTreeSet<u64>) -> String {
    let names = |ids: Vec<&u64>| -> Vec<String> {
        let node = |id: &u64| server.membership_config.membership().get_node(id).map(|n| n.member.clone());
        ids.into_iter().filter_map(node).collect()
    };
    let silent = names(rest.difference(alive).collect());
    let silent = silent.join(", ");
    format!(
        "without {name} only {} of {} voters would be there: no quorum. {silent} does not answer: start it again, or \
         remove it before {name}",
        alive.len(),
        rest.len()
    )
}

/// The changes that leave nothing of these ids. (A voter's node goes with its vote.)
fn removal(voters: &BTreeSet<u64>, ids: &BTreeSet<u64>) -> Vec<Change> {
    let voting: BTreeSet<u64> = ids.intersection(voters).copied().collect();
    let learning: BTreeSet<u64> = ids.difference(voters).copied().collect();
    let mut changes = Vec::new();
    if !voting.is_empty() {
        changes.push(Change::RemoveVoters(voting));
    }
    if !learning.is_empty() {
        changes.push(Change::RemoveNodes(learning));
    }
    changes
}

/// Which of these answer now, under these ids; the leader itself does. Asked, not guessed from heartbeats: a change that
/// was proposed without a quorum would stay half done.
async fn alive<A: App>(
    replica: &Replica<A>,
    member: &Member<A>,
    server: &ServerMetrics,
    ids: &BTreeSet<u64>,
) -> BTreeSet<u64> {
    let hello = internal::HelloRequest {
        cluster: replica.settings.cluster.to_string(),
        group: replica.settings.group.to_string(),
        member: replica.settings.member.to_string(),
    };
    let ask = ids.iter().map(async |id| {
        if *id == member.id() {
            return Some(*id);
        }
        let node = server.membership_config.membership().get_node(id)?;
        let hello = hello.clone();
        let answer = replica.links.call(node, ALIVE_WITHIN, async |client| client.hello(hello).await).await;
        answer.is_ok_and(|answer| answer.node_id == *id).then_some(*id)
    });
    futures::future::join_all(ask).await.into_iter().flatten().collect()
}

/// Hands leadership over; returns once the other leads.
pub(crate) async fn transfer<A: App>(
    replica: &Replica<A>,
    to: Option<MemberName>,
    within: Duration,
) -> Result<(), ProposeError> {
    let deadline = Instant::now() + within;
    let member = leading(replica)?;
    let server = member.server();
    let target = match to {
        Some(name) => {
            let ids = ids_of(&server, name.as_str());
            let voter = server.membership_config.voter_ids().find(|id| ids.contains(id));
            voter.ok_or_else(|| ProposeError::Refused(format!("{name} is not a voter")))?
        }
        None => {
            most_advanced(&member, &server).ok_or_else(|| ProposeError::Refused("no other voter is there".into()))?
        }
    };
    hand_over(replica, &member, target, deadline).await
}

async fn hand_over<A: App>(
    replica: &Replica<A>,
    member: &Member<A>,
    target: u64,
    deadline: Instant,
) -> Result<(), ProposeError> {
    if target == member.id() {
        return Ok(());
    }
    let stopped = |_| ProposeError::Stopping;
    let mut metrics = member.raft.server_metrics();
    let again = Duration::from_millis(replica.settings.raft.election_max_ms);
    loop {
        member.raft.trigger().transfer_leader(target).await.map_err(stopped)?;
        // The target may refuse because its log was not flushed yet: asked again.
        let until = deadline.min(Instant::now() + again);
        while metrics.borrow_watched().current_leader != Some(target) {
            match timeout_at(until, metrics.changed()).await {
                Ok(changed) => changed.map_err(|_| ProposeError::Stopping)?,
                Err(_) => break,
            }
        }
        let now = metrics.borrow_watched().clone();
        if now.current_leader == Some(target) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(ProposeError::Unknown("the other did not take over in time".into()));
        }
        if !now.state.is_leader() && now.current_leader.is_some() {
            return Err(ProposeError::NotLeader { leader: leader_name(&now) });
        }
    }
}

/// Whether this member leads, and so many others answer that one of them can be elected.
pub(crate) fn can_hand_over<A: App>(member: &Member<A>) -> bool {
    let server = member.server();
    let voters = server.membership_config.voter_ids().count();
    server.state.is_leader() && voters > 1 && (voting(&server, heard(member, &server)).len() + 1) * 2 > voters
}

/// The other members that have answered a heartbeat lately.
pub(crate) fn heard<A: App>(member: &Member<A>, server: &ServerMetrics) -> BTreeSet<u64> {
    let Some(heartbeat) = member.raft.data_metrics().borrow_watched().heartbeat.clone() else { return BTreeSet::new() };
    let lately =
        |id: &u64| heartbeat.get(id).is_some_and(|at| at.is_some_and(|at| at.elapsed() < Duration::from_secs(2)));
    server.membership_config.nodes().map(|(id, _)| *id).filter(|id| *id != member.id() && lately(id)).collect()
}

/// Of these, whoever votes.
fn voting(server: &ServerMetrics, mut ids: BTreeSet<u64>) -> BTreeSet<u64> {
    let voters: BTreeSet<u64> = server.membership_config.voter_ids().collect();
    ids.retain(|id| voters.contains(id));
    ids
}

fn most_advanced<A: App>(member: &Member<A>, server: &ServerMetrics) -> Option<u64> {
    let replication = member.raft.data_metrics().borrow_watched().replication.clone()?;
    voting(server, heard(member, server)).into_iter().max_by_key(|id| replication.get(id).copied().flatten())
}
