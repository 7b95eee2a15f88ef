//! Edge reads without processes: what is held, told and vouched for is what a test says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use conflux_common::{
    ids::{Epoch, Incarnation, TenantId},
    testing::TestCa,
};
use conflux_proto::{
    internal::{
        FeedEvent, FeedPosition, FeedResponse, FeedRevision, ReleaseSetResponse, ReleasedVersion, feed_response::Body,
    },
    v1,
};
use http::StatusCode;
use http_body_util::BodyExt;

use super::{Asked, Edge, Look, Settings, set::Set, sets::Pending, tenants::Followed};
use crate::{
    directory::Directory,
    routes::{Routes, TenantRoute},
    upstream::Upstream,
    watch,
};

const WHAT: &str = "shop/prod/a";

/// An edge whose feed says what the test says. Nobody is dialled: no member of the group is known.
struct Bench {
    edge: Arc<Edge>,
    route: TenantRoute,
    tenant: Arc<Followed>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(bytes: u64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let tls = TestCa::new(dir.path()).context("conflux://test/gateway/g1");
        let routes = Routes::default();
        let upstream = Upstream::new(tls, "test".parse().unwrap(), routes.clone(), 1);
        let handles = watch::Handles {
            cluster: "test".parse().unwrap(),
            routes,
            upstream: upstream.clone(),
            directory: Directory::new(Duration::from_secs(1)),
            draining: Default::default(),
        };
        let settings = Settings { bytes, max_age_ms: 5_000, ..Settings::default() };
        let edge = Edge::new(settings, watch::Lane::new(handles), upstream).unwrap();
        let route = TenantRoute {
            name: "acme".parse().unwrap(),
            id: TenantId(1),
            incarnation: Incarnation(1),
            epoch: Epoch(1),
            group: "a".parse().unwrap(),
        };
        let tenant = edge.tenants.follow(route.clone()).unwrap();
        Self { edge, route, tenant, _dir: dir }
    }

    /// The feed tells a change of this config.
    fn tell(&self, revision: u64, name: &str) {
        let event = v1::Event { app: "shop".into(), env: "prod".into(), name: name.into(), ..Default::default() };
        let events = vec![FeedEvent { event: Some(event), ..Default::default() }];
        let body = Body::Revision(FeedRevision { revision, incarnation: 1, events });
        self.tenant.place().take(FeedResponse { tenant_id: 1, body: Some(body) });
    }

    /// A member vouches for this revision, as of so long ago.
    fn vouch(&self, revision: u64, epoch: u64, ago: Duration) {
        let said = FeedPosition { tenant_id: 1, revision, incarnation: 1, epoch };
        self.tenant.place().vouch(&said, Instant::now().checked_sub(ago).unwrap());
    }

    fn set(&self, what: &str, said: &ReleaseSetResponse) -> Set {
        Set::new(&self.tenant, &self.tenant.vouched().unwrap(), what, said).unwrap()
    }

    fn begin(&self, what: &str) -> Option<Pending> {
        self.edge.sets.begin(TenantId(1), what.into())
    }

    /// A set of this state is filled, if nothing is in its way.
    async fn fill(&self, what: &str, said: &ReleaseSetResponse) -> bool {
        loop {
            // The look before may have begun a fill of its own, which finds nobody to ask.
            if let Some(pending) = self.begin(what) {
                return pending.finish(self.set(what, said));
            }
            tokio::task::yield_now().await;
        }
    }

    fn look(&self, labels: &[(&str, &str)], min_revision: Option<&str>) -> Look {
        self.look_at(labels, min_revision, &self.route)
    }

    fn look_at(&self, labels: &[(&str, &str)], min_revision: Option<&str>, route: &TenantRoute) -> Look {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let asked = Asked {
            what: WHAT,
            labels: conflux_common::labels::Labels::new(labels).unwrap(),
            known: Default::default(),
            min_revision: min_revision.map(|m| m.parse().unwrap()),
        };
        self.edge.look(&asked, route)
    }
}

/// Version 1 for all, version 2 for those in `eu`.
fn said(revision: u64) -> ReleaseSetResponse {
    let version = |number: u64| ReleasedVersion {
        number,
        content: format!("content {number}").into(),
        media_type: "text/plain".into(),
        etag: format!("\"{number}\""),
        hash: "sha256:00".into(),
    };
    let rule = |version, labels: &[(&str, &str)]| v1::ReleaseRule {
        version,
        labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    };
    ReleaseSetResponse {
        revision,
        incarnation: 1,
        config_id: 7,
        rules: vec![rule(1, &[]), rule(2, &[("region", "eu")])],
        versions: vec![version(1), version(2)],
        ..Default::default()
    }
}

