//! A placement group in this process, on loopback with real certificates, and those who call it.

// Each of the tests that use this uses a part of it.
#![allow(dead_code)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use conflux_common::{
    dial::MtlsConnector,
    headers,
    serve::{ServeLimits, serve},
    settings::{FounderSettings, MemberSettings},
    testing::{TestCa, free_address},
    tls::{Admission, Peers, Role},
};
use conflux_placement::{PlacementSettings, RunError, run, settings::MoveSettings};
use conflux_proto::{
    internal::{
        EnsureTenantRequest, EnsureTenantResponse, ExportRowsRequest, ExportRowsResponse, FeedRequest, FeedResponse,
        GroupMember, GroupRecord, HistoryRequest, HistoryResponse, LoadsRequest, LoadsResponse, LookupTenantRequest,
        MovePhase, ReleaseSetRequest, ReleaseSetResponse, ReportGroupRequest, ReportUseRequest, ReportUseResponse,
        TenantLoad, TenantRecord, TenantState,
        lookup_tenant_request::By,
        placement_service_client::PlacementServiceClient,
        shard_service_server::{ShardService, ShardServiceServer},
    },
    status::from_status,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Response, Status, Streaming,
    transport::{Channel, Endpoint},
};

/// Nothing here takes so long; a test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Repeats a question until it has an answer.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// How to stop a member, and what it ends with.
type Running = (oneshot::Sender<()>, JoinHandle<Result<(), RunError>>);

struct Member {
    settings: PlacementSettings,
    running: Option<Running>,
}

impl Member {
    fn start(&mut self) {
        let (stop, stopped) = oneshot::channel::<()>();
        let running = run(self.settings.clone(), async { drop(stopped.await) });
        self.running = Some((stop, tokio::spawn(running)));
    }
}

/// The members `placement-1` and so on.
pub struct Group {
    pub ca: Arc<TestCa>,
    members: Vec<Member>,
    _dir: tempfile::TempDir,
}

