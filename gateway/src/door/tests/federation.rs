//! What a gateway stands before: placement and shard members at the other end of real mTLS, which do as a test says.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
};
use bytes::Bytes;
use conflux_common::{
    api_key::ApiKey,
    error::{ApiError, Hint},
    respond::error_response,
    serve::{self, ServeLimits},
    testing::TestCa,
    tls::{Admission, Peers, Role},
};
use conflux_proto::internal::{
    self, Change, ChangesResponse, KeyRecord, TenantRecord, TenantState, change,
    placement_service_server::{PlacementService, PlacementServiceServer},
};
use futures::stream::BoxStream;
use http::{HeaderMap, Method, Response, Uri};
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::{StreamExt, wrappers::BroadcastStream};

use crate::{client_tls, listener, run::Parts, settings::GatewaySettings};

/// A call as a member saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub member: String,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

/// What a member does with a call.
#[derive(Debug, Clone)]
pub enum Act {
    /// Answers 200 with its name.
    Serve,
    /// Answers with this error.
    Refuse(ApiError),
    /// Refuses this often, then serves.
    RefuseFirst(u32, ApiError),
    /// Says nothing.
    Hang,
    /// Takes the call and closes the connection.
    Drop,
}

pub struct Federation {
    pub ca: TestCa,
    pub dir: tempfile::TempDir,
    pub acts: Arc<Mutex<HashMap<String, Act>>>,
    seen: mpsc::UnboundedReceiver<Seen>,
    seer: mpsc::UnboundedSender<Seen>,
    placement: Placement,
    placement_address: SocketAddr,
    members: Vec<(String, SocketAddr)>,
    pub key: ApiKey,
    pub tasks: tokio::task::JoinSet<()>,
}

/// The federation's placement: one process that has what the test gave it.
#[derive(Clone)]
struct Placement(Arc<PlacementState>);

struct PlacementState {
    copy: Mutex<Vec<change::Change>>,
    lookups: Mutex<HashMap<String, TenantRecord>>,
    news: broadcast::Sender<ChangesResponse>,
}

pub fn tenant(id: u64, name: &str, epoch: u64) -> TenantRecord {
    TenantRecord {
        id,
        name: name.into(),
        incarnation: 1,
        shard: "a".into(),
        epoch,
        state: TenantState::Stable as i32,
        ..Default::default()
    }
}

pub fn key_record(key: &ApiKey, tenant: &str) -> KeyRecord {
    KeyRecord {
        id: key.id().into(),
        secret_hash: key.secret_hash().to_vec().into(),
        tenant: tenant.into(),
        operator: tenant.is_empty(),
        roles: vec!["admin".into()],
        ..Default::default()
    }
}

