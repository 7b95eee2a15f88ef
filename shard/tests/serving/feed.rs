//! The feed to gateways: each revision once, in order, with marks; and its end.

use conflux_proto::internal::{
    FeedRequest, FeedResponse, FeedSubscribe, HistoryRequest, TenantState, feed_request::Request, feed_response::Body,
    shard_service_client::ShardServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{caller::file, member::Member};

pub struct Feed {
    ask: mpsc::Sender<FeedRequest>,
    frames: Streaming<FeedResponse>,
}

impl Feed {
    async fn open(member: &Member) -> Self {
        Self::over(member.gateway()).await
    }

    pub async fn over(channel: Channel) -> Self {
        let (ask, asked) = mpsc::channel(16);
        let mut client = ShardServiceClient::new(channel);
        let frames = client.feed(ReceiverStream::new(asked)).await.unwrap().into_inner();
        Self { ask, frames }
    }

    pub async fn subscribe(&self, tenant_id: u64, epoch: u64, after: Option<u64>) {
        let subscribe = FeedSubscribe { tenant_id, epoch, after };
        self.ask.send(FeedRequest { request: Some(Request::Subscribe(subscribe)) }).await.unwrap();
    }

    async fn next(&mut self) -> Body {
        self.frames.message().await.unwrap().expect("the stream goes on").body.unwrap()
    }

    /// The revisions up to and with this one, in the order in which they came.
    pub async fn revisions_to(&mut self, last: u64) -> Vec<u64> {
        let mut seen = Vec::new();
        while seen.last() != Some(&last) {
            match self.next().await {
                Body::Revision(revision) => seen.push(revision.revision),
                Body::Mark(_) => {}
                Body::End(end) => panic!("it ends: {end:?} after {seen:?}"),
            }
        }
        seen
    }

    pub async fn mark(&mut self) -> conflux_proto::internal::FeedMark {
        loop {
            match self.next().await {
                Body::Mark(mark) => return mark,
                Body::Revision(_) => {}
                Body::End(end) => panic!("it ends: {end:?}"),
            }
        }
    }

    async fn end(&mut self) -> String {
        loop {
            if let Body::End(end) = self.next().await {
                return end.reason;
            }
        }
    }
}

/// History and live changes join at one revision while writes go on: none lost, none twice, and a mark never runs ahead.
#[tokio::test]
async fn each_revision_comes_once_in_order() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    for i in 0..20 {
        admin.put(&file("shop", "a"), format!("{i}")).await;
    }
    let mut feed = Feed::open(&member).await;
    feed.subscribe(1, 1, Some(0)).await;
    let writing = tokio::spawn({
        let admin = admin.clone();
        async move {
            for i in 20..60 {
                assert_eq!(admin.put(&file("shop", "a"), format!("{i}")).await.status, 200);
            }
        }
    });
    assert_eq!(feed.revisions_to(60).await, (1..=60).collect::<Vec<u64>>());
    writing.await.unwrap();
    let mark = feed.mark().await;
    assert_eq!((mark.revision, mark.incarnation, mark.epoch), (60, 1, 1));
    assert!(mark.age_ms < 60_000);

    let mut resumed = Feed::open(&member).await;
    resumed.subscribe(1, 1, Some(57)).await;
    assert_eq!(resumed.revisions_to(60).await, [58, 59, 60]);
    let mut from_now = Feed::open(&member).await;
    from_now.subscribe(1, 1, None).await;
    assert_eq!(from_now.mark().await.revision, 60);
    admin.put(&file("shop", "a"), "last").await;
    assert_eq!(from_now.revisions_to(61).await, [61]);
}

/// An event carries no content, but what a label watch needs to decide: the rules before and after.
#[tokio::test]
async fn events_carry_the_rules_before_and_after() {
    let member = Member::with_acme().await;
    member.admin().put(&file("shop", "a"), "x").await;
    member.admin().put(&file("shop", "a"), "y").await;
    let mut client = ShardServiceClient::new(member.gateway());
    let asked = HistoryRequest { tenant_id: 1, epoch: 1, after: 1, to: 2, limit: 0 };
    let history = client.history(asked).await.unwrap().into_inner();
    assert_eq!((history.revision, history.incarnation, history.revisions.len()), (2, 1, 1));
    let event = &history.revisions[0].events[0];
    assert_eq!((event.rules_before[0].version, event.rules_after[0].version), (1, 2));
    assert_eq!(event.event.as_ref().unwrap().name, "a");
    let stale = client.history(HistoryRequest { epoch: 9, ..asked }).await.unwrap_err();
    assert_eq!(stale.metadata().get("x-conflux-retry").unwrap(), "wrong-epoch");
}