/// What is told of the state, and the body.
async fn answer(look: Look) -> (String, String) {
    let Look::Answer(response) = look else { panic!("it is not answered here") };
    assert_eq!(response.status(), StatusCode::OK);
    let revision = response.headers()["x-conflux-revision"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (revision, String::from_utf8(body.to_vec()).unwrap())
}

fn is_nothing(look: &Look) -> bool {
    matches!(look, Look::Nothing)
}

/// The rules decide here as they do at a shard, and the answer says up to where it is true.
#[tokio::test]
async fn labels_decide_and_the_revision_is_the_feeds() {
    let bench = Bench::new(1 << 20).await;
    bench.tell(5, "other");
    bench.vouch(5, 1, Duration::ZERO);
    assert!(is_nothing(&bench.look(&[], None)));
    assert!(bench.fill(WHAT, &said(5)).await);
    assert_eq!(answer(bench.look(&[], None)).await, ("1.5".into(), "content 1".into()));
    assert_eq!(answer(bench.look(&[("region", "eu")], None)).await, ("1.5".into(), "content 2".into()));
    bench.tell(6, "other");
    assert_eq!(answer(bench.look(&[], Some("1.6"))).await, ("1.6".into(), "content 1".into()));
    assert!(is_nothing(&bench.look(&[], Some("1.7"))), "the client has seen more than is known here");
    assert!(is_nothing(&bench.look(&[], Some("2.1"))), "of another life of the tenant");
}

/// Whoever sees a revision here must not be served what it has replaced.
#[tokio::test]
async fn a_change_takes_the_set_out_before_its_revision_is_seen() {
    let bench = Bench::new(1 << 20).await;
    bench.tell(5, "other");
    bench.vouch(5, 1, Duration::ZERO);
    assert!(bench.fill(WHAT, &said(5)).await);
    bench.tell(6, "a");
    assert!(is_nothing(&bench.look(&[], None)));
    // Filled by a member that is ahead of the feed: the change comes again, and is in it already.
    assert!(bench.fill(WHAT, &said(8)).await);
    bench.tell(7, "a");
    assert_eq!(answer(bench.look(&[], Some("1.8"))).await.0, "1.8");
}

/// A fill and a change that overtakes it: the older answer must not stay.
#[tokio::test]
async fn a_change_during_the_fill_wins() {
    let bench = Bench::new(1 << 20).await;
    bench.tell(5, "other");
    bench.vouch(5, 1, Duration::ZERO);
    let pending = bench.begin(WHAT).unwrap();
    assert!(bench.begin(WHAT).is_none(), "one fill at a time");
    let set = bench.set(WHAT, &said(5));
    bench.tell(6, "a");
    assert!(!pending.finish(set));
    assert!(is_nothing(&bench.look(&[], None)));
    assert!(bench.fill(WHAT, &said(6)).await, "and then anew");
}

/// The bound, a move, and a gap in the feed: none of them may be answered over.
#[tokio::test]
async fn what_is_old_moved_or_lost_is_not_answered() {
    let bench = Bench::new(1 << 20).await;
    bench.tell(5, "other");
    bench.vouch(5, 1, Duration::from_secs(6));
    assert!(bench.fill(WHAT, &said(5)).await);
    assert!(matches!(bench.look(&[], None), Look::TooOld(_)));
    bench.vouch(5, 1, Duration::from_secs(1));
    assert!(matches!(bench.look(&[], None), Look::Answer(_)));

    let moved = TenantRoute { epoch: Epoch(2), group: "b".parse().unwrap(), ..bench.route.clone() };
    assert!(is_nothing(&bench.look_at(&[], None, &moved)), "its requests go to another owner");
    bench.tenant.place().reroute(moved.clone());
    bench.vouch(5, 1, Duration::ZERO);
    bench.vouch(5, 2, Duration::ZERO);
    assert!(is_nothing(&bench.look_at(&[], None, &moved)), "the set is of the former owner");
    assert!(is_nothing(&bench.look(&[], None)));
    assert!(bench.fill(WHAT, &said(5)).await);
    assert!(matches!(bench.look_at(&[], None, &moved), Look::Answer(_)));

    let compacted = conflux_proto::internal::FeedEnd { reason: "compacted".into(), floor: 9 };
    bench.tenant.place().take(FeedResponse { tenant_id: 1, body: Some(Body::End(compacted)) });
    bench.tell(12, "other");
    bench.vouch(12, 2, Duration::ZERO);
    assert!(is_nothing(&bench.look_at(&[], None, &moved)), "what happened in between is not known");
}

/// That a shard must be asked is known as long as nothing changes: no fill is tried again for it.
#[tokio::test]
async fn what_cannot_be_held_is_remembered_too() {
    let bench = Bench::new(1 << 20).await;
    bench.tell(5, "other");
    bench.vouch(5, 1, Duration::ZERO);
    for said in [
        ReleaseSetResponse { config_id: 0, ..said(5) },
        ReleaseSetResponse { too_large: true, rules: vec![], versions: vec![], ..said(5) },
    ] {
        assert!(bench.fill(WHAT, &said).await);
        assert!(is_nothing(&bench.look(&[], None)));
        assert!(bench.edge.sets.get(TenantId(1), WHAT).is_some());
    }
}

/// The bound holds at each moment, whatever is put in.
#[tokio::test]
async fn bytes_are_bounded() {
    let bench = Bench::new(1 << 20).await;
    bench.tell(5, "other");
    bench.vouch(5, 1, Duration::ZERO);
    let mut large = said(5);
    large.versions[0].content = vec![b'x'; 20_000].into();
    for n in 0..200 {
        bench.fill(&format!("shop/prod/{n}"), &large).await;
        assert!(bench.edge.sets.bytes() <= 3 << 18, "{}", bench.edge.sets.bytes());
    }
    assert!(bench.edge.sets.len() > 10);
}

/// A tenant that is followed anew begins without sets: what changed in between was told to nobody.
#[tokio::test]
async fn sets_go_with_the_place_on_the_feed() {
    let bench = Bench::new(1 << 20).await;
    bench.tell(5, "other");
    bench.vouch(5, 1, Duration::ZERO);
    assert!(bench.fill(WHAT, &said(5)).await);
    bench.edge.tenants.forget_all();
    bench.edge.tenants.follow(bench.route.clone()).unwrap();
    bench.vouch(5, 1, Duration::ZERO);
    assert!(is_nothing(&bench.look(&[], None)));
    bench.edge.sweep();
    assert_eq!(bench.edge.sets.len(), 0);
}
