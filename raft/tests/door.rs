//! What the Raft port refuses, and that a refused message leaves the group as it was.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use conflux_common::{
    dial::MtlsConnector,
    tls::{Admission, Peers, Role, TlsContext},
};
use conflux_proto::{
    internal::{self, raft_service_client::RaftServiceClient},
    log,
};
use support::{Group, PATIENCE};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

type Client = RaftServiceClient<Channel>;

fn client(group: &Group, tls: TlsContext, to: usize) -> Client {
    let settings = &group.settings[to];
    let allowed = vec![Peers::Member(Role::Shard, Some(settings.group.clone()), settings.member.clone())];
    let expected = Admission { cluster: settings.cluster.clone(), allowed };
    let endpoint = Endpoint::from_shared(format!("http://{}", settings.raft_address())).unwrap();
    Client::new(endpoint.connect_with_connector_lazy(MtlsConnector { tls, expected }))
}

fn as_member(group: &Group, i: usize, to: usize) -> Client {
    client(group, TlsContext::load(group.settings[i].tls.clone()).unwrap(), to)
}

async fn hello(group: &Group, as_i: usize, to: usize) -> internal::HelloResponse {
    let hello = internal::HelloRequest {
        cluster: "test".into(),
        group: "s1".into(),
        member: group.settings[as_i].member.to_string(),
    };
    as_member(group, as_i, to).hello(hello).await.unwrap().into_inner()
}

