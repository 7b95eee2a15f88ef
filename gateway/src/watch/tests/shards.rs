//! Shard members at the other end of real mTLS, which tell what a test says, and a lane before them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use conflux_common::{
    error::{ApiError, Code, Hint},
    grant::Principal,
    ids::{Epoch, Incarnation, TenantId},
    serve::{self, ServeLimits},
    testing::TestCa,
    tls::{Admission, Peers, Role},
};
use conflux_proto::{
    internal::{
        self, EnsureTenantRequest, EnsureTenantResponse, ExportRowsRequest, ExportRowsResponse, FeedEnd, FeedEvent,
        FeedMark, FeedRequest, FeedResponse, FeedRevision, HistoryRequest, HistoryResponse, LoadsRequest,
        LoadsResponse, ReleaseSetRequest, ReleaseSetResponse, ReportUseRequest, ReportUseResponse, TenantState,
        change::Change,
        feed_request,
        feed_response::Body,
        shard_service_server::{ShardService, ShardServiceServer},
    },
    status::to_status,
    v1,
};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    directory::Directory,
    identity::{Credential, Identity},
    respond::Style,
    routes::{Routes, TenantRoute},
    session_adapter::{Answer, RequestBody},
    upstream::Upstream,
    watch::{Handles, Lane, Settings, WatchRequest, serve},
};

/// What a group's shards have of tenant 1.
#[derive(Debug, Clone, Default)]
pub struct Tenant {
    pub epoch: u64,
    pub incarnation: u64,
    pub floor: u64,
    pub revisions: Vec<FeedRevision>,
    pub deleted: bool,
}

/// One group: all its members have the same.
#[derive(Clone)]
pub struct Group {
    tenant: Arc<Mutex<Option<Tenant>>>,
    changed: watch::Sender<()>,
    stops: Arc<Mutex<HashMap<String, CancellationToken>>>,
    /// A member that is so far behind that it does not know of the tenant.
    pub blind: Arc<Mutex<Option<String>>>,
    pub members: Vec<(String, SocketAddr)>,
}

impl Group {
    fn new() -> Self {
        let changed = watch::Sender::default();
        Group { tenant: Arc::default(), changed, stops: Arc::default(), blind: Arc::default(), members: Vec::new() }
    }

    pub fn set(&self, tenant: Option<Tenant>) {
        *self.tenant.lock() = tenant;
        self.changed.send_replace(());
    }

    pub fn tenant(&self) -> Tenant {
        self.tenant.lock().clone().unwrap()
    }

    /// Commits one event of shop/prod/<name>; returns its revision.
    pub fn commit(&self, name: &str) -> u64 {
        let mut tenant = self.tenant.lock();
        let tenant = tenant.as_mut().unwrap();
        let number = tenant.revisions.last().map_or(tenant.floor, |r| r.revision) + 1;
        let event = v1::Event {
            revision: number,
            time_ms: 1_700_000_000_123,
            r#type: "released".into(),
            app: "shop".into(),
            env: "prod".into(),
            name: name.into(),
            config_id: "c1".into(),
            version: number,
            hash: "sha256:00".into(),
        };
        let events = vec![FeedEvent { event: Some(event), ..Default::default() }];
        tenant.revisions.push(FeedRevision { revision: number, incarnation: tenant.incarnation, events });
        self.changed.send_replace(());
        number
    }

    /// Who has at least one feed open to it.
    pub fn fed(&self) -> Vec<String> {
        self.stops.lock().keys().cloned().collect()
    }

    /// Breaks the feeds of a member.
    pub fn break_feed(&self, member: &str) {
        self.stops.lock().remove(member).unwrap().cancel();
    }
}

#[derive(Clone)]
struct MemberService {
    name: String,
    group: Group,
}

#[tonic::async_trait]
impl ShardService for MemberService {
    type FeedStream = ReceiverStream<Result<FeedResponse, Status>>;

