//! A replica that slept through compaction comes back by snapshot; a wiped one comes back as a new member.

use std::time::Duration;

use conflux_tests::{
    Federation, Shape,
    load::{self, Writers},
    replica, until,
};

/// How many entries pass while the replica sleeps. The full figure of 50,000 is run with CONFLUX_TEST_ENTRIES=50000.
fn entries() -> usize {
    std::env::var("CONFLUX_TEST_ENTRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(3000)
}

async fn status_of(federation: &Federation, member: &str) -> Option<serde_json::Value> {
    let status = federation.status("shard-a").await.ok()?;
    status["members"].as_array()?.iter().find(|m| m["member"] == member).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_slept_comes_back_by_snapshot_and_a_wiped_one_as_a_new_voter() {
    let settings = ["shard:member.raft.snapshot_after_bytes=1000000", "shard:member.raft.keep_log_bytes=100000"];
    let mut federation = Federation::start_with(Shape::ONE_GROUP, &settings).await.unwrap();
    federation.raise_quotas("demo").await.unwrap();
    let demo = federation.demo();
    let leader = federation.leader("shard-a").await.member;
    let sleeper = federation.members("shard-a").into_iter().find(|m| m.member != leader).unwrap().member;
    federation.kill(&sleeper).await;
    let load = Writers::start(&demo, "demo", "w", 48, 256);
    until("the entries are written", Duration::from_secs(600), || async { (load.count() >= entries()).then_some(()) })
        .await;
    let (acknowledged, refused) = load.finish().await;
    assert!(refused.is_empty(), "{:?}", &refused[..refused.len().min(3)]);

    // Those that stayed have compacted: the log alone cannot bring the sleeper back.
    let purged = until("the log was purged", Duration::from_secs(30), || async {
        let status = status_of(&federation, &leader).await?;
        status["status"]["purged_index"].as_u64().filter(|p| *p > 0)
    })
    .await;
    let lead = federation.member(&leader);
    let leader_before = Federation::resident_bytes(lead.pid);
    federation.restart(&sleeper);
    until("the sleeper has caught up", Duration::from_secs(120), || async {
        let status = status_of(&federation, &sleeper).await?;
        (status["status"]["applied_index"].as_u64()? >= purged).then_some(())
    })
    .await;
    let (leader_after, own) =
        (Federation::resident_bytes(lead.pid), Federation::resident_bytes(federation.member(&sleeper).pid));
    println!(
        "{} entries slept through: leader {} -> {} MiB, sleeper {} MiB",
        acknowledged.len(),
        leader_before >> 20,
        leader_after >> 20,
        own >> 20
    );
    replica::verify_on_each(&federation, "shard-a", "demo", &acknowledged).await;

    // Wiped: refused under its old id, back as a learner with a new one, then voter.
    let old = status_of(&federation, &sleeper).await.unwrap()["status"]["node_id"].as_u64().unwrap();
    federation.kill(&sleeper).await;
    std::fs::remove_dir_all(federation.member(&sleeper).data_dir).unwrap();
    federation.restart(&sleeper);
    let new = until("the wiped member is a voter again", Duration::from_secs(120), || async {
        let status = status_of(&federation, &leader).await?;
        let members = status["status"]["members"].as_array()?.clone();
        let me = members.iter().find(|m| m["member"] == sleeper.as_str() && m["voter"] == true)?;
        me["node_id"].as_u64().filter(|id| *id != old)
    })
    .await;
    assert!(new > old, "a node id is never used again: {old} -> {new}");
    replica::verify_on_each(&federation, "shard-a", "demo", &acknowledged).await;
    load::verify(&demo, "demo", &acknowledged).await;
}
