//! A shard leader is killed again and again under load: nothing acknowledged is lost, writes resume by themselves,
//! stale reads never fail.

use std::time::{Duration, Instant};

use conflux_tests::{
    Federation, Shape,
    client::Place,
    load::{self, StaleReader, Writers},
    replica, until,
};

/// `kills` leader kills with bodies of `bytes`; prints the distribution of the gap.
async fn kill_leaders(kills: usize, writers: usize, bytes: usize) {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    federation.raise_quotas("demo").await.unwrap();
    let demo = federation.demo();
    let steady = Place::new("demo", "load", "test", "steady.json");
    demo.put(&steady, "{\"steady\": true}").await.unwrap().expect(&[201]).unwrap();
    until("all replicas serve it", Duration::from_secs(10), || async {
        let all = futures::future::join_all((0..9).map(|_| demo.fetch(&steady, ""))).await;
        all.into_iter().all(|a| a.is_ok_and(|a| a.status == 200)).then_some(())
    })
    .await;
    let reader = StaleReader::start(&demo, steady);
    let load = Writers::start(&demo, "demo", "w", writers, bytes);

    let mut gaps = Vec::new();
    for _ in 0..kills {
        let before = load.count();
        until("the load runs", Duration::from_secs(30), || async { (load.count() > before + 20).then_some(()) }).await;
        let leader = federation.leader("shard-a").await;
        let killed = Instant::now();
        federation.kill(&leader.member).await;
        until("writes resume", Duration::from_secs(30), || async {
            load.last().is_some_and(|last| last > killed + Duration::from_millis(50)).then_some(())
        })
        .await;
        gaps.push(load.gap(killed, Instant::now()));
        federation.restart(&leader.member);
        until("the killed member is back", Duration::from_secs(60), || async {
            let status = federation.status("shard-a").await.ok()?;
            let members = status["members"].as_array()?.clone();
            members.iter().all(|m| m["status"]["leader"].is_u64()).then_some(())
        })
        .await;
    }
    let (acknowledged, refused) = load.finish().await;
    let (served, failed) = reader.finish().await;
    gaps.sort();
    let at = |q: usize| gaps[(gaps.len() - 1) * q / 100];
    println!(
        "{kills} leader kills with bodies of {bytes} B: {} writes acknowledged, {} refused, {served} stale reads, \
         gap min {:?} p50 {:?} p90 {:?} max {:?}",
        acknowledged.len(),
        refused.len(),
        at(0),
        at(50),
        at(90),
        at(100)
    );
    assert!(failed.is_empty(), "{} stale reads failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    assert!(refused.is_empty(), "{} writes were refused: {:?}", refused.len(), &refused[..refused.len().min(5)]);
    load::verify(&demo, "demo", &acknowledged).await;
    replica::verify_on_each(&federation, "shard-a", "demo", &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_leader_kills_with_small_writes() {
    kill_leaders(20, 8, 1 << 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_kills_with_the_largest_writes() {
    kill_leaders(20, 2, 1 << 20).await;
}
