//! From an empty disk to a member: Hello, Found, Join (ADR 1, "Founding, joining").
//!
//! | this process has | and hears | it does |
//! |---|---|---|
//! | nothing | a founder has a log | Join, until the leader gives it an id |
//! | nothing, lowest name | all other founders have no log | draws a founding, keeps it, sends `Found` to all |
//! | nothing, another name | no log anywhere | waits for `Found` |
//! | a founding, no log, lowest name | - | sends `Found` again; when ALL have accepted, initialises |
//! | a founding or an id, no log | - | openraft runs and waits for the leader |
//! | a restored state | all other founders are empty | begins a new group with it (ADR 4) |
//! | a restored state | a founder has data, or was restored too | ends with an error |
//! | a log | - | openraft goes on |
//!
//! A group is initialised only by the lowest name, only under a founding that every founder has on disk, and only while
//! its own log is empty: so however often a founder falls, there is one group. What an earlier founding still sends is
//! refused, since every message names its founding.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use conflux_common::{settings::FounderSettings, tls::PeerId};
use conflux_proto::{internal, log};
use openraft::storage::RaftLogStorage;
use rand::Rng;
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::{
    app::App,
    codec,
    error::{FatalError, OpenError},
    log_store::Identity,
    replica::{Life, Member, Replica},
    types::{Membership, Node},
};

/// What a member says that has a restored state and has not begun with it.
const RESTORED: &str = "restored";
const WITHIN: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A join waits for two commits.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// The founders in the order of their names, with the ids that they get.
fn founders(founders: &[FounderSettings]) -> BTreeMap<u64, Node> {
    let mut sorted: Vec<&FounderSettings> = founders.iter().collect();
    sorted.sort_by(|a, b| a.member.cmp(&b.member));
    let node = |f: &FounderSettings| Node {
        member: f.member.to_string(),
        raft_address: f.raft_address.clone(),
        service_address: f.service_address.clone(),
    };
    (1..).zip(sorted.into_iter().map(node)).collect()
}

fn membership_of(founders: &BTreeMap<u64, Node>) -> Result<Membership, FatalError> {
    let voters = vec![founders.keys().copied().collect()];
    Membership::new(voters, founders.clone()).map_err(|e| FatalError(format!("settings.founders: {e}")))
}

