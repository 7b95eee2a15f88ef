//! The feed to gateways: each revision once, in order, with marks; and its end.

use conflux_proto::internal::{
    FeedAnswer, FeedQuestion, FeedRequest, FeedResponse, FeedSubscribe, HistoryRequest, ReleaseSetRequest, TenantState,
    feed_request::Request, feed_response::Body, shard_service_client::ShardServiceClient,
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
                Body::Mark(_) | Body::Answer(_) => {}
                Body::End(end) => panic!("it ends: {end:?} after {seen:?}"),
            }
        }
        seen
    }

    pub async fn mark(&mut self) -> conflux_proto::internal::FeedMark {
        loop {
            match self.next().await {
                Body::Mark(mark) => return mark,
                Body::Revision(_) | Body::Answer(_) => {}
                Body::End(end) => panic!("it ends: {end:?}"),
            }
        }
    }

    /// What the member says of these tenants, and the last revision that came before it said so.
    async fn ask(&mut self, id: u64, tenants: &[u64]) -> (FeedAnswer, Option<u64>) {
        let question = FeedQuestion { id, tenants: tenants.to_vec() };
        self.ask.send(FeedRequest { request: Some(Request::Question(question)) }).await.unwrap();
        let mut last = None;
        loop {
            match self.next().await {
                Body::Answer(answer) => return (answer, last),
                Body::Revision(revision) => last = Some(revision.revision),
                Body::Mark(_) => {}
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

/// Edge reads live on these answers: they come behind all that they speak of, and speak of nothing that was not sent.
#[tokio::test]
async fn a_question_is_answered_behind_what_it_vouches_for() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    admin.put(&file("shop", "a"), "0").await;
    let mut feed = Feed::open(&member).await;
    feed.subscribe(1, 1, None).await;
    // A member that has just started has heard of no quorum yet.
    while feed.mark().await.age_ms > 60_000 {}
    for id in 0..20 {
        let revision = 2 + id;
        admin.put(&file("shop", "a"), format!("{revision}")).await;
        // Acknowledged before the question is sent: an answer that is younger than the write must speak of it.
        let (answer, sent) = feed.ask(id, &[1, 7]).await;
        assert_eq!((answer.id, sent), (id, Some(revision)));
        let positions: Vec<_> = answer.positions.iter().map(|p| (p.tenant_id, p.revision, p.epoch)).collect();
        assert_eq!(positions, [(1, revision, 1)], "of the tenant that is followed only");
        assert!(answer.age_ms < 60_000);
    }
}

/// A release set has everything that decides what a client is served, and nothing more is needed to serve it.
#[tokio::test]
async fn a_release_set_is_all_that_rules_point_at() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let id = admin.put(&file("shop", "a.json"), "{\"v\":1}").await.json()["config_id"].as_str().unwrap().to_owned();
    for v in 2..=3 {
        admin.put(&file("shop", "a.json"), format!("{{\"v\":{v}}}")).await;
    }
    let rules = r#"{"rules": [{"version": 1}, {"version": 3, "labels": {"region": "eu"}, "priority": 5}]}"#;
    let path = format!("/api/v1/mgt/configs/{id}/releases");
    assert_eq!(admin.send("PUT", &path, rules.into()).await.status, 200);
    let mut client = ShardServiceClient::new(member.gateway());
    let asked = ReleaseSetRequest {
        tenant_id: 1,
        epoch: 1,
        app: "shop".into(),
        env: "prod".into(),
        name: "a.json".into(),
        max_bytes: 1 << 20,
    };
    let set = client.release_set(asked.clone()).await.unwrap().into_inner();
    assert_eq!((set.revision, set.incarnation, set.rules.len()), (4, 1, 2));
    let versions: Vec<_> = set.versions.iter().map(|v| (v.number, &v.content[..], v.media_type.as_str())).collect();
    assert_eq!(versions, [(1, &b"{\"v\":1}"[..], "application/json"), (3, &b"{\"v\":3}"[..], "application/json")]);

    let large = client.release_set(ReleaseSetRequest { max_bytes: 8, ..asked.clone() }).await.unwrap().into_inner();
    assert!(large.too_large && large.versions.is_empty() && large.config_id > 0);
    for name in ["none", "..", &"x".repeat(3000)] {
        let none = client.release_set(ReleaseSetRequest { name: name.into(), ..asked.clone() }).await.unwrap();
        assert_eq!((none.get_ref().config_id, none.get_ref().revision), (0, 4));
    }
    let stale = client.release_set(ReleaseSetRequest { epoch: 9, ..asked }).await.unwrap_err();
    assert_eq!(stale.metadata().get("x-conflux-retry").unwrap(), "wrong-epoch");
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