impl Federation {
    /// Group `a` with members `a-1` (the leader) to `a-3`; tenants `acme` and `globex`; a key of `acme`.
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::new(&dir.path().join("ca"));
        let (seer, seen) = mpsc::unbounded_channel();
        let key = ApiKey::generate();
        let copy = vec![
            change::Change::Tenant(tenant(1, "acme", 1)),
            change::Change::Tenant(tenant(2, "globex", 1)),
            change::Change::Key(key_record(&key, "acme")),
        ];
        let placement = Placement(Arc::new(PlacementState {
            copy: Mutex::new(copy),
            lookups: Mutex::default(),
            news: broadcast::channel(64).0,
        }));
        let mut this = Self {
            ca,
            dir,
            acts: Arc::default(),
            seen,
            seer,
            placement,
            placement_address: SocketAddr::from(([127, 0, 0, 1], 1)),
            members: Vec::new(),
            key,
            tasks: tokio::task::JoinSet::new(),
        };
        for n in 1..=3 {
            this.member(&format!("a-{n}")).await;
        }
        this.start_placement().await;
        this
    }

    async fn port(&mut self, uri: &str, router: Router) -> SocketAddr {
        let listener = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let admission = Admission { cluster: "test".parse().unwrap(), allowed: vec![Peers::Role(Role::Gateway)] };
        let tls = self.ca.context(uri);
        let limits = ServeLimits::default();
        self.tasks.spawn(serve::serve(listener, tls, admission, limits, router, std::future::pending()));
        address
    }

    async fn member(&mut self, name: &str) {
        let member = MemberState { name: name.into(), acts: self.acts.clone(), seer: self.seer.clone() };
        let router = Router::new().fallback(member_answers).with_state(member);
        let address = self.port(&format!("conflux://test/shard/a/{name}"), router).await;
        self.members.push((name.into(), address));
    }

    async fn start_placement(&mut self) {
        let group = self.group(1, 1);
        self.placement.0.copy.lock().push(group);
        let member = MemberState { name: "p-1".into(), acts: self.acts.clone(), seer: self.seer.clone() };
        let router = tonic::service::Routes::new(PlacementServiceServer::new(self.placement.clone()))
            .into_axum_router()
            .route("/api/v1/admin/{*rest}", axum::routing::any(member_answers).with_state(member.clone()))
            .route("/_cluster/{*rest}", axum::routing::any(member_answers).with_state(member));
        self.placement_address = self.port("conflux://test/placement/placement/p-1", router).await;
    }

    fn group(&self, term: u64, leader: u64) -> change::Change {
        let member = |(n, (name, address)): (usize, &(String, SocketAddr))| internal::GroupMember {
            node_id: n as u64 + 1,
            name: name.clone(),
            service_address: address.to_string(),
            voter: true,
        };
        change::Change::Group(internal::GroupRecord {
            name: "a".into(),
            log_index: 1,
            members: self.members.iter().enumerate().map(member).collect(),
            weight: 1,
            leader,
            term,
            ..Default::default()
        })
    }

    pub fn settings(&self) -> GatewaySettings {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |name: &str, text: String| {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (cert, key) = (file("client.pem", made.cert.pem()), file("client.key", made.signing_key.serialize_pem()));
        let own = self.ca.issue("conflux://test/gateway/g-1");
        let text = format!(
            "cluster = \"test\"\nmember = \"g-1\"\nlisten = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\n\
             placement = [{{ member = \"p-1\", address = \"{}\" }}]\n\
             [client_tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n\
             [tls]\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n",
            self.placement_address,
            own.cert.display(),
            own.key.display(),
            own.ca.display(),
        );
        toml::from_str(&text).unwrap()
    }

    /// A gateway before it all, ready.
    pub async fn gateway(&mut self, change: impl FnOnce(&mut GatewaySettings)) -> Gateway {
        let mut settings = self.settings();
        change(&mut settings);
        let tls = conflux_common::tls::TlsContext::load(settings.tls.clone()).unwrap();
        let parts = Parts::build(&settings, crate::Document::default(), tls).await.unwrap();
        let client_tls = client_tls::load(&settings.client_tls).unwrap();
        let listener = serve::listen(settings.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let door = parts.door.clone();
        self.tasks.spawn(listener::serve(listener, client_tls, parts.limits, door.clone(), parts.threads, stopping));
        self.tasks.spawn(parts.mirror.run());
        let mut operators = None;
        if settings.operator.is_some() {
            let listener = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
            operators = Some(listener.local_addr().unwrap());
            let tls = conflux_common::tls::TlsContext::load(settings.tls.clone()).unwrap();
            let serving =
                crate::run::operator_port(listener, tls, &settings, parts.operator, None, std::future::pending());
            self.tasks.spawn(serving);
        }
        door.ready.reached().await;
        let pem = std::fs::read(&settings.client_tls.cert).unwrap();
        Gateway { address, operators, pem, _stop: stop, door }
    }

    pub fn act(&self, member: &str, act: Act) {
        self.acts.lock().insert(member.into(), act);
    }

    /// The next call that any member saw.
    pub async fn seen(&mut self) -> Seen {
        tokio::time::timeout(Duration::from_secs(10), self.seen.recv()).await.unwrap().unwrap()
    }

    /// Every call that was seen and not yet asked for.
    pub fn all_seen(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    /// Placement says this at sequence `seq`.
    pub fn tell(&self, seq: u64, change: change::Change) {
        let changes = vec![Change { change: Some(change) }];
        let _ = self.placement.0.news.send(ChangesResponse { seq, changes, ..Default::default() });
    }

    /// Only a look-up knows of this record.
    pub fn only_by_lookup(&self, record: TenantRecord) {
        self.placement.0.lookups.lock().insert(record.name.clone(), record);
    }
}

/// A gateway under test.
pub struct Gateway {
    pub address: SocketAddr,
    operators: Option<SocketAddr>,
    pem: Vec<u8>,
    _stop: tokio::sync::watch::Sender<bool>,
    pub door: Arc<super::super::Door>,
}

impl Gateway {
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    fn tls(&self) -> rustls::ClientConfig {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.pem).unwrap()).unwrap();
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
    }

    pub fn client(&self) -> reqwest::Client {
        let mut tls = self.tls();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
    }

    /// A client of the operators' port, with the certificate of this URI if any, and a URL on it.
    pub fn operator(&self, federation: &Federation, uri: Option<&str>, path: &str) -> (reqwest::Client, String) {
        let pem = |path: &std::path::Path| std::fs::read(path).unwrap();
        let ca = reqwest::Certificate::from_pem(&pem(&federation.ca.ca_file())).unwrap();
        let name = conflux_common::tls::SERVER_NAME;
        let mut client =
            reqwest::Client::builder().tls_certs_only([ca]).resolve(name, self.operators.unwrap()).no_proxy();
        if let Some(uri) = uri {
            let files = federation.ca.issue(uri);
            let both = [pem(&files.key), pem(&files.cert)].concat();
            client = client.identity(reqwest::Identity::from_pem(&both).unwrap());
        }
        (client.build().unwrap(), format!("https://{name}:{}{path}", self.operators.unwrap().port()))
    }

    /// Sends these bytes over TLS and reads until the gateway closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.tls()));
        let mut tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        tls.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), tls.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the gateway did not close: {}", String::from_utf8_lossy(&answer));
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[derive(Clone)]
struct MemberState {
    name: String,
    acts: Arc<Mutex<HashMap<String, Act>>>,
    seer: mpsc::UnboundedSender<Seen>,
}

