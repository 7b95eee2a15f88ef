//! Members that come, go, lag behind and lose their disks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use conflux_common::testing::free_address;
use support::Group;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_returns_under_a_new_id() {
    // Under its old id it could vote twice.
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let wiped = group.a_follower().await;
    let old = group.node(wiped).status().borrow().node_id;
    group.kill(wiped).await;
    group.wipe(wiped).await;
    group.start(wiped).await;
    group.has(wiped, "a", "1").await;
    group
        .sees(wiped, "itself as a voter of three", |s| {
            s.node_id > 1000 && s.members.len() == 3 && s.members.iter().any(|m| m.node_id == s.node_id && m.voter)
        })
        .await;
    let leader = group.leader().await;
    let members = group.node(leader).status().borrow().members.clone();
    assert!(members.iter().all(|m| m.node_id != old), "{members:#?}");
    // It counts: the group goes on with it and one other.
    let other = group.up().into_iter().find(|i| *i != wiped && *i != leader).unwrap();
    group.kill(other).await;
    group.put("b=2").await;
    group.has(wiped, "b", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laggard_catches_up_by_snapshot() {
    // What it lacks is purged everywhere: only a snapshot can help it.
    let mut group = Group::tuned(3, |t| t.keep_log_bytes = 0);
    group.start_all().await;
    group.put("a=1").await;
    let late = group.a_follower().await;
    group.kill(late).await;
    // The log is purged in steps of about 1 MiB.
    let row = "x".repeat(100_000);
    for n in 0..40 {
        group.put(&format!("k{n}={row}")).await;
    }
    for i in group.up() {
        group.has(i, "k39", &row).await;
        group.node(i).compact().await.unwrap();
        group.sees(i, "a purged log", |s| s.purged_index > 20).await;
    }
    group.start(late).await;
    group.has(late, "k39", &row).await;
    assert!(group.node(late).app().replaced.load(std::sync::atomic::Ordering::Relaxed) > 0);
    assert_eq!(group.rows(late), group.rows(group.leader().await));
    // And goes on from there, also after a restart.
    group.put("b=2").await;
    group.has(late, "b", "2").await;
    group.kill(late).await;
    group.start(late).await;
    group.has(late, "b", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_purges_are_triggered_by_bytes_on_every_member() {
    let mut group = Group::tuned(3, |t| {
        t.snapshot_after_bytes = 3 << 20;
        t.keep_log_bytes = 2 << 20;
    });
    group.start_all().await;
    let row = "x".repeat(100_000);
    for n in 0..100 {
        group.put(&format!("k{n}={row}")).await;
    }
    for i in group.up() {
        group.sees(i, "a snapshot and a purged log", |s| s.snapshot_index > 0 && s.purged_index > 0).await;
        let status = group.node(i).status().borrow().clone();
        assert!(status.last_log_index > status.purged_index + 10, "nothing was kept: {status:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_member_waits_for_an_operator() {
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let new = group.plan_another();
    group.start(new).await;
    group.sees(new, "standby", |s| s.state == "standby").await;
    let leader = group.leader().await;
    group.node(leader).admit(group.settings[new].member.clone(), SOON).await.unwrap();
    group.has(new, "a", "1").await;
    group.sees(leader, "four voters", |s| s.members.iter().filter(|m| m.voter).count() == 4).await;
    // And out again: its id is not seen any more.
    group.node(leader).remove(group.settings[new].member.clone(), SOON).await.unwrap();
    group.sees(leader, "three voters", |s| s.members.len() == 3).await;
    group.put("b=2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_would_end_the_quorum_is_refused() {
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let leader = group.leader().await;
    let others: Vec<usize> = group.up().into_iter().filter(|i| *i != leader).collect();
    group.kill(others[0]).await;
    let name = group.settings[others[1]].member.clone();
    match group.node(leader).remove(name, SOON).await {
        Err(conflux_raft::ProposeError::Refused(why)) => assert!(why.contains("no quorum"), "{why}"),
        other => panic!("{other:?}"),
    }
    // Nothing was changed.
    assert_eq!(group.node(leader).status().borrow().members.len(), 3);
    group.put("b=2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_to_be_removed_hands_over_to_one_that_stays() {
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let leader = group.leader().await;
    let name = group.settings[leader].member.clone();
    let heir = match group.node(leader).remove(name.clone(), SOON).await {
        Err(conflux_raft::ProposeError::NotLeader { leader: Some(heir) }) => heir,
        other => panic!("{other:?}"),
    };
    let heir = group.settings.iter().position(|s| s.member.as_str() == heir).unwrap();
    assert_ne!(heir, leader);
    group.node(heir).remove(name, SOON).await.unwrap();
    group.sees(heir, "two voters", |s| s.members.len() == 2).await;
    group.kill(leader).await;
    group.put("b=2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_voter_is_not_removed() {
    let group = Group::of(1).await;
    match group.node(0).remove(group.settings[0].member.clone(), SOON).await {
        Err(conflux_raft::ProposeError::Refused(why)) => assert!(why.contains("only voter"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Other ports for this member, which is down; its own list of founders says so too.
fn move_away(group: &mut Group, i: usize) -> String {
    let (raft, service) = (free_address(), free_address());
    let settings = &mut group.settings[i];
    (settings.raft_listen, settings.service_listen) = (raft, service);
    let own = settings.member.clone();
    for founder in settings.founders.iter_mut().filter(|f| f.member == own) {
        (founder.raft_address, founder.service_address) = (raft.to_string(), service.to_string());
    }
    raft.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moved_is_found_under_its_new_addresses() {
    // The others dial what is in the membership; it must get there without an operator, under the same id.
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    for moved in [group.a_follower().await, group.leader().await] {
        let id = group.node(moved).status().borrow().node_id;
        group.kill(moved).await;
        let address = move_away(&mut group, moved);
        group.put("b=2").await;
        group.start(moved).await;
        for i in group.up() {
            group
                .sees(i, "the new address", |s| s.members.iter().any(|m| m.node_id == id && m.raft_address == address))
                .await;
        }
        group.has(moved, "b", "2").await;
        assert_eq!(group.node(moved).status().borrow().node_id, id);
    }
    // It counts: the group goes on with it and one other.
    let leader = group.leader().await;
    group.kill(leader).await;
    group.put("c=3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_which_all_members_moved_finds_itself_by_its_founders() {
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    for i in 0..3 {
        group.kill(i).await;
        move_away(&mut group, i);
    }
    let own = |i: usize| group.settings[i].founders.iter().find(|f| f.member == group.settings[i].member).cloned();
    let founders: Vec<_> = (0..3).filter_map(own).collect();
    for settings in &mut group.settings {
        settings.founders = founders.clone();
    }
    group.start_all().await;
    group.put("b=2").await;
    let addresses: Vec<String> = founders.iter().map(|f| f.raft_address.clone()).collect();
    for i in 0..3 {
        group.has(i, "a", "1").await;
        group.has(i, "b", "2").await;
        group.sees(i, "the new addresses", |s| s.members.iter().all(|m| addresses.contains(&m.raft_address))).await;
        assert!(group.node(i).status().borrow().node_id < 1000, "nobody joined anew");
    }
}
