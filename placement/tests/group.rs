//! A placement group of real members on loopback: consensus, disks, certificates and ports are the real ones; only the
//! shard is a stand-in.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use conflux_common::{grant::Principal, headers};
use conflux_proto::{
    context::CallContext,
    internal::{
        ChangesRequest, ChangesResponse, LookupTenantRequest, ReportGroupRequest, change, lookup_tenant_request::By,
    },
};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use support::{Group, PATIENCE, code, shard, until};
use tonic::Streaming;

async fn next(stream: &mut Streaming<ChangesResponse>) -> Option<ChangesResponse> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("a frame or a mark in time").ok().flatten()
}

/// The frames up to the sequence, marks of progress left out.
async fn frames_to(stream: &mut Streaming<ChangesResponse>, seq: u64) -> Vec<ChangesResponse> {
    let mut frames = Vec::new();
    while frames.last().is_none_or(|f: &ChangesResponse| f.seq < seq) {
        let frame = next(stream).await.expect("the stream goes on");
        if !frame.progress {
            frames.push(frame);
        }
    }
    frames
}

/// The life of a tenant and a key through the real path: REST, Raft, disk, the reconciler, and the stream of changes on
/// every member.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_and_its_key_from_birth_to_end() {
    let group = Arc::new(Group::start(3).await);
    let nowhere = group.operator(Method::POST, "/api/v1/admin/tenants", Some(json!({"name": "acme"})), &[]).await;
    assert_eq!(
        (nowhere.status, &nowhere.json["error"]["outcome"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("not_applied"))
    );
    let _shard = group.with_shard("shard-a").await;
    let shards = group.operator(Method::GET, "/api/v1/admin/shards", None, &[]).await.json;
    assert_eq!(
        (&shards["shards"][0]["name"], &shards["shards"][0]["leader"]),
        (&json!("shard-a"), &json!("shard-a-1"))
    );

    let made = group.operator(Method::POST, "/api/v1/admin/tenants", Some(json!({"name": "acme"})), &[]).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.json);
    assert_eq!((&made.json["state"], &made.json["shard"]), (&json!("stable"), &json!("shard-a")));
    assert!(made.headers.contains_key(headers::REQUEST_ID));
    let body = json!({"tenant": "acme", "roles": ["writer"], "description": "CI"});
    let key = group.operator(Method::POST, "/api/v1/admin/keys", Some(body), &[]).await;
    assert_eq!(key.status, StatusCode::CREATED, "{:?}", key.json);
    let text = key.json["key"].as_str().unwrap();
    let presented = conflux_common::api_key::ApiKey::parse(text).unwrap();
    assert_eq!(key.json["id"], presented.id());
    let listed = group.operator(Method::GET, "/api/v1/admin/keys?tenant=acme", None, &[]).await.json;
    assert_eq!((listed["keys"].as_array().unwrap().len(), &listed["keys"][0]["key"]), (1, &json!(null)));

    // Every member tells the same: report, Creating, Stable, key.
    for n in 0..3 {
        let mut client = group.grpc(n, "gateway/g1");
        let mut stream = until("the member serves its state", || {
            let mut client = client.clone();
            async move { client.changes(ChangesRequest::default()).await.ok() }
        })
        .await
        .into_inner();
        let first = next(&mut stream).await.unwrap();
        assert!(first.reset);
        let mut all = vec![first];
        all.extend(if all[0].seq < 4 { frames_to(&mut stream, 4).await } else { vec![] });
        let record = all.iter().flat_map(|f| &f.changes).find_map(|c| match &c.change {
            Some(change::Change::Key(key)) => Some(key.clone()),
            _ => None,
        });
        assert!(presented.matches(Some(&record.unwrap().secret_hash)), "member {n}");
        let mark = next(&mut stream).await.unwrap();
        assert!(mark.progress && mark.seq == 4, "{mark:?}");
        // A reconnect gets only what it lacks.
        let again = ChangesRequest { after: 2, has_after: true };
        let mut stream = client.changes(again).await.unwrap().into_inner();
        let seqs: Vec<u64> = frames_to(&mut stream, 4).await.iter().map(|f| f.seq).collect();
        assert_eq!(seqs, [3, 4]);
    }

    let gone = group.operator(Method::DELETE, "/api/v1/admin/tenants/acme", None, &[]).await;
    assert_eq!((gone.status, &gone.json["state"], &gone.json["epoch"]), (StatusCode::OK, &json!("gone"), &json!(2)));
    let missing = group.operator(Method::GET, "/api/v1/admin/tenants/acme", None, &[]).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let keys = group.operator(Method::GET, "/api/v1/admin/keys", None, &[]).await.json;
    assert_eq!(keys["keys"], json!([]));
    let again = group.operator(Method::POST, "/api/v1/admin/tenants", Some(json!({"name": "Acme"})), &[]).await;
    assert_eq!((again.status, &again.json["id"]), (StatusCode::CREATED, &json!(2)));
}