async fn member_answers(State(member): State<MemberState>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let seen = Seen { member: member.name.clone(), method: parts.method, uri: parts.uri, headers: parts.headers, body };
    let _ = member.seer.send(seen);
    let act = member.acts.lock().get(&member.name).cloned();
    let act = match act {
        Some(Act::RefuseFirst(0, _)) => Act::Serve,
        Some(Act::RefuseFirst(left, error)) => {
            member.acts.lock().insert(member.name.clone(), Act::RefuseFirst(left - 1, error.clone()));
            Act::Refuse(error)
        }
        other => other.unwrap_or(Act::Serve),
    };
    match act {
        Act::Serve | Act::RefuseFirst(..) => Response::builder()
            .header("x-conflux-revision", "1.7")
            .header("x-conflux-secret-of-the-shard", "1")
            .header("server", "shard")
            .body(Body::from(member.name))
            .unwrap(),
        Act::Refuse(error) => error_response(&error, "r").map(Body::from),
        Act::Hang => std::future::pending().await,
        Act::Drop => {
            let broken = futures::stream::iter([Ok(Bytes::from("half")), Err(std::io::Error::other("gone"))]);
            Response::new(Body::from_stream(broken))
        }
    }
}

pub fn not_leader(leader: Option<&str>) -> ApiError {
    ApiError::elsewhere(Hint::NotLeader(leader.map(str::to_owned)), "not the leader")
}

#[tonic::async_trait]
impl PlacementService for Placement {
    type ChangesStream = BoxStream<'static, Result<ChangesResponse, tonic::Status>>;

    async fn changes(
        &self,
        _: tonic::Request<internal::ChangesRequest>,
    ) -> Result<tonic::Response<Self::ChangesStream>, tonic::Status> {
        let news = BroadcastStream::new(self.0.news.subscribe()).filter_map(Result::ok);
        let changes = self.0.copy.lock().iter().map(|c| Change { change: Some(c.clone()) }).collect();
        let copy = ChangesResponse { reset: true, complete: true, seq: 1, changes, progress: false };
        let ticks = tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(Duration::from_millis(100)));
        let progress = ticks.map(|_| ChangesResponse { seq: 1, progress: true, ..Default::default() });
        let stream = tokio_stream::once(copy).chain(news.merge(progress));
        Ok(tonic::Response::new(Box::pin(stream.map(Ok))))
    }

    async fn lookup_tenant(
        &self,
        request: tonic::Request<internal::LookupTenantRequest>,
    ) -> Result<tonic::Response<internal::LookupTenantResponse>, tonic::Status> {
        let Some(internal::lookup_tenant_request::By::Name(name)) = request.into_inner().by else {
            return Err(tonic::Status::invalid_argument("by name"));
        };
        let tenant = self.0.lookups.lock().get(&name).cloned();
        let found = tenant.is_some();
        Ok(tonic::Response::new(internal::LookupTenantResponse { tenant, found, source: None }))
    }

    async fn adopt_tenant(
        &self,
        _: tonic::Request<internal::AdoptTenantRequest>,
    ) -> Result<tonic::Response<internal::AdoptTenantResponse>, tonic::Status> {
        Err(tonic::Status::permission_denied("shards adopt"))
    }

    async fn report_group(
        &self,
        _: tonic::Request<internal::ReportGroupRequest>,
    ) -> Result<tonic::Response<internal::ReportGroupResponse>, tonic::Status> {
        Ok(tonic::Response::new(internal::ReportGroupResponse {}))
    }
}