    async fn feed(&self, request: Request<Streaming<FeedRequest>>) -> Result<Response<Self::FeedStream>, Status> {
        let (out, stream) = mpsc::channel(16);
        let stop = self.group.stops.lock().entry(self.name.clone()).or_default().clone();
        let (group, requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => { let _ = out.send(Err(Status::unavailable("stopping"))).await; }
                () = feed(group, requests, out.clone()) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let asked = request.into_inner();
        let tenant = self.group.tenant.lock().clone().filter(|t| t.epoch == asked.epoch && !t.deleted);
        let Some(tenant) = tenant else {
            return Err(to_status(&ApiError::elsewhere(Hint::WrongEpoch(0), "not here"), ""));
        };
        if asked.after < tenant.floor {
            let floor = format!("{}.{}", tenant.incarnation, tenant.floor);
            let error = ApiError::new(Code::OutOfRange, "COMPACTED").with_detail("floor", floor);
            return Err(to_status(&error, ""));
        }
        let wanted = tenant.revisions.iter().filter(|r| r.revision > asked.after && r.revision <= asked.to);
        let present = tenant.revisions.last().map_or(tenant.floor, |r| r.revision);
        // Pages of two, so that there are several.
        let revisions = wanted.take(2).cloned().collect();
        let answer =
            HistoryResponse { revisions, floor: tenant.floor, incarnation: tenant.incarnation, revision: present };
        Ok(Response::new(answer))
    }

    async fn ensure_tenant(&self, _: Request<EnsureTenantRequest>) -> Result<Response<EnsureTenantResponse>, Status> {
        Err(Status::unimplemented("not of a feed"))
    }

    async fn export_rows(&self, _: Request<ExportRowsRequest>) -> Result<Response<ExportRowsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn release_set(&self, _: Request<ReleaseSetRequest>) -> Result<Response<ReleaseSetResponse>, Status> {
        Err(Status::unimplemented("not of a watch"))
    }

    async fn loads(&self, _: Request<LoadsRequest>) -> Result<Response<LoadsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn report_use(&self, _: Request<ReportUseRequest>) -> Result<Response<ReportUseResponse>, Status> {
        Err(Status::unimplemented("not of a feed"))
    }
}

/// As a shard does it: what is there first, then what comes, and marks in between.
async fn feed(
    member: MemberService,
    mut requests: Streaming<FeedRequest>,
    out: mpsc::Sender<Result<FeedResponse, Status>>,
) {
    let group = &member.group;
    let mut changed = group.changed.subscribe();
    let mut marks = tokio::time::interval(Duration::from_millis(20));
    let mut subscribed: Option<(u64, Option<u64>)> = None;
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(Ok(FeedRequest { request: Some(feed_request::Request::Subscribe(s)) })) => {
                    subscribed = Some((s.epoch, s.after));
                }
                Some(Ok(_)) => subscribed = None,
                _ => return,
            },
            _ = changed.changed() => {}
            _ = marks.tick() => {}
        }
        let Some((epoch, sent)) = subscribed else { continue };
        let blind = group.blind.lock().as_ref() == Some(&member.name);
        let tenant = group.tenant.lock().clone().filter(|_| !blind);
        let end = match &tenant {
            None => Some(("not_here", 0)),
            Some(t) if t.deleted => Some(("deleted", 0)),
            Some(t) if t.epoch != epoch => Some(("wrong_epoch", 0)),
            Some(t) if sent.is_some_and(|s| s < t.floor) => Some(("compacted", t.floor)),
            Some(_) => None,
        };
        let say = |body| out.send(Ok(FeedResponse { tenant_id: 1, body: Some(body) }));
        if let Some((reason, floor)) = end {
            subscribed = None;
            let _ = say(Body::End(FeedEnd { reason: reason.into(), floor })).await;
            continue;
        }
        let tenant = tenant.unwrap();
        let present = tenant.revisions.last().map_or(tenant.floor, |r| r.revision);
        let after = sent.unwrap_or(present);
        for revision in tenant.revisions.iter().filter(|r| r.revision > after) {
            let _ = say(Body::Revision(revision.clone())).await;
        }
        subscribed = Some((epoch, Some(present.max(after))));
        let mark = FeedMark { revision: present, incarnation: tenant.incarnation, age_ms: 0, epoch, frozen: false };
        if say(Body::Mark(mark)).await.is_err() {
            return;
        }
    }
}