fn large_rules(n: usize) -> String {
    let labels = |rule: usize| -> serde_json::Map<String, serde_json::Value> {
        (0..31).map(|i| (format!("label-{i}"), format!("{n}-{rule}-{}", "x".repeat(107)).into())).collect()
    };
    let rule = |i: usize| serde_json::json!({"version": 1, "priority": i, "labels": labels(i)});
    serde_json::json!({ "rules": (0..15).map(rule).collect::<Vec<_>>() }).to_string()
}

/// A gateway that does not read is cut off: writers never wait for it, what it got has no hole, and it can come back.
#[tokio::test]
async fn a_slow_reader_is_cut_and_comes_back() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let id = admin.put(&file("shop", "a"), "x").await.json()["config_id"].as_str().unwrap().to_owned();
    let mut slow = Feed::open(&member).await;
    slow.subscribe(1, 1, Some(0)).await;
    assert_eq!(slow.revisions_to(1).await, [1]);
    // Each event carries about 100 KiB of rules, before and after.
    let path = format!("/api/v1/mgt/configs/{id}/releases");
    let writers = (0..8).map(|writer| {
        let (admin, path) = (admin.clone(), path.clone());
        tokio::spawn(async move {
            for n in 0..40 {
                let set = admin.send("PUT", &path, large_rules(writer * 40 + n).into()).await;
                assert_eq!(set.status, 200, "{set:?}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut seen = 1;
    let ended = loop {
        match slow.frames.message().await {
            Ok(Some(frame)) => {
                if let Some(Body::Revision(revision)) = frame.body {
                    seen += 1;
                    assert_eq!(revision.revision, seen);
                }
            }
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert!(seen < 321, "it was cut");
    assert_eq!(ended.code(), tonic::Code::ResourceExhausted);
    let mut back = Feed::open(&member).await;
    back.subscribe(1, 1, Some(seen)).await;
    for revision in back.revisions_to(321).await {
        seen += 1;
        assert_eq!(revision, seen);
    }
}

/// A gateway learns why a tenant's feed ends, so that it can go where the tenant is; the others' go on.
#[tokio::test]
async fn a_feed_says_why_it_ends() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    admin.put(&file("shop", "a"), "x").await;
    let mut feed = Feed::open(&member).await;
    feed.subscribe(55, 1, None).await;
    assert_eq!(feed.end().await, "not_here");
    feed.subscribe(1, 9, None).await;
    assert_eq!(feed.end().await, "wrong_epoch");
    feed.subscribe(1, 1, None).await;
    assert_eq!(feed.mark().await.revision, 1);
    member.placement.set(1, "acme", 2, TenantState::Deleting);
    let mut placement = ShardServiceClient::new(member.channel("conflux://test/placement/placement/placement-1"));
    placement.ensure_tenant(conflux_proto::internal::EnsureTenantRequest { tenant_id: 1 }).await.unwrap();
    assert_eq!(feed.end().await, "deleted");
}

/// A watch may be the first that a shard hears of a tenant, or of its new epoch: it is looked up as for a request.
#[tokio::test]
async fn a_feed_brings_its_tenant() {
    let member = Member::with_acme().await;
    let mut feed = Feed::open(&member).await;
    feed.subscribe(1, 1, None).await;
    assert_eq!((feed.mark().await.epoch, member.placement.lookups()), (1, 1));
    member.placement.set(1, "acme", 2, TenantState::Creating);
    feed.subscribe(1, 2, None).await;
    while feed.mark().await.epoch != 2 {}
    assert_eq!(member.placement.lookups(), 2);
}

/// A stopping replica must not hold up its stop for its feeds, and tells them to go elsewhere.
#[tokio::test]
async fn a_stop_ends_the_feeds() {
    let mut member = Member::with_acme().await;
    let mut feed = Feed::open(&member).await;
    feed.subscribe(1, 1, None).await;
    feed.mark().await;
    member.stop().await.unwrap();
    let ended = loop {
        match feed.frames.message().await {
            Ok(marks) => assert!(marks.is_some(), "it ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), tonic::Code::Unavailable);
}
