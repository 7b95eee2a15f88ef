//! All processes are killed at once and started again: nothing acknowledged is lost.

use std::time::Duration;

use conflux_tests::{
    Federation, Shape,
    client::Place,
    load::{self, Writers},
    replica, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_all_members_are_killed_at_once() {
    let shape = Shape { shards: 2, replicas: 3, placement: 3, gateways: 1 };
    let mut federation = Federation::start(shape).await.unwrap();
    federation.tenant_on("made-before", Some("shard-b"), &["admin"]).await.unwrap();
    let load = Writers::start(&federation.demo(), "demo", "w", 8, 2048);
    until("there is load", Duration::from_secs(60), || async { (load.count() > 300).then_some(()) }).await;
    federation.kill_all().await;
    let (acknowledged, _) = load.finish().await;

    federation.start_again(shape).await.unwrap();
    let demo = federation.demo();
    let group = federation.operator().get("/api/v1/admin/tenants/demo").await.unwrap().expect(&[200]).unwrap().json();
    let group = group["shard"].as_str().unwrap().to_owned();
    load::verify(&demo, "demo", &acknowledged).await;
    replica::verify_on_each(&federation, &group, "demo", &acknowledged).await;

    // Placement's records and the directory are there too, and writes go on.
    let tenants = federation.operator().get("/api/v1/admin/tenants").await.unwrap().expect(&[200]).unwrap().text();
    assert!(tenants.contains("made-before") && tenants.contains("demo"));
    let place = Place::new("demo", "after", "test", "a.json");
    demo.put(&place, "{}").await.unwrap().expect(&[201]).unwrap();
}
