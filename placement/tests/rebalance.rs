//! Plans of moves from what shards say of their tenants, on a real member; the shards are stand-ins.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::{Arc, atomic::Ordering};

use conflux_proto::internal::TenantLoad;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Group, Manner, until};

async fn get(group: &Group, path: &str) -> Value {
    let answer = group.operator(Method::GET, path, None, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.json);
    answer.json
}

/// An operator adds a shard, sees what should go there, makes the moves, and is told that nothing is left to do; then takes
/// it out again.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_filled_and_emptied_by_plan() {
    let group = Arc::new(Group::start(1).await);
    let (a, b) = (Arc::<Manner>::default(), Arc::<Manner>::default());
    let _a = group.with_shard_that("shard-a", a.clone()).await;
    let mut loads = Vec::new();
    for name in ["t1", "t2", "t3", "t4"] {
        let body = json!({"name": name, "shard": "shard-a"});
        let made = group.operator(Method::POST, "/api/v1/admin/tenants", Some(body), &[]).await;
        let (tenant_id, row_bytes) = (made.json["id"].as_u64().unwrap(), 100 << 20);
        loads.push(TenantLoad { tenant_id, row_bytes, state: "active".into(), ..Default::default() });
    }
    a.loads.lock().unwrap().clone_from(&loads);
    let alone = get(&group, "/api/v1/admin/rebalance").await;
    assert_eq!((&alone["moves"], &alone["shards"][0]["before"]["bytes"]), (&json!([]), &json!(400 << 20)));

    let _b = group.with_shard_that("shard-b", b.clone()).await;
    let plan = get(&group, "/api/v1/admin/rebalance").await;
    let moves = plan["moves"].as_array().unwrap();
    assert_eq!((moves.len(), &plan["bytes"]), (2, &json!(200 << 20)), "{plan}");
    assert!(moves.iter().all(|m| m["to"] == "shard-b" && m["bytes"] == json!(100 << 20)), "{plan}");
    assert_eq!(
        (&plan["shards"][1]["before"]["load_percent"], &plan["shards"][1]["after"]["load_percent"]),
        (&json!(0), &json!(100))
    );
    for m in moves {
        let body = json!({"tenant": m["tenant"], "to": m["to"]});
        let begun = group.operator(Method::POST, "/api/v1/admin/moves", Some(body), &[]).await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{:?}", begun.json);
    }
    until("the moves are done", || async {
        let under_way = get(&group, "/api/v1/admin/moves?state=under_way").await;
        (under_way["moves"] == json!([])).then_some(())
    })
    .await;
    let moved = |m: &TenantLoad| get_shard(&group, m.tenant_id);
    let (mut on_a, mut on_b) = (Vec::new(), Vec::new());
    for load in &loads {
        if moved(load).await == "shard-b" { on_b.push(load.clone()) } else { on_a.push(load.clone()) }
    }
    a.loads.lock().unwrap().clone_from(&on_a);
    b.loads.lock().unwrap().clone_from(&on_b);
    let again = get(&group, "/api/v1/admin/rebalance").await;
    assert_eq!((&again["moves"], &again["shards"][1]["before"]["tenants"]), (&json!([]), &json!(2)), "{again}");

    let drained = get(&group, "/api/v1/admin/rebalance?drain=shard-b").await;
    assert_eq!(drained["moves"].as_array().unwrap().len(), 2, "{drained}");
    assert!(drained["moves"][0]["why"].as_str().unwrap().contains("drained"), "{drained}");
    b.is_silent.store(true, Ordering::SeqCst);
    let silent = get(&group, "/api/v1/admin/rebalance?drain=shard-b").await;
    assert_eq!(silent["moves"], json!([]));
    assert!(silent["notes"][0].as_str().unwrap().contains("does not answer"), "{silent}");
    assert!(silent["shards"][1]["trouble"].is_string(), "{silent}");
    let unknown = group.operator(Method::GET, "/api/v1/admin/rebalance?drain=shard-z", None, &[]).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

async fn get_shard(group: &Group, id: u64) -> String {
    let all = get(group, "/api/v1/admin/tenants").await;
    let tenants = all["tenants"].as_array().unwrap();
    tenants.iter().find(|t| t["id"] == json!(id)).unwrap()["shard"].as_str().unwrap().to_owned()
}