/// An answer to an operator.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Group {
    /// Starts so many members and waits for a leader.
    pub async fn start(count: usize) -> Group {
        Self::start_with(count, MoveSettings::default()).await
    }

    /// As `start`, with other settings.
    pub async fn start_with(count: usize, moves: MoveSettings) -> Group {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(TestCa::new(&dir.path().join("ca")));
        let name = |n: usize| format!("placement-{}", n + 1);
        let ports: Vec<[SocketAddr; 3]> = (0..count).map(|_| [(); 3].map(|()| free_address())).collect();
        let founders: Vec<FounderSettings> = (0..count)
            .map(|n| FounderSettings {
                member: name(n).parse().unwrap(),
                raft_address: ports[n][0].to_string(),
                service_address: ports[n][1].to_string(),
            })
            .collect();
        let settings = |n: usize| MemberSettings {
            cluster: "test".parse().unwrap(),
            group: "placement".parse().unwrap(),
            member: name(n).parse().unwrap(),
            data_dir: dir.path().join(name(n)),
            raft_listen: ports[n][0],
            service_listen: ports[n][1],
            metrics_listen: ports[n][2],
            raft_advertise: None,
            service_advertise: None,
            tls: ca.issue(&format!("conflux://test/placement/placement/{}", name(n))),
            founders: founders.clone(),
            raft: Default::default(),
            log: Default::default(),
        };
        let members = (0..count)
            .map(|n| Member { settings: PlacementSettings { member: settings(n), moves }, running: None })
            .collect();
        let mut group = Group { ca, members, _dir: dir };
        group.members.iter_mut().for_each(Member::start);
        group.leader().await;
        group
    }

    /// Stops a member as SIGTERM does.
    pub async fn stop(&mut self, n: usize) {
        let (stop, running) = self.members[n].running.take().unwrap();
        let _ = stop.send(());
        tokio::time::timeout(PATIENCE, running).await.expect("it stops").unwrap().expect("it stops without an error");
    }

    /// Starts it again on its data.
    pub fn start_again(&mut self, n: usize) {
        self.members[n].start();
    }

    /// Those that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|n| self.members[*n].running.is_some()).collect()
    }

    fn address(&self, n: usize) -> String {
        self.members[n].settings.member.service_address()
    }

    /// Which member leads, by its own word.
    pub async fn leader(&self) -> usize {
        until("there is a leader", || async {
            for n in self.running() {
                let answer = self.try_call(n, "operator/ops", Method::GET, "/_cluster/status", None, &[]).await;
                if answer.is_some_and(|a| a.json["state"] == "leader") {
                    return Some(n);
                }
            }
            None
        })
        .await
    }

    fn connector(&self, who: &str, n: usize) -> MtlsConnector {
        let member = &self.members[n].settings.member;
        let expected = Peers::Member(Role::Placement, Some(member.group.clone()), member.member.clone());
        let expected = Admission { cluster: member.cluster.clone(), allowed: vec![expected] };
        MtlsConnector { tls: self.ca.context(&format!("conflux://test/{who}")), expected }
    }

    /// A call by the holder of `conflux://test/<who>` to one member; none: it does not answer.
    pub async fn try_call(
        &self,
        n: usize,
        who: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
        extra: &[(&str, &str)],
    ) -> Option<Answer> {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(self.connector(who, n));
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address(n)));
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let body = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let response = client.request(request.body(Full::new(body)).unwrap()).await.ok()?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let json = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Some(Answer { status: parts.status, headers: parts.headers, json })
    }

    /// A call by an operator to the leader, repeated like a gateway does while nothing was proposed.
    pub async fn operator(&self, method: Method, path: &str, body: Option<Value>, extra: &[(&str, &str)]) -> Answer {
        until("the leader answers", || async {
            let leader = self.leader().await;
            let answer = self.try_call(leader, "operator/ops", method.clone(), path, body.clone(), extra).await?;
            (!answer.headers.contains_key(headers::RETRY)).then_some(answer)
        })
        .await
    }

    /// gRPC to one member as the holder of `conflux://test/<who>`.
    pub fn grpc(&self, n: usize, who: &str) -> PlacementServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address(n))).unwrap();
        PlacementServiceClient::new(endpoint.connect_with_connector_lazy(self.connector(who, n)))
    }

    /// Has the first member of this shard group report it to the leader, whom it returns.
    pub async fn report(&self, group: GroupRecord) -> usize {
        let who = format!("shard/{0}/{0}-1", group.name);
        until("the report is taken", || async {
            let leader = self.leader().await;
            let request = ReportGroupRequest { group: Some(group.clone()) };
            self.grpc(leader, &who).report_group(request).await.ok().map(|_| leader)
        })
        .await
    }

    /// Starts a stand-in for a shard group with one member and has it reported.
    pub async fn with_shard(self: &Arc<Self>, name: &str) -> JoinHandle<()> {
        self.with_shard_that(name, Arc::default()).await
    }

    /// As `with_shard`, of a shard that behaves as the test says.
    pub async fn with_shard_that(self: &Arc<Self>, name: &str, manner: Arc<Manner>) -> JoinHandle<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let uri = format!("shard/{name}/{name}-1");
        let tls = self.ca.context(&format!("conflux://test/{uri}"));
        let allowed = vec![Peers::Role(Role::Placement)];
        let admission = Admission { cluster: "test".parse().unwrap(), allowed };
        let service = ShardServiceServer::new(StandIn {
            group: self.clone(),
            uri: uri.clone(),
            name: name.to_owned(),
            manner,
            tenants: Mutex::default(),
        });
        let router = axum::Router::new().route_service("/conflux.internal.v1.ShardService/{*method}", service);
        let serving = serve(listener, tls, admission, ServeLimits::default(), router, std::future::pending());
        let serving = tokio::spawn(serving);
        let report = shard(name, 1, &address.to_string());
        self.report(report).await;
        serving
    }
}

/// What the leader of a shard group with one member reports.
pub fn shard(name: &str, log_index: u64, address: &str) -> GroupRecord {
    let member =
        GroupMember { node_id: 1, name: format!("{name}-1"), service_address: address.to_owned(), voter: true };
    GroupRecord { name: name.into(), log_index, members: vec![member], leader: 1, ..Default::default() }
}

/// How a stand-in behaves.
#[derive(Default)]
pub struct Manner {
    /// Its imports make no progress.
    pub never_copies: AtomicBool,
    /// It never has all of a frozen tenant.
    pub never_prepares: AtomicBool,
    /// It answers nothing.
    pub is_silent: AtomicBool,
    /// What it says of the tenants that it is asked about in `Loads`.
    pub loads: Mutex<Vec<TenantLoad>>,
}

fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}

