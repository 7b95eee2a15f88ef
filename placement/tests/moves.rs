//! Moves on a placement group of real members on loopback; the shards are stand-ins that follow the record.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::{Arc, atomic::Ordering};

use conflux_placement::settings::MoveSettings;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Answer, Group, Manner, until};
use tokio::task::JoinHandle;

/// A group with two shards and a tenant on the first of them.
struct Federation {
    group: Arc<Group>,
    a: Arc<Manner>,
    b: Arc<Manner>,
    _serving: [JoinHandle<()>; 2],
}

impl Federation {
    async fn start(members: usize, settings: MoveSettings) -> Self {
        let group = Arc::new(Group::start_with(members, settings).await);
        let (a, b) = (Arc::<Manner>::default(), Arc::<Manner>::default());
        let serving =
            [group.with_shard_that("shard-a", a.clone()).await, group.with_shard_that("shard-b", b.clone()).await];
        let federation = Self { group, a, b, _serving: serving };
        federation.tenant("acme").await;
        federation
    }

    async fn tenant(&self, name: &str) {
        let made = self.post("/api/v1/admin/tenants", json!({"name": name, "shard": "shard-a"})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.json);
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.group.operator(Method::POST, path, Some(body), &[]).await
    }

    async fn get(&self, path: &str) -> Value {
        self.group.operator(Method::GET, path, None, &[]).await.json
    }

    async fn start_move(&self, tenant: &str) -> u64 {
        let begun = self.post("/api/v1/admin/moves", json!({"tenant": tenant, "to": "shard-b"})).await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{:?}", begun.json);
        begun.json["id"].as_u64().unwrap()
    }

    async fn show(&self, id: u64) -> Value {
        self.get(&format!("/api/v1/admin/moves/{id}")).await
    }

    /// The move as soon as it is in this state.
    async fn reaches(&self, id: u64, state: &str) -> Value {
        until(&format!("move {id} is {state}"), || async {
            let now = self.show(id).await;
            (now["state"] == state).then_some(now)
        })
        .await
    }
}

/// Enough for machines that have much else to do: these tests are not of speed.
fn patient() -> MoveSettings {
    MoveSettings { freeze_budget_ms: 10_000, ..MoveSettings::default() }
}

/// The way of a move through the real path: REST, Raft, the reconciler, both shards; and what an operator sees of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_and_the_operator_sees_it() {
    let federation = Federation::start(1, patient()).await;
    let id = federation.start_move("acme").await;
    let done = federation.reaches(id, "done").await;
    assert_eq!((&done["from"], &done["to"], &done["bytes"]), (&json!("shard-a"), &json!("shard-b"), &json!(300)));
    assert!(done["pause_ms"].as_u64().unwrap() > 0 && done["ended_ms"].as_u64().unwrap() > 0, "{done}");
    let tenant = federation.get("/api/v1/admin/tenants/acme").await;
    assert_eq!((&tenant["shard"], &tenant["epoch"], &tenant["move"]), (&json!("shard-b"), &json!(2), &json!(null)));
    let again = federation.post("/api/v1/admin/moves", json!({"tenant": "acme", "to": "shard-b"})).await;
    assert_eq!(again.status, StatusCode::PRECONDITION_FAILED, "{:?}", again.json);
    let listed = federation.get("/api/v1/admin/moves?tenant=acme&state=ended").await;
    assert_eq!(listed["moves"][0]["id"], json!(id));
    let none = federation.get("/api/v1/admin/moves?state=under_way").await;
    assert_eq!(none["moves"], json!([]));
    let wrong = federation.group.operator(Method::GET, "/api/v1/admin/moves?state=lost", None, &[]).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let missing = federation.group.operator(Method::GET, "/api/v1/admin/moves/99", None, &[]).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

