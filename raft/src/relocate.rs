//! A member that comes back under other addresses tells the others, and the leader logs them.
//!
//! After its start a member tells each other one where it is, until the leader says that the committed membership has
//! just these addresses. Each of them dials it there at once, so that a group of which all members moved can elect; it
//! finds the others by the founders in its settings when their old addresses are silent.
//!
//! openraft warns that a wrong address of a voter can split a group (`dynamic_membership`, "Updating Node Metadata"):
//! another process might answer and vote. Not here: who answers must have the certificate of that member's name, and
//! every message names the founding and both node ids, so that a process without that member's log refuses it. Besides,
//! an address is believed only after the member has answered there under its id.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use conflux_common::tls::PeerId;
use conflux_proto::internal;
use rand::Rng;
use tonic::Status;

use crate::{
    app::App,
    codec, membership,
    replica::{Life, Member, Replica},
    types::Node,
};

const WITHIN: Duration = Duration::from_secs(2);
/// A change of the membership waits for a quorum.
const LOGGED_WITHIN: Duration = Duration::from_secs(12);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs until the group has this member's addresses, or the replica stops.
pub(crate) async fn run<A: App>(replica: Arc<Replica<A>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match replica.life() {
            Life::Stopped => return,
            Life::Standby => {}
            Life::Member(member) => {
                if settle(&replica, &member).await {
                    return;
                }
            }
        }
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        tokio::select! {
            () = replica.stop.cancelled() => return,
            () = tokio::time::sleep(jittered) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// True once the leader says that all is as it should be.
async fn settle<A: App>(replica: &Arc<Replica<A>>, member: &Arc<Member<A>>) -> bool {
    let (own, server) = (replica.own_node(), member.server());
    // None: removed, or the log that it has so far is from before its admission.
    let Some(known) = server.membership_config.membership().get_node(&member.id()).cloned() else { return false };
    if known != own {
        tracing::info!(settings = %own, group = %known, "the group knows this member under other addresses: telling it");
    }
    let request = |to: u64| internal::RelocateRequest {
        route: Some(member.sender.route(to)),
        node: Some(codec::node_to_proto(&own)),
    };
    let others = server.membership_config.nodes().filter(|(id, _)| **id != member.id());
    let told = others.map(async |(id, node)| {
        for address in addresses(replica, node) {
            let at = (node.member.as_str(), address.as_str());
            let asked = request(*id);
            match replica.links.call_at(at, LOGGED_WITHIN, async |client| client.relocate(asked).await).await {
                Ok(answer) => return answer.settled,
                Err(status) => tracing::debug!(member = node.member, address, %status, "not told"),
            }
        }
        false
    });
    let told = futures::future::join_all(told).await;
    if told.contains(&true) {
        return true;
    }
    // The leader changes its own record; alone in its group it has nobody to tell.
    member.is_leader() && (known == own || log(replica, member, member.id(), own).await.is_ok())
}

/// Where this member may be found: as the group knows it, and as the settings name it.
fn addresses<A: App>(replica: &Replica<A>, node: &Node) -> BTreeSet<String> {
    let founders = replica.settings.founders.iter().filter(|f| f.member.as_str() == node.member);
    founders.map(|f| f.raft_address.clone()).chain([node.raft_address.clone()]).collect()
}

/// Answers a member that tells where it is.
pub(crate) async fn answer<A: App>(
    replica: &Arc<Replica<A>>,
    member: &Arc<Member<A>>,
    (from, peer): (u64, &PeerId),
    request: &internal::RelocateRequest,
) -> Result<internal::RelocateResponse, Status> {
    let Some(node) = request.node.as_ref().map(codec::node_from_proto) else {
        return Err(Status::invalid_argument("the node is missing"));
    };
    if node.member != peer.member.as_str() {
        return Err(Status::failed_precondition("the name is not the certificate's"));
    }
    if !membership::is_address(&node.raft_address) || !membership::is_address(&node.service_address) {
        return Err(Status::invalid_argument("an address is not host:port"));
    }
    let server = member.server();
    let Some(known) = server.membership_config.membership().get_node(&from).cloned() else {
        return Err(Status::failed_precondition(format!("node {from} is no member")));
    };
    answers_there(replica, from, &node).await?;
    replica.links.moved(&node.member, &node.raft_address);
    if !server.state.is_leader() {
        return Ok(internal::RelocateResponse { settled: false });
    }
    if known != node {
        log(replica, member, from, node).await?;
    }
    Ok(internal::RelocateResponse { settled: true })
}

/// Whoever is there must be that member, with that member's log.
async fn answers_there<A: App>(replica: &Replica<A>, id: u64, node: &Node) -> Result<(), Status> {
    let hello = internal::HelloRequest {
        cluster: replica.settings.cluster.to_string(),
        group: replica.settings.group.to_string(),
        member: replica.settings.member.to_string(),
    };
    let at = (node.member.as_str(), node.raft_address.as_str());
    match replica.links.call_at(at, WITHIN, async |client| client.hello(hello).await).await {
        Ok(answer) if answer.node_id == id => Ok(()),
        Ok(answer) => Err(Status::failed_precondition(format!("node {} is there, not {id}", answer.node_id))),
        Err(status) => {
            tracing::warn!(member = node.member, address = node.raft_address, %status, "a member cannot be reached where it says it is");
            Err(Status::failed_precondition(format!("{} does not answer at {}", node.member, node.raft_address)))
        }
    }
}

async fn log<A: App>(replica: &Arc<Replica<A>>, member: &Arc<Member<A>>, id: u64, node: Node) -> Result<(), Status> {
    tracing::info!(id, %node, "a member has other addresses now");
    membership::set_node(replica, member, id, node).await.map_err(|e| Status::unavailable(e.to_string()))
}
