//! The shard follows placement's record by its own look-ups.

use conflux_proto::internal::{EnsureTenantRequest, TenantState, shard_service_client::ShardServiceClient};

use crate::{
    caller::{fetch, file},
    member::Member,
};

/// A tenant that the shard has not heard of is looked up once and served; a made-up one does not hammer placement.
#[tokio::test]
async fn an_unknown_tenant_is_looked_up() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    assert_eq!(admin.put(&file("shop", "a"), "x").await.status, 201);
    admin.put(&file("shop", "b"), "x").await;
    assert_eq!(member.placement.lookups(), 1);

    let junk = admin.of(77, "acme", 1);
    for _ in 0..5 {
        let refused = junk.get(&fetch("shop", "a")).await;
        assert_eq!(refused.code(), (503, "UNAVAILABLE".into()));
        assert_eq!((refused.header("x-conflux-retry"), refused.header("x-conflux-retry-hint")), ("wrong-epoch", "0"));
    }
    assert_eq!(member.placement.lookups(), 2);
}

/// A higher epoch than the shard's is news: looked up, then served; a lower one is refused with the shard's own.
#[tokio::test]
async fn epochs_fence() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    admin.put(&file("shop", "a"), "x").await;
    member.placement.set(1, "acme", 2, TenantState::Creating);
    assert_eq!(admin.of(1, "acme", 2).put(&file("shop", "a"), "y").await.status, 200);
    for refused in [admin.get(&fetch("shop", "a")).await, admin.put(&file("shop", "a"), "z").await] {
        assert_eq!((refused.header("x-conflux-retry"), refused.header("x-conflux-retry-hint")), ("wrong-epoch", "2"));
    }
    member.placement.set_on("shard-b", 9, "else", 4, TenantState::Creating);
    let elsewhere = admin.of(9, "else", 4).get("/api/v1/fetch/config/else/shop/prod/a").await;
    assert_eq!(elsewhere.header("x-conflux-retry"), "wrong-epoch");
}

/// Placement tells of a deletion: the tenant is served no more at once, and its rows go.
#[tokio::test]
async fn placement_makes_the_shard_follow() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    admin.put(&file("shop", "a"), "x").await;
    let mut placement = ShardServiceClient::new(member.channel("conflux://test/placement/placement/placement-1"));
    let ensure = EnsureTenantRequest { tenant_id: 1 };
    assert_eq!(placement.ensure_tenant(ensure).await.unwrap().into_inner().state, "active");
    member.placement.set(1, "acme", 2, TenantState::Deleting);
    let deleting = placement.ensure_tenant(ensure).await.unwrap().into_inner();
    assert_eq!((deleting.state.as_str(), deleting.epoch), ("deleting", 2));
    assert_eq!(admin.get(&fetch("shop", "a")).await.header("x-conflux-retry-hint"), "2");
    // Only the leader's upkeep, some seconds later, can make it so.
    loop {
        if placement.ensure_tenant(ensure).await.unwrap().into_inner().state == "deleted" {
            break;
        }
    }
    let mut gateway = ShardServiceClient::new(member.gateway());
    let refused = gateway.ensure_tenant(ensure).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}