fn hash_of(founders: &BTreeMap<u64, Node>) -> Bytes {
    let mut hash = Sha256::new();
    for node in founders.values() {
        for text in [&node.member, &node.raft_address, &node.service_address] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
    Bytes::copy_from_slice(&hash.finalize())
}

/// Whether this member is in a group that was founded. From what is on disk too: openraft tells its membership only some
/// moments after its start, and whoever asks in between must not take this member for one that may be founded anew.
fn has_log<A: App>(replica: &Replica<A>, member: &Member<A>) -> bool {
    replica.log.last().is_some()
        || replica.state.last_applied().is_some()
        || member.server().membership_config.nodes().next().is_some()
}

/// Answers a `Hello`.
pub(crate) fn hello<A: App>(replica: &Replica<A>) -> internal::HelloResponse {
    let founders_hash = hash_of(&founders(&replica.settings.founders));
    let member = match replica.life() {
        Life::Member(member) => member,
        Life::Standby => {
            let state = if replica.is_restored() { RESTORED } else { "empty" };
            return internal::HelloResponse { state: state.into(), founders_hash, ..Default::default() };
        }
        Life::Stopped => {
            return internal::HelloResponse { state: "stopped".into(), founders_hash, ..Default::default() };
        }
    };
    let server = member.server();
    let has_log = has_log(replica, &member);
    internal::HelloResponse {
        state: if has_log { "member" } else { "founded" }.into(),
        node_id: member.id(),
        founding: member.sender.founding.clone(),
        founders_hash,
        leader: server.current_leader,
        membership: Some(codec::membership_to_proto(server.membership_config.membership())),
    }
}

/// Answers a `Found`.
pub(crate) async fn found<A: App>(
    replica: &Arc<Replica<A>>,
    peer: &PeerId,
    request: &internal::FoundRequest,
) -> Result<internal::FoundResponse, Status> {
    let refuse = |reason: String| {
        tracing::warn!(from = %peer.member, reason, "a founding was refused");
        Ok(internal::FoundResponse { accepted: false, reason })
    };
    let founders = founders(&replica.settings.founders);
    let proposed = request.membership.as_ref().map(codec::membership_from_proto).transpose();
    let proposed = proposed.map_err(|e| Status::invalid_argument(e.to_string()))?;
    let expected = membership_of(&founders).map_err(|e| Status::internal(e.to_string()))?;
    if proposed.as_ref() != Some(&expected) {
        return refuse("the list of founders differs from mine: give all members the same settings".into());
    }
    if founders.get(&1).is_none_or(|first| first.member != peer.member.as_str()) {
        return refuse("only the founder of the lowest name may found".into());
    }
    let own = founders.get(&request.node_id).is_some_and(|node| node.member == replica.settings.member.as_str());
    if !own || request.founding.len() != 16 {
        return refuse("the node id is not mine".into());
    }
    match accept(replica, request).await {
        Ok(()) => Ok(internal::FoundResponse { accepted: true, reason: String::new() }),
        Err(reason) => refuse(reason),
    }
}

async fn accept<A: App>(replica: &Arc<Replica<A>>, request: &internal::FoundRequest) -> Result<(), String> {
    // Two `Found` at once must not both start openraft.
    let _alone = replica.changing.lock().await;
    match replica.life() {
        Life::Stopped => return Err("stopping".into()),
        Life::Member(member) if member.sender.founding == request.founding && member.id() == request.node_id => {
            return Ok(());
        }
        Life::Member(member) if has_log(replica, &member) => {
            return Err("I am a member of a running group".into());
        }
        // The founder lost its disk after a first attempt. Nothing of that attempt can have been committed: the
        // founder commits only what is in a quorum of logs, and asks again only if no founder has a log.
        Life::Member(member) => {
            tracing::info!("the founder starts anew; forgetting its first attempt");
            replica.set_life(Life::Standby);
            member.raft.shutdown().await.map_err(|e| e.to_string())?;
            replica.log.reset().await.map_err(|e| e.to_string())?;
        }
        Life::Standby if replica.is_restored() => return Err("I was restored from a backup".into()),
        Life::Standby => {}
    }
    take_identity(replica, request.node_id, &request.founding).await.map_err(|e| replica.fatal.report(e).to_string())
}

async fn take_identity<A: App>(replica: &Arc<Replica<A>>, node_id: u64, founding: &[u8]) -> Result<(), FatalError> {
    let identity = Identity {
        cluster: replica.settings.cluster.to_string(),
        group: replica.settings.group.to_string(),
        member: replica.settings.member.to_string(),
        node_id,
        founding: founding.to_vec(),
    };
    replica.log.write_identity(&identity).await.map_err(|e| FatalError(format!("identity: {e}")))?;
    tracing::info!(node_id, "this process has an identity now");
    replica.start(&identity).await.map(drop)
}

/// Runs until this process is a member that has a log, or stops.
pub(crate) async fn run<A: App>(replica: Arc<Replica<A>>) {
    let mut seeker = Seeker { founders: founders(&replica.settings.founders), replica, waiting_for: String::new() };
    let mut life = seeker.replica.watch_life();
    let mut pause = FIRST_PAUSE;
    loop {
        if matches!(seeker.replica.life(), Life::Stopped) {
            return;
        }
        match seeker.step().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(fatal) => return seeker.replica.fail(fatal),
        }
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        tokio::select! {
            () = seeker.replica.stop.cancelled() => return,
            _ = life.changed() => pause = FIRST_PAUSE,
            () = tokio::time::sleep(jittered) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// A state that was restored for another group must not be started as this one.
pub(crate) fn check_origin<A: App>(replica: &Replica<A>) -> Result<(), OpenError> {
    let Some(origin) = replica.dir.origin()? else { return Ok(()) };
    let settings = &replica.settings;
    if origin.cluster != settings.cluster.as_str() || origin.group != settings.group.as_str() {
        return Err(OpenError::Refused(format!(
            "{} was restored for group {} of {}, the settings are of group {} of {}: name the right directory",
            settings.data_dir.display(),
            origin.group,
            origin.cluster,
            settings.group,
            settings.cluster
        )));
    }
    tracing::info!(backup = origin.backup, "this member begins with a restored state");
    replica.set_restored(true);
    Ok(())
}

/// One process on its way into a group.
struct Seeker<A: App> {
    replica: Arc<Replica<A>>,
    founders: BTreeMap<u64, Node>,
    waiting_for: String,
}

impl<A: App> Seeker<A> {
    /// True once there is nothing left to do.
    async fn step(&mut self) -> Result<bool, FatalError> {
        if let Some(member) = self.replica.member() {
            if member.server().membership_config.nodes().next().is_some() {
                return Ok(true);
            }
            if member.id() == 1 && self.is_first() {
                return self.found(member.sender.founding.clone()).await;
            }
            self.waits_for("the leader's first message");
            return Ok(false);
        }
        if self.replica.is_restored() {
            return self.begin_restored().await;
        }
        let heard = self.hellos().await;
        if let Some(running) = heard.values().find(|h| h.state == "member") {
            return self.join(running.clone()).await;
        }
        if !self.is_first() {
            self.waits_for(match self.founders.get(&1) {
                Some(first) => format!("{} to found the group", first.member),
                None => "a member to join".into(),
            });
            return Ok(false);
        }
        let hash = hash_of(&self.founders);
        let ready = |node: &Node| {
            heard
                .get(&node.member)
                .is_some_and(|h| (h.state == "empty" || h.state == "founded") && h.founders_hash == hash)
        };
        let others = self.others();
        let missing: Vec<&str> = others.values().filter(|n| !ready(n)).map(|n| n.member.as_str()).collect();
        if !missing.is_empty() {
            let names = missing.join(", ");
            self.waits_for(format!("{names}: empty, and with the same list of founders"));
            return Ok(false);
        }
        let founding: [u8; 16] = rand::rng().random();
        take_identity(&self.replica, 1, &founding).await?;
        self.found(Bytes::copy_from_slice(&founding)).await
    }

    fn is_first(&self) -> bool {
        self.founders.get(&1).is_some_and(|first| first.member == self.replica.settings.member.as_str())
    }

    fn others(&self) -> BTreeMap<u64, Node> {
        let own = self.replica.settings.member.as_str();
        self.founders.iter().filter(|(_, n)| n.member != own).map(|(id, n)| (*id, n.clone())).collect()
    }

    /// Says what it waits for, once per change.
    fn waits_for(&mut self, what: impl Into<String>) {
        let what = what.into();
        if what != self.waiting_for {
            tracing::info!(member = %self.replica.settings.member, "waiting for {what}");
            self.waiting_for = what;
        }
    }

    async fn hellos(&self) -> BTreeMap<String, internal::HelloResponse> {
        let settings = &self.replica.settings;
        let hello = internal::HelloRequest {
            cluster: settings.cluster.to_string(),
            group: settings.group.to_string(),
            member: settings.member.to_string(),
        };
        let ask = self.others().into_values().map(async |node| {
            let hello = hello.clone();
            let answer = self.replica.links.call(&node, WITHIN, async |client| client.hello(hello).await).await;
            answer.ok().map(|answer| (node.member, answer))
        });
        futures::future::join_all(ask).await.into_iter().flatten().collect()
    }

    /// Begins a new group with a restored state, once every other founder says that it is empty: that the old group is
    /// gone, and that no second member was restored, can be known in no other way.
    async fn begin_restored(&mut self) -> Result<bool, FatalError> {
        let (heard, hash) = (self.hellos().await, hash_of(&self.founders));
        let mut silent = Vec::new();
        for node in self.others().values() {
            match heard.get(&node.member) {
                Some(told) if told.state == "empty" && told.founders_hash == hash => {}
                Some(told) if told.state == "empty" => {
                    silent.push(format!("{} (with the same list of founders)", node.member))
                }
                Some(told) if told.state == "member" || told.state == "founded" || told.state == RESTORED => {
                    return Err(FatalError(restored_twice(&node.member, told)));
                }
                _ => silent.push(node.member.clone()),
            }
        }
        if !silent.is_empty() {
            self.waits_for(format!(
                "{} to say that there is no data: they must run, with empty directories",
                silent.join(", ")
            ));
            return Ok(false);
        }
        let _alone = self.replica.changing.lock().await;
        let others = self.others().into_values().map(|node| node.member).collect();
        let (node_id, vote) = self.replica.state.refound(self.replica.own_node(), others).await?;
        let vote_failed = |e| FatalError(format!("the vote of a restored member: {e}"));
        self.replica.log.clone().save_vote(&vote).await.map_err(vote_failed)?;
        let founding: [u8; 16] = rand::rng().random();
        take_identity(&self.replica, node_id, &founding).await?;
        self.replica.dir.remove_origin().map_err(|e| FatalError(format!("the origin of the state: {e}")))?;
        self.replica.set_restored(false);
        tracing::info!(group = %self.replica.settings.group, node_id, "began a new group with the restored state");
        Ok(false)
    }

    /// Sends `Found` to all; initialises once all have accepted.
    async fn found(&mut self, founding: Bytes) -> Result<bool, FatalError> {
        let membership = membership_of(&self.founders)?;
        for (id, node) in self.others() {
            let request = internal::FoundRequest {
                cluster: self.replica.settings.cluster.to_string(),
                group: self.replica.settings.group.to_string(),
                founding: founding.clone(),
                node_id: id,
                membership: Some(codec::membership_to_proto(&membership)),
            };
            let answer = self.replica.links.call(&node, WITHIN, async |client| client.found(request).await).await;
            match answer {
                Ok(answer) if answer.accepted => {}
                Ok(answer) => {
                    self.waits_for(format!("{} to accept the founding: {}", node.member, answer.reason));
                    return Ok(false);
                }
                Err(status) => {
                    self.waits_for(format!("{} to answer: {}", node.member, status.message()));
                    return Ok(false);
                }
            }
        }
        let Some(member) = self.replica.member() else { return Ok(false) };
        if member.sender.founding != founding {
            return Ok(false);
        }
        let initialised = member.raft.initialize(self.founders.clone()).await;
        match initialised {
            Ok(()) => tracing::info!(group = %self.replica.settings.group, "founded the group"),
            // Already initialised by an attempt whose answer was lost.
            Err(error) => tracing::info!(%error, "not initialised again"),
        }
        Ok(member.server().membership_config.nodes().next().is_some())
    }

    /// Asks the leader of a running group to be let in.
    async fn join(&mut self, running: internal::HelloResponse) -> Result<bool, FatalError> {
        // Whoever was founded since it said Hello has an identity: to join as well would have the group replace that one.
        let replica = self.replica.clone();
        let _alone = replica.changing.lock().await;
        if replica.member().is_some() {
            return Ok(false);
        }
        let nodes: BTreeMap<u64, log::Node> = running.membership.map(|m| m.nodes).unwrap_or_default();
        let leader = running.leader.and_then(|id| nodes.get(&id));
        // The leader first; who is not the leader names it.
        let own = self.replica.settings.member.to_string();
        let targets: Vec<Node> = leader.into_iter().chain(nodes.values()).map(codec::node_from_proto).collect();
        for target in targets.into_iter().filter(|node| node.member != own) {
            match self.join_at(&target).await {
                Ok(answer) if answer.node_id != 0 && answer.founding.len() == 16 => {
                    take_identity(&self.replica, answer.node_id, &answer.founding).await?;
                    return Ok(false);
                }
                Ok(answer) if answer.leader.is_none() => {
                    self.waits_for(format!("{}: {}", target.member, answer.reason));
                    return Ok(false);
                }
                Ok(_) => {}
                Err(status) => tracing::debug!(target = target.member, %status, "cannot ask to join"),
            }
        }
        self.waits_for("the group to have a leader that lets this member in");
        Ok(false)
    }

    async fn join_at(&self, target: &Node) -> Result<internal::JoinResponse, Status> {
        let request = internal::JoinRequest {
            cluster: self.replica.settings.cluster.to_string(),
            group: self.replica.settings.group.to_string(),
            member: self.replica.settings.member.to_string(),
            node: Some(codec::node_to_proto(&self.replica.own_node())),
            node_id: 0,
        };
        self.replica.links.call(target, JOIN_WITHIN, async |client| client.join(request).await).await
    }
}

fn restored_twice(member: &str, told: &internal::HelloResponse) -> String {
    match told.state.as_str() {
        RESTORED => format!(
            "{member} was restored from a backup too: restore ONE member of a group, the others start empty and get the \
             state from it"
        ),
        _ => format!(
            "{member} has data of a group of this name: a restored group must be the only one. Stop its members and \
             remove their data directories, or remove this member's and let that group admit it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        storage,
        support::{Group, Rows},
    };

    /// As if this member had fallen right after it stored its part of the founding.
    async fn has_identity(group: &Group, i: usize, founding: &[u8]) {
        let settings = &group.settings[i];
        let storage = storage::open(settings, Arc::new(Rows::default())).await.unwrap();
        let identity = Identity {
            cluster: settings.cluster.to_string(),
            group: settings.group.to_string(),
            member: settings.member.to_string(),
            node_id: i as u64 + 1,
            founding: founding.to_vec(),
        };
        storage.log.write_identity(&identity).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_founder_that_fell_goes_on_with_the_same_founding() {
        // However far it had come: one group, and the founding that some may have on disk.
        for stored in [&[0][..], &[0, 1], &[0, 1, 2]] {
            let mut group = Group::planned(3);
            for i in stored {
                has_identity(&group, *i, &[9; 16]).await;
            }
            group.start_all().await;
            group.put("a=1").await;
            for i in group.up() {
                group.has(i, "a", "1").await;
                let founding = group.node(i).replica().member().map(|member| member.sender.founding.clone());
                assert_eq!(founding, Some(Bytes::from_static(&[9; 16])));
            }
        }
    }

    /// It said Hello while it was empty, was founded, and then heard that there is a group: to be let in as well would have the
    /// group replace the id that it has, and it would never be ready.
    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_was_founded_meanwhile_does_not_join() {
        let mut group = Group::planned(3);
        group.start_all().await;
        group.put("a=1").await;
        let ids = |group: &Group| {
            let status = group.node(0).status().borrow().clone();
            status.members.iter().map(|m| m.node_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&group), [1, 2, 3]);
        let running = hello(group.node(0).replica());
        assert_eq!(running.state, "member");
        let replica = group.node(1).replica().clone();
        let founders = founders(&replica.settings.founders);
        let mut late = Seeker { replica, founders, waiting_for: String::new() };
        assert!(!late.join(running).await.unwrap());
        group.put("a=2").await;
        assert_eq!(ids(&group), [1, 2, 3]);
        group.has(1, "a", "2").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lists_of_founders_that_differ_found_nothing() {
        // Two halves with different lists could otherwise become two groups.
        let mut group = Group::planned(3);
        group.settings[1].founders.pop();
        group.start_all().await;
        group.sees(0, "standby", |s| s.state == "standby").await;
        group.kill(1).await;
        group.settings[1].founders = group.settings[0].founders.clone();
        group.start(1).await;
        group.put("a=1").await;
    }
}
