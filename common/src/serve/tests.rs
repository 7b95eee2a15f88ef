//! What a port does with slow, many and leaving peers; and that axum and tonic fit on both ends.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::util::BoxCloneService;

use super::*;
use crate::{
    dial::MtlsConnector,
    ids::ClusterName,
    testing::TestCa,
    tls::{Peers, Role, SERVER_NAME},
};

/// Nothing here takes so long; only a defect does.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    dial: MtlsConnector,
    _dir: tempfile::TempDir,
}

async fn start<S, B>(limits: ServeLimits, service: S) -> Running
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let dir = tempfile::tempdir().unwrap();
    let ca = TestCa::new(dir.path());
    let admission = Admission { cluster: ClusterName::new("test").unwrap(), allowed: vec![Peers::Role(Role::Gateway)] };
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let tls = ca.context("conflux://test/gateway/server");
    let serving = tokio::spawn(serve(listener, tls, admission.clone(), limits, service, shutdown));
    let dial = MtlsConnector { tls: ca.context("conflux://test/gateway/client"), expected: admission };
    Running { address, stop, serving, dial, _dir: dir }
}

type H2 = http2::SendRequest<Empty<Bytes>>;

async fn h2(running: &Running) -> (H2, JoinHandle<Result<(), hyper::Error>>) {
    let stream = running.dial.connect(&running.address.to_string()).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("http://x/").body(Empty::new()).unwrap()
}

/// Answers "done" once it is let go; says when a request has come in.
fn held(
    entered: &Arc<Notify>,
    release: &Arc<Notify>,
) -> BoxCloneService<Request<Incoming>, Response<Full<Bytes>>, Infallible> {
    let (entered, release) = (entered.clone(), release.clone());
    BoxCloneService::new(tower::service_fn(move |_| {
        let (entered, release) = (entered.clone(), release.clone());
        async move {
            entered.notify_one();
            release.notified().await;
            Ok(Response::new(Full::new(Bytes::from("done"))))
        }
    }))
}

/// A shutdown lets the request under way finish, and takes no new connection.
#[tokio::test]
async fn a_shutdown_drains() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let running = start(ServeLimits::default(), held(&entered, &release)).await;
    let (mut sender, connection) = h2(&running).await;
    let answer = tokio::spawn(async move { sender.send_request(get()).await.unwrap().into_body().collect().await });
    timeout(PATIENCE, entered.notified()).await.unwrap();
    running.stop.send(()).unwrap();
    // The peer is told to go, and the port is closed, while the request is still held.
    let refused = async {
        while TcpStream::connect(running.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the port closes");
    assert!(!running.serving.is_finished());
    release.notify_one();
    let body = timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap().to_bytes();
    assert_eq!(body, "done");
    timeout(PATIENCE, running.serving).await.expect("the drain ends").unwrap();
    timeout(PATIENCE, connection).await.expect("the connection ends").unwrap().unwrap();
}

/// Where nobody can be answered any more, a request under way does not hold up the stop.
#[tokio::test]
async fn a_port_without_a_drain_closes_at_once() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let limits = ServeLimits { drain: Duration::ZERO, ..ServeLimits::default() };
    let running = start(limits, held(&entered, &release)).await;
    let (mut sender, _connection) = h2(&running).await;
    let answer = tokio::spawn(async move { sender.send_request(get()).await });
    timeout(PATIENCE, entered.notified()).await.unwrap();
    running.stop.send(()).unwrap();
    timeout(DRAIN / 2, running.serving).await.expect("it ends before a drain would").unwrap();
    assert!(timeout(PATIENCE, answer).await.unwrap().unwrap().is_err());
}

/// Who connects and says nothing is put out, and does not keep the slot.
#[tokio::test]
async fn a_silent_peer_is_put_out() {
    let limits = ServeLimits { max_connections: 1, handshake: Duration::from_millis(200), ..ServeLimits::default() };
    let service =
        tower::service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    let running = start(limits, service).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(timeout(PATIENCE, silent.read(&mut [0])).await.expect("an end").unwrap_or(0), 0);
    // One that finishes TLS and then sends half a request line is put out too.
    let mut config = (*running.dial.tls.client_config(&running.dial.expected)).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(running.address).await.unwrap();
    let mut slow = connector.connect(SERVER_NAME.try_into().unwrap(), tcp).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut rest = Vec::new();
    // Whatever the server says last, it ends.
    let _ = timeout(PATIENCE, slow.read_to_end(&mut rest)).await.expect("an end");
    let (mut sender, _connection) = timeout(PATIENCE, h2(&running)).await.expect("the slot is free again");
    assert_eq!(sender.send_request(get()).await.unwrap().status(), 200);
}

/// Connections beyond the bound wait until one ends, and are served then.
#[tokio::test]
async fn connections_are_bounded() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let limits = ServeLimits { max_connections: 1, ..ServeLimits::default() };
    let running = start(limits, held(&entered, &release)).await;
    let (first, first_connection) = h2(&running).await;
    // The kernel takes the connection; nobody answers the handshake, so the dial's own deadline ends it.
    let error = running.dial.connect(&running.address.to_string()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    drop(first);
    timeout(PATIENCE, first_connection).await.expect("the first ends").unwrap().unwrap();
    let (mut second, _connection) = h2(&running).await;
    release.notify_one();
    assert_eq!(timeout(PATIENCE, second.send_request(get())).await.expect("an answer").unwrap().status(), 200);
}

/// HTTP/1.1 is spoken where a peer asks for it, and oversized headers are refused.
#[tokio::test]
async fn http_1_is_spoken_within_bounds() {
    let service =
        tower::service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    let running = start(ServeLimits::default(), service).await;
    let mut config = (*running.dial.tls.client_config(&running.dial.expected)).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for (bytes, status) in [(1000, 200), (MAX_HEADER_BYTES + 1, 431)] {
        let tcp = TcpStream::connect(running.address).await.unwrap();
        let tls = connector.connect(SERVER_NAME.try_into().unwrap(), tcp).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/").header("host", "x").header("x", "y".repeat(bytes));
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
    }
}

/// gRPC and REST of one router, through tonic's channel: the way every internal call goes.
#[tokio::test]
async fn axum_and_tonic_fit() {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("shard", tonic_health::ServingStatus::Serving).await;
    let router = tonic::service::Routes::new(health).into_axum_router().route(
        "/who",
        axum::routing::get(|axum::Extension(peer): axum::Extension<PeerId>| async move { peer.to_string() }),
    );
    let running = start(ServeLimits::default(), router).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", running.address)).unwrap();
    let mut client = HealthClient::new(endpoint.connect_with_connector_lazy(running.dial.clone()));
    let request = HealthCheckRequest { service: "shard".into() };
    let answer = timeout(PATIENCE, client.check(request)).await.unwrap().unwrap();
    assert_eq!(answer.into_inner().status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    let (mut sender, _connection) = h2(&running).await;
    let who = Request::get("http://x/who").body(Empty::new()).unwrap();
    let body = sender.send_request(who).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "conflux://test/gateway/client");
}