/// Pages join to the list, newest first.
#[tokio::test(flavor = "multi_thread")]
async fn moves_are_listed_in_pages() {
    let federation = Federation::start(1, patient()).await;
    federation.b.never_copies.store(true, Ordering::SeqCst);
    for name in ["t1", "t2"] {
        federation.tenant(name).await;
    }
    for tenant in ["acme", "t1", "t2"] {
        federation.start_move(tenant).await;
    }
    let first = federation.get("/api/v1/admin/moves?limit=2").await;
    let ids =
        |page: &Value| page["moves"].as_array().unwrap().iter().map(|m| m["id"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(&first), [3, 2]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = federation.get(&format!("/api/v1/admin/moves?limit=2&cursor={cursor}")).await;
    assert_eq!((ids(&second), &second["next_cursor"]), (vec![1], &json!(null)));
    // Two at a shard; the third waits, and says so.
    let waiting = until("the third waits for its turn", || async {
        let now = federation.show(3).await;
        (now["progress"]["waits_for_turn"] == true).then_some(now)
    })
    .await;
    assert!(waiting["step"].as_str().unwrap().contains("turn"), "{waiting}");
    federation.b.never_copies.store(false, Ordering::SeqCst);
    for id in 1..=3 {
        federation.reaches(id, "done").await;
    }
}

/// A move that was cancelled leaves the tenant where it was, under the epoch that it had; until then it cannot be deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_cancelled() {
    let federation = Federation::start(1, patient()).await;
    federation.b.never_copies.store(true, Ordering::SeqCst);
    let id = federation.start_move("acme").await;
    let refused = federation.group.operator(Method::DELETE, "/api/v1/admin/tenants/acme", None, &[]).await;
    assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
    let cancelled = federation.post(&format!("/api/v1/admin/moves/{id}/cancel"), json!({})).await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED, "{:?}", cancelled.json);
    let ended = federation.reaches(id, "given_up").await;
    assert!(ended["reason"].as_str().unwrap().contains("cancelled by"), "{ended}");
    let tenant = federation.get("/api/v1/admin/tenants/acme").await;
    assert_eq!((&tenant["shard"], &tenant["epoch"]), (&json!("shard-a"), &json!(1)));
    let gone = federation.group.operator(Method::DELETE, "/api/v1/admin/tenants/acme", None, &[]).await;
    assert_eq!((&gone.json["state"], &gone.json["epoch"]), (&json!("gone"), &json!(3)));
}

/// Writes wait during a freeze: it ends in time, and the tenant goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_has_a_budget() {
    let federation = Federation::start(1, MoveSettings { freeze_budget_ms: 200, ..patient() }).await;
    federation.b.never_prepares.store(true, Ordering::SeqCst);
    let id = federation.start_move("acme").await;
    let ended = federation.reaches(id, "given_up").await;
    assert!(ended["reason"].as_str().unwrap().contains("the freeze took longer than 200 ms"), "{ended}");
    let tenant = federation.get("/api/v1/admin/tenants/acme").await;
    assert_eq!((&tenant["shard"], &tenant["epoch"]), (&json!("shard-a"), &json!(1)));
}

/// A copy that does not get on is given up by itself; what is aborted waits for both shards to know.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_copy_is_given_up() {
    let federation = Federation::start(1, MoveSettings { stall_ms: 1000, ..patient() }).await;
    federation.b.is_silent.store(true, Ordering::SeqCst);
    let id = federation.start_move("acme").await;
    let aborted = federation.reaches(id, "aborted").await;
    assert!(aborted["reason"].as_str().unwrap().contains("shard-b does not answer"), "{aborted}");
    federation.b.is_silent.store(false, Ordering::SeqCst);
    federation.reaches(id, "given_up").await;
}

/// Whoever leads goes on with what the record says: the first leader stops amid the copy, the second amid the freeze.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_goes_on_under_the_next_leader() {
    let federation = Federation::start(3, patient()).await;
    federation.b.never_copies.store(true, Ordering::SeqCst);
    let id = federation.start_move("acme").await;
    let depose = async || {
        let leader = federation.group.leader().await;
        let path = "/_cluster/leader/transfer";
        until("another one leads", || async {
            let now = federation.group.leader().await;
            if now != leader {
                return Some(());
            }
            federation.group.try_call(now, "operator/ops", Method::POST, path, Some(json!({})), &[]).await;
            None
        })
        .await;
    };
    depose().await;
    assert_eq!(federation.show(id).await["state"], "preparing");
    federation.b.never_prepares.store(true, Ordering::SeqCst);
    federation.b.never_copies.store(false, Ordering::SeqCst);
    federation.reaches(id, "freezing").await;
    depose().await;
    federation.b.never_prepares.store(false, Ordering::SeqCst);
    let done = federation.reaches(id, "done").await;
    assert_eq!(done["to"], "shard-b");
    assert!(!federation.a.is_silent.load(Ordering::SeqCst));
}
