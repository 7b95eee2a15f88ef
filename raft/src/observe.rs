//! Turns openraft's metrics into [`GroupStatus`], Prometheus series and failures.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::{ServerState, async_runtime::watch::WatchReceiver, errors::Fatal};
use tokio::time::MissedTickBehavior;

use crate::{
    app::App,
    error::FatalError,
    membership,
    replica::{Life, Member, Replica, ServerMetrics},
    status::{GroupStatus, MemberStatus},
    types::Node,
};

/// Indexes move all the time: they are told so often; elections and memberships at once.
const EVERY: Duration = Duration::from_millis(100);

/// Runs until the replica stops.
pub(crate) async fn run<A: App>(replica: Arc<Replica<A>>) {
    let mut life = replica.watch_life();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut member = replica.member();
    // Kept over the rounds: a fresh receiver has seen nothing yet and would wake at once, round after round.
    let mut server = member.as_ref().map(|m| m.raft.server_metrics());
    let mut known = BTreeMap::new();
    loop {
        if let Some(member) = &member {
            note_addresses(&replica, &member.server(), &mut known);
            tell(&replica, member);
        }
        let changed = async {
            match &mut server {
                Some(server) => server.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = replica.stop.cancelled() => return,
            _ = ticks.tick() => {}
            lives = life.changed() => {
                if lives.is_err() {
                    return;
                }
                member = replica.member();
                server = member.as_ref().map(|m| m.raft.server_metrics());
            }
            goes_on = changed => if !goes_on { server = None },
        }
    }
}

/// The last status: of a node that has stopped.
pub(crate) fn stopped<A: App>(replica: &Replica<A>) {
    replica.status.send_modify(|status| {
        status.state = "stopped";
        status.leader = None;
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whoever is new or has moved is dialled at the address that the membership now has.
fn note_addresses<A: App>(replica: &Replica<A>, server: &ServerMetrics, known: &mut BTreeMap<u64, Node>) {
    let nodes = server.membership_config.nodes();
    let news: Vec<_> = nodes.filter(|(id, node)| known.get(id) != Some(node)).collect();
    for (id, node) in news {
        replica.links.moved(&node.member, &node.raft_address);
        known.insert(*id, node.clone());
    }
}

fn tell<A: App>(replica: &Replica<A>, member: &Member<A>) {
    let all = member.raft.metrics().borrow_watched().clone();
    if let Err(fatal) = &all.running_state
        && !matches!(fatal, Fatal::Stopped)
        && matches!(replica.life(), Life::Member(_))
    {
        replica.fail(FatalError(format!("consensus failed: {fatal}")));
    }
    replica.note_term(all.current_term);
    let voters: BTreeSet<u64> = all.membership_config.voter_ids().collect();
    let matched = |id: &u64| all.replication.as_ref()?.get(id)?.as_ref().map(|at| at.index);
    let heard = (all.state == ServerState::Leader).then(|| membership::heard(member, &member.server()));
    let reachable = |id: &u64| heard.as_ref().map(|heard| *id == member.id() || heard.contains(id));
    let members = all.membership_config.nodes().map(|(id, node)| MemberStatus {
        node_id: *id,
        member: node.member.clone(),
        raft_address: node.raft_address.clone(),
        service_address: node.service_address.clone(),
        voter: voters.contains(id),
        matched_index: matched(id),
        reachable: reachable(id),
    });
    let index = |id: &Option<crate::types::LogId>| id.as_ref().map_or(0, |id| id.index);
    let status = GroupStatus {
        node_id: member.id(),
        state: match all.state {
            ServerState::Leader => "leader",
            ServerState::Candidate => "candidate",
            ServerState::Follower => "follower",
            ServerState::Shutdown => "stopped",
            _ => "learner",
        },
        term: all.current_term,
        leader: all.current_leader,
        last_log_index: all.last_log_index.unwrap_or(0),
        committed_index: index(&all.cluster_committed).max(index(&all.local_committed)),
        applied_index: replica.applied(),
        snapshot_index: index(&all.snapshot),
        purged_index: index(&all.purged),
        level: replica.state.level(),
        supported_level: A::LEVEL,
        version: env!("CARGO_PKG_VERSION"),
        founding: hex(&member.sender.founding),
        started_ms: replica.started_ms,
        disk: *replica.disk.lock(),
        membership_index: index(all.committed_membership_config.log_id()),
        restored_ms: replica.state.restored_ms(),
        members: members.collect(),
    };
    replica.series.record(&status);
    let age = replica.confirmations.lock().age(status.applied_index, std::time::Instant::now());
    replica.series.load(replica.in_flight(), age);
    replica.status.send_if_modified(|old| {
        let changed = *old != status;
        if old.leader != status.leader {
            replica.series.leader_changed();
            tracing::info!(leader = ?status.leader, term = status.term, "the leader changed");
        }
        *old = status;
        changed
    });
}