fn vote(route: internal::Route, term: u64) -> internal::VoteRequest {
    let node = route.from;
    internal::VoteRequest {
        route: Some(route),
        vote: Some(log::Vote { term, node, committed: false, no_leader: false }),
        last_log: Some(log::LogId { term, node, index: 1_000_000 }),
        leader_transfer: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_of_the_group_get_in() {
    let group = Group::of(1).await;
    for uri in ["conflux://test/gateway/g1", "conflux://test/shard/s2/s2-a", "conflux://other/shard/s1/s1-b"] {
        let request = internal::HelloRequest { cluster: "test".into(), group: "s1".into(), member: "s1-a".into() };
        let answer = client(&group, group.ca.context(uri), 0).hello(request).await;
        assert!(answer.is_err(), "{uri} got in");
    }
    group.put("a=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_for_another_is_refused() {
    // A wiped member would otherwise be taken for the one that it was, and could vote twice.
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let wiped = group.a_follower().await;
    let (leader, old) = (group.leader().await, hello(&group, wiped, wiped).await);
    group.kill(wiped).await;
    group.wipe(wiped).await;
    group.start(wiped).await;
    let from = group.node(leader).status().borrow().node_id;
    let route = |to, founding: &bytes::Bytes| internal::Route {
        cluster: "test".into(),
        group: "s1".into(),
        from,
        to,
        founding: founding.clone(),
    };
    let refused = async |request| as_member(&group, leader, wiped).vote(request).await.unwrap_err().code();
    assert_eq!(refused(vote(route(old.node_id, &old.founding), 50)).await, Code::FailedPrecondition);
    group.has(wiped, "a", "1").await;
    assert_eq!(refused(vote(route(old.node_id, &old.founding), 50)).await, Code::FailedPrecondition);
    // Its new id, but of a group that was founded before.
    let new = hello(&group, leader, wiped).await;
    assert_ne!(new.node_id, old.node_id);
    let other = bytes::Bytes::from_static(&[7; 16]);
    assert_eq!(refused(vote(route(new.node_id, &other), 50)).await, Code::FailedPrecondition);
    // Another member's name under this id.
    let third = group.up().into_iter().find(|i| *i != wiped && *i != leader).unwrap();
    let request = vote(route(new.node_id, &new.founding), 50);
    let status = as_member(&group, third, wiped).vote(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn crafted_messages_of_a_member_do_no_harm() {
    let group = Group::of(3).await;
    group.put("a=1").await;
    let (leader, follower) = (group.leader().await, group.a_follower().await);
    let target = hello(&group, leader, follower).await;
    let from = group.node(leader).status().borrow().node_id;
    let term = group.node(leader).status().borrow().term;
    let route = internal::Route {
        cluster: "test".into(),
        group: "s1".into(),
        from,
        to: target.node_id,
        founding: target.founding.clone(),
    };
    let mut peer = as_member(&group, leader, follower);
    assert_eq!(peer.vote(vote(route.clone(), u64::MAX)).await.unwrap_err().code(), Code::FailedPrecondition);
    let append = |term, prev: Option<u64>, indexes: &[u64]| internal::AppendRequest {
        route: Some(route.clone()),
        vote: Some(log::Vote { term, node: from, committed: true, no_leader: false }),
        prev: prev.map(|index| log::LogId { term, node: from, index }),
        entries: indexes
            .iter()
            .map(|index| log::LogEntry {
                id: Some(log::LogId { term, node: from, index: *index }),
                payload: Some(log::log_entry::Payload::Blank(log::Blank {})),
            })
            .collect(),
        committed: None,
    };
    for request in [
        append(u64::MAX, None, &[]),
        append(term, Some(u64::MAX), &[]),
        append(term, Some(3), &[9]),
        append(term, None, &[5]),
        internal::AppendRequest { vote: None, ..append(term, None, &[]) },
    ] {
        assert_eq!(peer.append(request).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    let garbage = futures::stream::iter([internal::SnapshotChunk {
        part: Some(internal::snapshot_chunk::Part::Data(bytes::Bytes::from_static(b"garbage"))),
    }]);
    assert!(peer.install_snapshot(garbage).await.is_err());
    // An id that no member has: what is heard is remembered for each id.
    let leads = hello(&group, follower, leader).await;
    let stranger = internal::ConfirmRequest {
        route: Some(internal::Route { from: 1 << 40, to: leads.node_id, ..route.clone() }),
        wall_clock_ms: 1,
        supported_level: 1,
    };
    let status = as_member(&group, follower, leader).confirm(stranger).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    group.put("b=2").await;
    group.has(follower, "b", "2").await;
    assert_eq!(group.node(follower).status().borrow().term, term);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founding_that_was_left_half_done_is_begun_anew() {
    // The founder reached one member, then lost its disk: there must be one group, and it must not wait for ever.
    let mut group = Group::planned(3);
    group.start(1).await;
    group.start(2).await;
    let founders = &group.settings[0].founders;
    let nodes = (1u64..).zip(founders).map(|(id, f)| {
        let node = log::Node {
            member: f.member.to_string(),
            raft_address: f.raft_address.clone(),
            service_address: f.service_address.clone(),
        };
        (id, node)
    });
    let membership = log::Membership { configs: vec![log::NodeSet { ids: vec![1, 2, 3] }], nodes: nodes.collect() };
    let found = internal::FoundRequest {
        cluster: "test".into(),
        group: "s1".into(),
        founding: bytes::Bytes::from_static(&[1; 16]),
        node_id: 2,
        membership: Some(membership),
    };
    // Not by just anyone.
    let answer = as_member(&group, 2, 1).found(found.clone()).await.unwrap().into_inner();
    assert!(!answer.accepted, "{answer:?}");
    let answer = as_member(&group, 0, 1).found(found.clone()).await.unwrap().into_inner();
    assert!(answer.accepted, "{answer:?}");
    assert_eq!(hello(&group, 0, 1).await.state, "founded");
    group.start(0).await;
    group.put("a=1").await;
    let foundings: Vec<_> = [hello(&group, 0, 1).await, hello(&group, 0, 2).await].map(|h| h.founding).into();
    assert_eq!(foundings[0], foundings[1]);
    assert_ne!(foundings[0], found.founding);
    // And now nobody is founded again.
    let answer = tokio::time::timeout(PATIENCE, as_member(&group, 0, 1).found(found)).await.unwrap();
    assert!(!answer.unwrap().into_inner().accepted);
}
