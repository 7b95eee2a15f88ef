//! A group of three through its life: founding, writes, crashes, restarts, hand-over, lost quorum.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use conflux_raft::{ProposeError, ReadError};
use support::Group;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_answered_and_reaches_every_member() {
    // The whole path: founding, election, append, fsync, apply, answer.
    let group = Group::of(3).await;
    let leader = group.leader().await;
    let first = group.node(leader).propose(Bytes::from_static(b"a=1"), SOON).await.unwrap();
    let second = group.node(leader).propose(Bytes::from_static(b"b=2"), SOON).await.unwrap();
    assert_eq!((first.answer.as_ref(), second.answer.as_ref()), (b"1".as_ref(), b"2".as_ref()));
    assert!(second.index > first.index);
    for i in group.up() {
        group.has(i, "a", "1").await;
        group.has(i, "b", "2").await;
    }
    let status = group.node(leader).status().borrow().clone();
    assert_eq!(
        status.members.iter().map(|m| (m.node_id, m.member.as_str())).collect::<Vec<_>>(),
        [(1, "s1-a"), (2, "s1-b"), (3, "s1-c")]
    );
    assert!(status.members.iter().all(|m| m.voter));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_founder_is_a_group_too() {
    let group = Group::of(1).await;
    group.put("a=1").await;
    group.node(0).read_barrier(SOON).await.unwrap();
    assert_eq!(group.get(0, "a").as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_shows_what_was_acknowledged_before() {
    let group = Group::of(3).await;
    let leader = group.leader().await;
    for n in 0..20 {
        group.node(leader).propose(Bytes::from(format!("n={n}")), SOON).await.unwrap();
        group.node(leader).read_barrier(SOON).await.unwrap();
        assert_eq!(group.get(leader, "n"), Some(n.to_string()));
    }
    // Only the leader serves it; the others name it.
    let follower = group.a_follower().await;
    let name = group.settings[leader].member.to_string();
    match group.node(follower).read_barrier(SOON).await {
        Err(ReadError::NotLeader { leader }) => assert_eq!(leader, Some(name.clone())),
        other => panic!("{other:?}"),
    }
    match group.node(follower).propose(Bytes::from_static(b"x=1"), SOON).await {
        Err(ProposeError::NotLeader { leader }) => assert_eq!(leader, Some(name)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_after_the_leader_is_killed_and_it_catches_up() {
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let killed = group.leader().await;
    group.kill(killed).await;
    group.put("b=2").await;
    group.start(killed).await;
    group.has(killed, "a", "1").await;
    group.has(killed, "b", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_and_started_again_keep_what_was_acknowledged() {
    let mut group = Group::of(3).await;
    for n in 0..50 {
        group.put(&format!("k{n}={n}")).await;
    }
    for i in group.up() {
        group.kill(i).await;
    }
    group.start_all().await;
    let leader = group.leader().await;
    for n in 0..50 {
        assert_eq!(group.get(leader, &format!("k{n}")), Some(n.to_string()));
    }
    group.put("after=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_of_all_keeps_everything() {
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    for i in group.up() {
        group.stop(i).await;
    }
    group.start_all().await;
    group.leader().await;
    group.put("b=2").await;
    for i in group.up() {
        group.has(i, "a", "1").await;
        group.has(i, "b", "2").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over() {
    let group = Group::of(3).await;
    group.put("a=1").await;
    let (from, to) = (group.leader().await, group.a_follower().await);
    group.node(from).transfer_leader(Some(group.settings[to].member.clone()), SOON).await.unwrap();
    group.sees(to, "itself leading", |s| s.state == "leader").await;
    group.put("b=2").await;
    assert_eq!(group.leader().await, to);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_quorum_grows_old_and_refuses_barriers() {
    // Heartbeats that nobody answers must not make a state look fresh.
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let leader = group.leader().await;
    group.sees(leader, "a fresh state", |_| group.node(leader).freshness().age < Duration::from_secs(1)).await;
    for i in group.up() {
        if i != leader {
            group.kill(i).await;
        }
    }
    match group.node(leader).read_barrier(Duration::from_secs(1)).await {
        Err(ReadError::NoQuorum(_) | ReadError::NotLeader { leader: None }) => {}
        other => panic!("{other:?}"),
    }
    group.sees(leader, "an old state", |_| group.node(leader).freshness().age > Duration::from_secs(3)).await;
    // What it has, it still shows.
    assert_eq!(group.get(leader, "a").as_deref(), Some("1"));
    // A write has no answer, and says whether it may have had an effect.
    match group.node(leader).propose(Bytes::from_static(b"b=2"), Duration::from_secs(1)).await {
        Err(ProposeError::NotLeader { .. } | ProposeError::Unknown(_)) => {}
        other => panic!("{other:?}"),
    }
    // With a quorum again it is fresh again.
    group.start_all_down().await;
    group.put("c=3").await;
    group.sees(leader, "a fresh state", |_| group.node(leader).freshness().age < Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn founders_may_start_in_any_order_and_any_of_them_may_fall() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut group = Group::planned(3);
        group.start(order[0]).await;
        group.start(order[1]).await;
        // Two of three: nothing may be founded.
        group.sees(order[0], "standby", |s| s.state == "standby").await;
        group.kill(order[1]).await;
        group.start(order[2]).await;
        group.start(order[1]).await;
        group.put("a=1").await;
        for i in group.up() {
            group.has(i, "a", "1").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn group_time_follows_the_clocks_and_never_goes_back() {
    // The application asserts that no stamp is below the one before; here the leader changes in between.
    let group = Group::of(3).await;
    let wall = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    for n in 0..6 {
        group.put(&format!("n={n}")).await;
        let leader = group.leader().await;
        group.node(leader).transfer_leader(None, SOON).await.unwrap();
    }
    let leader = group.leader().await;
    group
        .sees(leader, "the clock of the members", |_| group.node(leader).group_time_ms().abs_diff(wall()) < 1000)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_rises_once_every_member_supports_it() {
    let group = Group::of(3).await;
    for i in group.up() {
        group.sees(i, "level 2", |s| s.level == 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_refused_before_anything_is_proposed() {
    let group = Group::of(1).await;
    let big = Bytes::from(vec![b'x'; (4 << 20) + 1]);
    match group.node(0).propose(big, SOON).await {
        Err(ProposeError::TooLarge { max, .. }) => assert_eq!(max, 4 << 20),
        other => panic!("{other:?}"),
    }
    let mut largest = b"big=".to_vec();
    largest.resize(4 << 20, b'x');
    group.node(0).propose(Bytes::from(largest), SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let group = Group::tuned(1, |t| t.max_in_flight = 4);
    let mut group = group;
    group.start_all().await;
    group.leader().await;
    let node = group.node(0).clone();
    let writes = (0..200).map(|n| {
        let node = node.clone();
        tokio::spawn(async move { node.propose(Bytes::from(format!("k{n}=1")), SOON).await })
    });
    let results = futures::future::join_all(writes).await;
    let refused = results.iter().filter(|r| matches!(r, Ok(Err(ProposeError::Overloaded)))).count();
    let done = results.iter().filter(|r| matches!(r, Ok(Ok(_)))).count();
    assert_eq!(refused + done, 200);
    assert!(refused > 0 && done > 0, "{refused} refused, {done} done");
    // Room is given back.
    group.put("after=1").await;
}