/// What was acknowledged survives the leader and a restart of all; a repeated call has one effect whoever leads; a
/// stream is resumed at another member without a gap.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_and_processes_come_and_go() {
    let mut group = Group::start(3).await;
    let report = |n: u64| shard("shard-a", n, "127.0.0.1:1");
    let leader = group.report(report(1)).await;
    let key = [(headers::IDEMPOTENCY_KEY, "once")];
    let role = json!({"operator": true, "description": "first"});
    let made = group.operator(Method::POST, "/api/v1/admin/keys", Some(role.clone()), &key).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let other = (leader + 1) % 3;
    let mut stream = until("the follower serves its state", || async {
        group.grpc(other, "gateway/g1").changes(ChangesRequest::default()).await.ok()
    })
    .await
    .into_inner();
    assert!(frames_to(&mut stream, 2).await.last().unwrap().seq == 2);

    group.stop(leader).await;
    let again = group.operator(Method::POST, "/api/v1/admin/keys", Some(role.clone()), &key).await;
    assert_eq!((&again.json["id"], &again.json["key"]), (&made.json["id"], &json!(null)), "the same key, no secret");
    let changed = json!({"operator": true, "description": "other"});
    let conflict = group.operator(Method::POST, "/api/v1/admin/keys", Some(changed), &key).await;
    assert_eq!(conflict.status, StatusCode::CONFLICT);
    group.report(report(2)).await;
    // The follower's stream goes on through the change of leaders, unless it was the leader's own.
    assert_eq!(frames_to(&mut stream, 3).await.last().unwrap().seq, 3);

    // A reader that listens, as gateways do, hears of the stop and lets go.
    let reader = tokio::spawn(async move {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    for n in group.running() {
        group.stop(n).await;
    }
    let ended = reader.await.unwrap().unwrap_err();
    assert_eq!(code(&ended), "UNAVAILABLE", "{ended:?}");
    (0..3).for_each(|n| group.start_again(n));
    let keys = group.operator(Method::GET, "/api/v1/admin/keys?operator=true", None, &[]).await.json;
    assert_eq!(keys["keys"][0]["id"], made.json["id"]);
    let resumed = until("a member serves its state", || async {
        let request = ChangesRequest { after: 1, has_after: true };
        group.grpc(0, "gateway/g1").changes(request).await.ok()
    });
    let seqs: Vec<u64> = frames_to(&mut resumed.await.into_inner(), 3).await.iter().map(|f| f.seq).collect();
    assert_eq!(seqs, [2, 3]);
}

/// Who one is decides what one may ask.
#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_apart() {
    // Alone, it cannot lose its lead while it is asked.
    let group = Group::start(1).await;
    let ask = |who: &'static str, extra: Vec<(&'static str, String)>| {
        let group = &group;
        async move {
            let extra: Vec<(&str, &str)> = extra.iter().map(|(n, v)| (*n, v.as_str())).collect();
            group.try_call(0, who, Method::GET, "/api/v1/admin/keys", None, &extra).await.unwrap().status
        }
    };
    let as_said_by_a_gateway = |operator: bool| {
        let principal = Principal { name: "key:x".into(), tenant: None, operator, grants: vec![], directory_seq: 0 };
        let mut map = HeaderMap::new();
        let deadline = PATIENCE;
        let principal = principal.into();
        CallContext { principal, tenant: None, request_id: "r1".into(), deadline, idempotency: None }.write(&mut map);
        vec![(headers::PRINCIPAL, map[headers::PRINCIPAL].to_str().unwrap().to_owned())]
    };
    assert_eq!(ask("operator/ops", vec![]).await, StatusCode::OK);
    assert_eq!(ask("gateway/g1", as_said_by_a_gateway(true)).await, StatusCode::OK);
    assert_eq!(ask("gateway/g1", as_said_by_a_gateway(false)).await, StatusCode::FORBIDDEN);
    assert_eq!(ask("gateway/g1", vec![]).await, StatusCode::BAD_REQUEST);
    assert_eq!(ask("shard/shard-a/shard-a-1", as_said_by_a_gateway(true)).await, StatusCode::FORBIDDEN);

    let report = ReportGroupRequest { group: Some(shard("shard-a", 1, "127.0.0.1:1")) };
    for who in ["shard/shard-b/shard-b-1", "gateway/g1", "operator/ops"] {
        let refused = group.grpc(0, who).report_group(report.clone()).await.unwrap_err();
        assert_eq!(code(&refused), "PERMISSION_DENIED", "{who}");
    }
    let refused = group.grpc(0, "shard/shard-a/s").changes(ChangesRequest::default()).await.unwrap_err();
    assert_eq!(code(&refused), "PERMISSION_DENIED");
    let lookup = LookupTenantRequest { by: Some(By::Id(1)) };
    let refused = group.grpc(0, "operator/ops").lookup_tenant(lookup.clone()).await.unwrap_err();
    assert_eq!(code(&refused), "PERMISSION_DENIED");
    assert!(!group.grpc(0, "gateway/g1").lookup_tenant(lookup).await.unwrap().into_inner().found);
}