/// Follows placement's record as a shard does, with nothing behind it.
struct StandIn {
    group: Arc<Group>,
    uri: String,
    name: String,
    manner: Arc<Manner>,
    tenants: Mutex<HashMap<u64, Held>>,
}

/// What a stand-in has of a tenant.
#[derive(Default, Clone, Copy)]
struct Held {
    rows: u64,
    ended_move: u64,
}

/// Rows of every tenant.
const ROWS: u64 = 3;

impl StandIn {
    /// What a shard answers that has logged what follows from the record.
    fn follow(&self, tenant: &TenantRecord) -> EnsureTenantResponse {
        let mut tenants = self.tenants.lock().unwrap();
        let held = tenants.entry(tenant.id).or_default();
        let owns = tenant.shard == self.name;
        let Some(m) = &tenant.r#move else {
            held.rows = if owns { ROWS } else { held.rows.saturating_sub(1) };
            return answer(if owns { "active" } else { "moved" }, tenant.epoch, held);
        };
        let epoch = if m.from == self.name { m.from_epoch } else { m.to_epoch };
        let source = m.from == self.name;
        let mut said = match m.phase() {
            MovePhase::Preparing if source => answer("active", epoch, held),
            MovePhase::Preparing => {
                if !is(&self.manner.never_copies) {
                    held.rows = (held.rows + 1).min(ROWS);
                }
                answer("importing", 0, held)
            }
            MovePhase::Freezing if source => answer("frozen", epoch, held),
            MovePhase::Freezing if is(&self.manner.never_prepares) => answer("importing", 0, held),
            MovePhase::Freezing => answer("prepared", 0, held),
            MovePhase::Aborted => {
                held.ended_move = m.id;
                held.rows = if source { ROWS } else { 0 };
                answer(if source { "active" } else { "absent" }, epoch, held)
            }
            _ => {
                held.ended_move = m.id;
                held.rows = if source { held.rows.saturating_sub(1) } else { ROWS };
                answer(if source { "moved" } else { "active" }, m.to_epoch, held)
            }
        };
        said.r#move = m.id;
        said
    }
}

fn answer(state: &str, epoch: u64, held: &Held) -> EnsureTenantResponse {
    EnsureTenantResponse {
        state: state.into(),
        epoch,
        ended_move: held.ended_move,
        revision: 9,
        rows_hash: vec![7; 32].into(),
        rows: held.rows,
        row_bytes: held.rows * 100,
        import_whole: held.rows == ROWS,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl ShardService for StandIn {
    type FeedStream = tokio_stream::Empty<Result<FeedResponse, Status>>;

    async fn feed(&self, _: tonic::Request<Streaming<FeedRequest>>) -> Result<Response<Self::FeedStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn history(&self, _: tonic::Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn export_rows(&self, _: tonic::Request<ExportRowsRequest>) -> Result<Response<ExportRowsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn release_set(&self, _: tonic::Request<ReleaseSetRequest>) -> Result<Response<ReleaseSetResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn loads(&self, _: tonic::Request<LoadsRequest>) -> Result<Response<LoadsResponse>, Status> {
        if is(&self.manner.is_silent) {
            return Err(Status::unavailable("it is told to be silent"));
        }
        Ok(Response::new(LoadsResponse { tenants: self.manner.loads.lock().unwrap().clone() }))
    }

    async fn report_use(&self, _: tonic::Request<ReportUseRequest>) -> Result<Response<ReportUseResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn ensure_tenant(
        &self,
        request: tonic::Request<EnsureTenantRequest>,
    ) -> Result<Response<EnsureTenantResponse>, Status> {
        if is(&self.manner.is_silent) {
            return Err(Status::unavailable("it is told to be silent"));
        }
        let id = request.into_inner().tenant_id;
        let leader = self.group.leader().await;
        let lookup = LookupTenantRequest { by: Some(By::Id(id)) };
        let found = self.group.grpc(leader, &self.uri).lookup_tenant(lookup).await?.into_inner();
        let tenant = found.tenant.ok_or_else(|| Status::not_found("no such tenant"))?;
        let said = match tenant.state() {
            TenantState::Creating | TenantState::Stable => self.follow(&tenant),
            _ => answer("deleted", tenant.epoch, &Held::default()),
        };
        Ok(Response::new(EnsureTenantResponse { settings_seq: tenant.settings_seq, ..said }))
    }
}

/// The code of a refusal, as REST shows it.
pub fn code(status: &Status) -> &'static str {
    from_status(status).code.name()
}
