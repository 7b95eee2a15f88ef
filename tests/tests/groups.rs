//! Shard groups come and go in a running federation.

use std::{collections::BTreeSet, time::Duration};

use conflux_tests::{
    Federation, Shape,
    client::Place,
    command::{conflux, done},
    until,
};
use serde_json::Value;

const NEW: &str = "shard-c";

/// Of the members that answer: which births of the group they belong to, and how many they are.
fn births(status: &Value) -> (BTreeSet<String>, usize) {
    let members = status["members"].as_array().unwrap();
    let all: Vec<String> = members.iter().filter_map(|m| m["status"]["founding"].as_str()).map(str::to_owned).collect();
    (all.iter().cloned().collect(), all.len())
}

async fn whole(federation: &Federation) -> String {
    until("three members of one birth", Duration::from_secs(60), || async {
        let status = federation.status(NEW).await.ok()?;
        let (born, count) = births(&status);
        let voters = status["members"].as_array()?.iter().filter(|m| m["voter"] == true).count();
        (born.len() == 1 && count == 3 && voters == 3).then(|| born.into_iter().next().unwrap())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_group_is_added_live_and_removed_when_it_is_empty() {
    let shape = Shape { shards: 2, replicas: 1, placement: 1, gateways: 1 };
    let mut federation = Federation::start(shape).await.unwrap();
    let members = federation.plan_group("shard-a", NEW).await.unwrap();

    // Whatever the order of their starts: they wait for the last one, and form one group.
    federation.restart(&members[2]);
    federation.restart(&members[0]);
    until("the first of them says whom it waits for", Duration::from_secs(30), || async {
        let log = std::fs::read_to_string(federation.member(&members[0]).log_file).ok()?;
        log.contains(&format!("waiting for {}", members[1])).then_some(())
    })
    .await;
    assert!(!done(&federation, &["shard", "list"]).await.contains(NEW), "two of three founders formed a group");
    federation.restart(&members[1]);
    let born = whole(&federation).await;
    assert!(done(&federation, &["shard", "list"]).await.contains(NEW));

    // The founder itself, without its disk, finds the group that is there instead of founding another.
    federation.kill(&members[0]).await;
    std::fs::remove_dir_all(federation.member(&members[0]).data_dir).unwrap();
    federation.restart(&members[0]);
    until("the founder is back under a new id", Duration::from_secs(60), || async {
        let status = federation.status(NEW).await.ok()?;
        let members_now = status["members"].as_array()?.clone();
        members_now
            .iter()
            .any(|m| m["member"] == members[0].as_str() && m["voter"] == true && m["node_id"].as_u64() > Some(1000))
            .then_some(())
    })
    .await;
    assert_eq!(whole(&federation).await, born);

    // New tenants come by weight.
    for (shard, weight) in [("shard-a", "0"), ("shard-b", "0"), (NEW, "300")] {
        done(&federation, &["shard", "weight", shard, weight]).await;
    }
    let tenant = federation.tenant("newcomer", &["admin"]).await.unwrap();
    let place = Place::new("newcomer", "shop", "test", "a.json");
    tenant.put(&place, "{}").await.unwrap().expect(&[201]).unwrap();
    let shown = federation.operator().get("/api/v1/admin/tenants/newcomer").await.unwrap().json();
    assert_eq!(shown["shard"], NEW);

    // Not while it has tenants.
    let said = conflux(&federation, &["shard", "remove", NEW]).await;
    assert_eq!(said.code, 5, "{}", said.err);
    assert!(said.err.contains("1 tenant is still on shard-c"), "{}", said.err);
    done(&federation, &["tenant", "delete", "newcomer", "--yes"]).await;
    until("the tenant is gone", Duration::from_secs(30), || async {
        (federation.operator().get("/api/v1/admin/tenants/newcomer").await.ok()?.status == 404).then_some(())
    })
    .await;
    done(&federation, &["shard", "remove", NEW]).await;

    // Its members still run and report; it stays away, and takes no tenants.
    until("a report is refused", Duration::from_secs(30), || async {
        let told = |name: &String| std::fs::read_to_string(federation.member(name).log_file).unwrap_or_default();
        members.iter().any(|name| told(name).contains("removed by an operator")).then_some(())
    })
    .await;
    assert!(!done(&federation, &["shard", "list"]).await.contains(NEW));
    let status = done(&federation, &["cluster", "status"]).await;
    assert!(!status.contains(NEW), "{status}");
    done(&federation, &["shard", "weight", "shard-a", "100"]).await;
    let said = done(&federation, &["tenant", "create", "another"]).await;
    assert!(said.contains("shard-a"), "{said}");
}