/// A member that does not lead says who does, in REST and in gRPC, and proposes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn others_name_the_leader() {
    let group = Group::start(3).await;
    let lookup = LookupTenantRequest { by: Some(By::Id(1)) };
    until("a member names the leader twice", || async {
        let leader = group.leader().await;
        let named = format!("placement-{}", leader + 1);
        let (other, body) = ((leader + 1) % 3, Some(json!({"operator": true})));
        let rest = group.try_call(other, "operator/ops", Method::POST, "/api/v1/admin/keys", body, &[]).await?;
        let rpc = group.grpc(other, "gateway/g1").lookup_tenant(lookup.clone()).await.err()?;
        let hints = [
            rest.headers.get(headers::RETRY)?.to_str().ok()?,
            rest.headers.get(headers::RETRY_HINT)?.to_str().ok()?,
            rpc.metadata().get(headers::RETRY)?.to_str().ok()?,
            rpc.metadata().get(headers::RETRY_HINT)?.to_str().ok()?,
        ];
        assert_eq!(rest.status, StatusCode::SERVICE_UNAVAILABLE);
        (hints == ["not-leader", &named, "not-leader", &named]).then_some(())
    })
    .await;
    let keys = group.operator(Method::GET, "/api/v1/admin/keys", None, &[]).await.json;
    assert_eq!(keys["keys"], json!([]));
}

/// A wrong body must say which field to mend, whatever is wrong with it.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_name_the_field() {
    let group = Group::start(1).await;
    let post = async |path: &str, body| group.operator(Method::POST, path, Some(body), &[]).await;
    let grant = |action: &str| json!({"action": action, "pattern": "*/*/*"});
    let grants = json!([grant("read"), grant("own")]);
    let cases = [
        ("/api/v1/admin/tenants", json!({"nmae": "acme"}), "nmae"),
        ("/api/v1/admin/tenants", json!({"name": 5}), "name"),
        ("/api/v1/admin/tenants", json!({"name": "a/b"}), "name"),
        ("/api/v1/admin/roles", json!({"tenant": "acme", "name": "ops", "grants": grants}), "grants[1].action"),
        ("/api/v1/admin/keys", json!({"operator": true, "tenant": "acme"}), "tenant"),
        ("/api/v1/admin/keys", json!({"operator": true, "expires_ms": 5}), "expires_ms"),
    ];
    for (path, body, field) in cases {
        let answer = post(path, body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {:?}", answer.json);
        assert_eq!(answer.json["error"]["details"][0]["field"], field, "{body}");
    }
    let large = post("/api/v1/admin/tenants", json!({"name": "x".repeat(70_000)})).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let method = group.operator(Method::PUT, "/api/v1/admin/tenants", None, &[]).await;
    assert_eq!(method.json["error"]["code"], "UNIMPLEMENTED");
    let cursor = group.operator(Method::GET, "/api/v1/admin/tenants?limit=0", None, &[]).await;
    assert_eq!(cursor.json["error"]["details"][0]["field"], "limit");
}
