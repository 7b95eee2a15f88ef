//! Who may do what: by certificate, by tenant, by grant.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    caller::{Caller, fetch, file},
    member::Member,
};

/// Over real handshakes: a certificate of another role reaches nothing of a tenant, whatever headers it sends.
#[tokio::test]
async fn only_gateways_reach_tenants_data() {
    let member = Member::with_acme().await;
    member.admin().put(&file("shop", "a"), "x").await;
    for uri in [
        "conflux://test/operator/root",
        "conflux://test/shard/shard-b/shard-b-1",
        "conflux://test/placement/placement/placement-1",
    ] {
        let forged = Caller::new(member.channel(uri), &[("read", "*/*/*")]);
        assert_eq!(forged.get(&fetch("shop", "a")).await.code(), (403, "PERMISSION_DENIED".into()), "{uri}");
    }
}

/// Operators see the group; tenants' credentials do not.
#[tokio::test]
async fn the_groups_own_calls_are_for_operators() {
    let member = Member::with_acme().await;
    let operator = Caller::new(member.channel("conflux://test/operator/root"), &[]);
    assert_eq!(operator.get("/_cluster/status").await.json()["state"], "leader");
    assert_eq!(member.admin().get("/_cluster/status").await.code(), (403, "PERMISSION_DENIED".into()));
}

fn without_id(body: &Value) -> Value {
    let mut body = body.clone();
    body["error"]["request_id"] = Value::Null;
    body
}

/// What one may not read answers exactly as what is not there; what one may see but not change answers 403.
#[tokio::test]
async fn what_one_may_not_see_is_not_there() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let secret = admin.put(&file("bank", "a"), "x").await.json()["config_id"].as_str().unwrap().to_owned();
    let shown = admin.put(&file("shop", "a"), "x").await.json()["config_id"].as_str().unwrap().to_owned();
    let reader = member.caller(&[("read", "shop/*/*"), ("list", "shop/*/*")]);

    let hidden = reader.get(&fetch("bank", "a")).await;
    admin.delete(&format!("/api/v1/mgt/configs/{secret}")).await;
    let gone = admin.get(&fetch("bank", "a")).await;
    assert_eq!(hidden.code(), (404, "NOT_FOUND".into()));
    assert_eq!(without_id(&hidden.json()), without_id(&gone.json()));

    let again = admin.put(&file("bank", "a"), "x").await.json()["config_id"].as_str().unwrap().to_owned();
    for path in ["", "/versions", "/versions/1", "/releases"] {
        let hidden = reader.get(&format!("/api/v1/mgt/configs/{again}{path}")).await;
        assert_eq!(hidden.code(), (404, "NOT_FOUND".into()), "{path}");
    }
    assert_eq!(reader.delete(&format!("/api/v1/mgt/configs/{again}")).await.code().0, 404);
    assert_eq!(reader.delete(&format!("/api/v1/mgt/configs/{shown}")).await.code().0, 403);
    assert_eq!(reader.put(&file("shop", "a"), "y").await.code(), (403, "PERMISSION_DENIED".into()));
    let listed = reader.get("/api/v1/mgt/configs").await.json();
    let listed: Vec<&str> = listed["configs"].as_array().unwrap().iter().map(|c| c["app"].as_str().unwrap()).collect();
    assert_eq!(listed, ["shop"]);

    let writer = member.caller(&[("write", "*/*/*")]);
    let refused = writer.put(&file("shop", "a"), "y").await;
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("publish"), "{refused:?}");
}

/// The tenant in the path must be the one of the record, and the credential must cover it.
#[tokio::test]
async fn tenants_do_not_mix() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    admin.put(&file("shop", "a"), "x").await;
    let other = admin.get("/api/v1/fetch/config/other/shop/prod/a").await;
    assert_eq!(other.code(), (404, "NOT_FOUND".into()));
    let foreign = admin.of(1, "other", 1).get("/api/v1/fetch/config/other/shop/prod/a").await;
    assert_eq!(foreign.code(), (403, "PERMISSION_DENIED".into()));
    let mut operator = admin.clone();
    Arc::make_mut(&mut operator.context.principal).tenant = None;
    Arc::make_mut(&mut operator.context.principal).operator = true;
    assert_eq!(operator.get(&fetch("shop", "a")).await.code().0, 403);
}