/// A lane before groups `a` (three members) and `b` (one).
pub struct World {
    pub lane: Arc<Lane>,
    pub routes: Routes,
    pub directory: Directory,
    pub draining: CancellationToken,
    pub a: Group,
    pub b: Group,
    ca: TestCa,
    _dir: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl World {
    /// Tenant `acme` (1) is in group `a`, at revision 5 of incarnation 1; key `k` may read all of it.
    pub async fn start(settings: Settings) -> Self {
        Self::start_with(settings, Duration::from_secs(900)).await
    }

    /// The same; known keys go on for `grace` while placement is silent.
    pub async fn start_with(settings: Settings, grace: Duration) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::new(dir.path());
        let (routes, directory) = (Routes::default(), Directory::new(grace));
        let tls = ca.context("conflux://test/gateway/g1");
        let upstream = Upstream::new(tls, "test".parse().unwrap(), routes.clone(), 1);
        let draining = CancellationToken::new();
        let handles = Handles {
            cluster: "test".parse().unwrap(),
            routes: routes.clone(),
            upstream,
            directory: directory.clone(),
            draining: draining.clone(),
        };
        let lane = Lane::with_settings(handles, settings);
        let (a, b) = (Group::new(), Group::new());
        let mut world = World { lane, routes, directory, draining, a, b, ca, _dir: dir, tasks: JoinSet::new() };
        world.a = world.group("a", 3).await;
        world.b = world.group("b", 1).await;
        world.a.set(Some(Tenant { epoch: 1, incarnation: 1, ..Default::default() }));
        for _ in 0..5 {
            world.a.commit("old");
        }
        world.route("a", 1);
        world.key("*/*/*");
        world
    }

    async fn group(&mut self, name: &str, members: usize) -> Group {
        let mut group = Group::new();
        for n in 1..=members {
            let member = format!("{name}-{n}");
            let listener = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
            group.members.push((member.clone(), listener.local_addr().unwrap()));
            let tls = self.ca.context(&format!("conflux://test/shard/{name}/{member}"));
            let admission = Admission { cluster: "test".parse().unwrap(), allowed: vec![Peers::Role(Role::Gateway)] };
            let service = MemberService { name: member, group: group.clone() };
            let router = tonic::service::Routes::new(ShardServiceServer::new(service)).into_axum_router();
            let (limits, never) = (ServeLimits::default(), std::future::pending());
            self.tasks.spawn(serve::serve(listener, tls, admission, limits, router, never));
        }
        let wire = |(n, (name, address)): (usize, &(String, SocketAddr))| internal::GroupMember {
            node_id: n as u64 + 1,
            name: name.clone(),
            service_address: address.to_string(),
            voter: true,
        };
        let members = group.members.iter().enumerate().map(wire).collect();
        let record =
            internal::GroupRecord { name: name.into(), log_index: 1, members, leader: 1, ..Default::default() };
        self.routes.change(|t| t.apply(&Change::Group(record)));
        group
    }

    /// Placement says where the tenant is.
    pub fn route(&self, shard: &str, epoch: u64) {
        let record = internal::TenantRecord {
            id: 1,
            name: "acme".into(),
            incarnation: 1,
            shard: shard.into(),
            epoch,
            state: TenantState::Stable as i32,
            ..Default::default()
        };
        self.routes.change(|t| t.apply(&Change::Tenant(record)));
    }

    /// Placement says what key `k` may read.
    pub fn key(&self, pattern: &str) {
        self.key_until(pattern, 0);
    }

    /// The same, of a key that ends at this time (milliseconds since 1970; 0: never).
    pub fn key_until(&self, pattern: &str, expires_ms: u64) {
        let grants = vec![internal::Grant { action: "read".into(), pattern: pattern.into() }];
        let role = internal::RoleRecord { tenant: "acme".into(), name: "r".into(), grants };
        let key = internal::KeyRecord {
            id: "k".into(),
            tenant: "acme".into(),
            roles: vec!["r".into()],
            expires_ms,
            ..Default::default()
        };
        self.directory.change(self.directory.seq() + 1, |c| {
            c.apply(&Change::Role(role));
            c.apply(&Change::Key(key));
        });
    }

    /// Placement says that key `k` is no more.
    pub fn revoke(&self) {
        self.directory.change(self.directory.seq() + 1, |c| {
            c.apply(&Change::KeyGone("k".into()));
        });
    }

    pub fn identity(&self) -> Identity {
        let record = self.directory.key("k").unwrap();
        let principal: Principal = self.directory.key_principal(&record, SystemTime::now()).unwrap();
        Identity { principal: Arc::new(principal), credential: Credential::Key("k".into()) }
    }

    pub fn tenant_route(&self) -> TenantRoute {
        let known = self.routes.tenant_by_id(TenantId(1)).unwrap();
        assert_eq!((known.incarnation, known.epoch >= Epoch(1)), (Incarnation(1), true));
        known
    }

    /// Asks as the door does.
    pub async fn ask(&self, query: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut request = http::Request::get(format!("/api/v1/watch/acme?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let request = WatchRequest {
            parts,
            body: RequestBody::empty(),
            identity: self.identity(),
            route: self.tenant_route(),
            request_id: "r-1".into(),
            style: Style::Rest,
        };
        serve(&self.lane, request).await
    }
}
