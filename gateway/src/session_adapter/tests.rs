//! A real listener, real clients: what goes through the adapter must look to a client like any HTTP server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::{Router, body::Body, routing};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_tungstenite::tungstenite::{Message, handshake::derive_accept_key, protocol::Role};
use tower::ServiceExt;

use super::{Answer, RequestBody, Upgrade};
use crate::{
    listener::{ListenerLimits, Service, serve},
    threads::Threads,
};

struct Door {
    address: SocketAddr,
    ca: rustls::pki_types::CertificateDer<'static>,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

impl Door {
    async fn open(service: impl Service) -> Self {
        Self::open_with(service, ListenerLimits::default()).await
    }

    async fn open_with(service: impl Service, limits: ListenerLimits) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = made.cert.der().clone();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![ca.clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let tls = Arc::new(ArcSwap::from_pointee(config));
        let threads = Arc::new(Threads::start().unwrap());
        let served = tokio::spawn(serve(listener, tls, limits, Arc::new(service), threads, stopping));
        Self { address, ca, stop, served }
    }

    fn client_config(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn client(&self, http1: bool) -> reqwest::Client {
        let mut config = self.client_config();
        if !http1 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let builder = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy();
        if http1 { builder.http1_only().build().unwrap() } else { builder.build().unwrap() }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    async fn tls(&self, alpn: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut config = self.client_config();
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }
}

/// Any axum router as the service behind the adapter.
struct Routed(Router);

#[async_trait]
impl Service for Routed {
    async fn answer(&self, request: Request<RequestBody>) -> Answer {
        let response = self.0.clone().oneshot(request.map(Body::new)).await.unwrap();
        Answer::Response(response)
    }
}

/// A service of one function.
struct Of<F>(F);

#[async_trait]
impl<F, Fut> Service for Of<F>
where
    F: Fn(Request<RequestBody>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send,
{
    async fn answer(&self, request: Request<RequestBody>) -> Answer {
        (self.0)(request).await
    }
}

fn echo() -> Routed {
    Routed(
        Router::new()
            .route("/echo", routing::put(|body: Bytes| async move { body }))
            .route("/", routing::get(|| async { "hi" })),
    )
}

#[tokio::test]
async fn bodies_go_both_ways_over_either_protocol() {
    // A megabyte is more than any buffer on the way.
    let door = Door::open(echo()).await;
    let content = vec![b'x'; 1 << 20];
    for http1 in [true, false] {
        let client = door.client(http1);
        for _ in 0..3 {
            let answer = client.put(door.url("/echo")).body(content.clone()).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.version() == http::Version::HTTP_2, !http1);
            assert_eq!(answer.bytes().await.unwrap(), content);
        }
        let head = client.head(door.url("/")).send().await.unwrap();
        assert_eq!(head.headers()[header::CONTENT_LENGTH], "2");
    }
}

#[tokio::test]
async fn an_unknown_length_ends_visibly() {
    // Without framing an HTTP/1.1 client would wait for ever or lose the connection.
    let chunks = || async {
        let parts = futures::stream::iter(["a", "b", "c"].map(|p| Ok::<_, std::io::Error>(Bytes::from(p))));
        Body::from_stream(parts)
    };
    let door = Door::open(Routed(Router::new().route("/chunks", routing::get(chunks)))).await;
    for http1 in [true, false] {
        let client = door.client(http1);
        for _ in 0..2 {
            assert_eq!(client.get(door.url("/chunks")).send().await.unwrap().text().await.unwrap(), "abc");
        }
    }
}

#[tokio::test]
async fn a_stream_arrives_piece_by_piece() {
    // What SSE needs: each event is seen before the next is made.
    for http1 in [true, false] {
        let (events, feed) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let feed = Arc::new(tokio::sync::Mutex::new(Some(feed)));
        let door = Door::open(Of(move |_| {
            let feed = feed.clone();
            async move {
                let feed = feed.lock().await.take().unwrap();
                let stream = tokio_stream::wrappers::ReceiverStream::new(feed);
                let mut response = Response::new(Body::from_stream(stream));
                response.headers_mut().insert(header::CONTENT_TYPE, "text/event-stream".parse().unwrap());
                Answer::Response(response)
            }
        }))
        .await;
        let mut answer = door.client(http1).get(door.url("/events")).send().await.unwrap();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            events.send(Ok(Bytes::from(event))).await.unwrap();
            assert_eq!(answer.chunk().await.unwrap().unwrap(), event);
        }
        drop(events);
        assert!(answer.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn trailers_reach_an_h2_client() {
    // gRPC's status travels in them, and in the head alone when there is no message.
    let door = Door::open(Of(|request: Request<RequestBody>| async move {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "7".parse().unwrap());
        if request.uri().path() == "/only" {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = trailers;
            return Answer::Response(response);
        }
        let frames = [
            Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from("m"))),
            Ok(http_body::Frame::trailers(trailers)),
        ];
        Answer::Response(Response::new(Body::new(StreamBody::new(futures::stream::iter(frames)))))
    }))
    .await;
    let (mut client, connection) = h2_client(&door).await;
    tokio::spawn(connection);
    let get = |path: &str| Request::get(door.url(path)).body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let collected = client.send_request(get("/both")).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "7");
    assert_eq!(collected.to_bytes(), "m");
    let only = client.send_request(get("/only")).await.unwrap();
    assert_eq!(only.headers()["grpc-status"], "7");
    assert!(http_body::Body::is_end_stream(only.body()), "one HEADERS frame with END_STREAM");
}

async fn h2_client(
    door: &Door,
) -> (
    hyper::client::conn::http2::SendRequest<http_body_util::Empty<Bytes>>,
    impl Future<Output = Result<(), hyper::Error>> + use<>,
) {
    let io = hyper_util::rt::TokioIo::new(door.tls(b"h2").await);
    hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_service() {
    // Else an abandoned watch would hold its place for ever.
    struct Guard(mpsc::UnboundedSender<()>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    for http1 in [true, false] {
        let (dropped, mut seen) = mpsc::unbounded_channel();
        let (started, mut running) = mpsc::unbounded_channel();
        let door = Door::open(Of(move |_| {
            let guard = Guard(dropped.clone());
            let _ = started.send(());
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Answer::Response(Response::new(Body::empty()))
            }
        }))
        .await;
        let asking = tokio::spawn(door.client(http1).get(door.url("/")).send());
        running.recv().await.unwrap();
        asking.abort();
        tokio::time::timeout(Duration::from_secs(10), seen.recv()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_websocket_talks_through_an_upgrade() {
    // The service gets the raw connection, and its end closes it.
    let door = Door::open(Of(|request: Request<RequestBody>| async move {
        let key = request.headers()["sec-websocket-key"].as_bytes().to_vec();
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in
            [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", &derive_accept_key(&key))]
        {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        let serve = Box::new(|io| {
            Box::pin(async move {
                let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(io, Role::Server, None).await;
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            }) as futures::future::BoxFuture<'static, ()>
        });
        Answer::Upgrade(Upgrade { response, serve })
    }))
    .await;
    let io = door.tls(b"http/1.1").await;
    let (mut socket, response) = tokio_tungstenite::client_async("wss://localhost/ws", io).await.unwrap();
    assert_eq!(response.status(), 101);
    let large = "y".repeat(300_000);
    for text in ["one", "two", &large] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), text);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test]
async fn a_refused_upload_still_gets_its_answer() {
    // The body is never read; closing at once would reset the connection under the answer.
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let door = Door::open(Of(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            let mut response = Response::new(Body::from("no"));
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            Answer::Response(response)
        }
    }))
    .await;
    for http1 in [true, false] {
        let answer = door.client(http1).put(door.url("/")).body(vec![0; 3 << 20]).send().await.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.text().await.unwrap(), "no");
    }
    assert_eq!(refused.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_in_flight_ends_before_the_door_closes() {
    // A restart must cost nobody an answer, and idle connections must not hold it up.
    let (started, mut running) = mpsc::unbounded_channel();
    let (release, released) = watch::channel(false);
    let door = Door::open(Of(move |_| {
        let _ = started.send(());
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|r| *r).await;
            Answer::Response(Response::new(Body::from("done")))
        }
    }))
    .await;
    let mut asking = Vec::new();
    for http1 in [true, false] {
        asking.push(tokio::spawn(door.client(http1).get(door.url("/")).send()));
        running.recv().await.unwrap();
    }
    let idle = door.tls(b"http/1.1").await;
    door.stop.send(true).unwrap();
    release.send(true).unwrap();
    for answer in asking {
        assert_eq!(answer.await.unwrap().unwrap().text().await.unwrap(), "done");
    }
    tokio::time::timeout(Duration::from_secs(8), door.served).await.unwrap().unwrap();
    drop(idle);
}

/// A client that sees frames and windows.
async fn raw_h2(door: &Door, options: &h2::client::Builder) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = options.handshake(door.tls(b"h2").await).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// Silence must not hold a connection's place for ever; an answer that takes long is no silence.
#[tokio::test]
async fn a_silent_h2_connection_is_closed_and_one_that_waits_is_not() {
    let (release, released) = watch::channel(false);
    let service = Of(move |_| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|r| *r).await;
            Answer::Response(Response::new(Body::from("done")))
        }
    });
    let limits = ListenerLimits { head: Duration::from_millis(200), ..ListenerLimits::default() };
    let door = Door::open_with(service, limits).await;
    let (mut waits, connection) = h2_client(&door).await;
    tokio::spawn(connection);
    let get = Request::get(door.url("/")).body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let asked = tokio::spawn(waits.send_request(get));
    // The second one began when the first had been silent for as long as it may.
    for _ in 0..2 {
        let (_silent, closed) = h2_client(&door).await;
        tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap().unwrap();
    }
    release.send(true).unwrap();
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
}

/// A proxy before us and we must not read two different things in one head.
#[tokio::test]
async fn a_request_of_two_authorities_is_refused() {
    let door = Door::open(echo()).await;
    let mut client = raw_h2(&door, &h2::client::Builder::new()).await;
    let (here, two) = ("https://localhost/", ["localhost", "localhost"]);
    let cases: [(&str, &[&str], u16); 5] = [
        (here, &[], 200),
        (here, &["localhost"], 200),
        (here, &["other"], 400),
        (here, &two, 400),
        ("https://a@localhost/", &["a@localhost"], 400),
    ];
    for (target, hosts, status) in cases {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), status, "{hosts:?}");
    }
}

/// A reader with a small window gets all of a large answer, at its own pace.
#[tokio::test]
async fn a_large_answer_waits_for_its_reader() {
    let large = || async { vec![b'z'; 1 << 20] };
    let door = Door::open(Routed(Router::new().route("/large", routing::get(large)))).await;
    let mut options = h2::client::Builder::new();
    options.initial_window_size(1024).initial_connection_window_size(1 << 16);
    let mut client = raw_h2(&door, &options).await;
    let request = Request::get("https://localhost/large").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut got = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        assert!(chunk.len() <= 1024);
        got += chunk.len();
        body.flow_control().release_capacity(chunk.len()).unwrap();
    }
    assert_eq!(got, 1 << 20);
}

/// A defect that one request meets must not end the answers to others on its connection.
#[tokio::test]
async fn a_panic_ends_one_stream() {
    let (release, released) = watch::channel(false);
    let door = Door::open(Of(move |request: Request<RequestBody>| {
        let mut released = released.clone();
        async move {
            assert_ne!(request.uri().path(), "/defect", "on purpose");
            let _ = released.wait_for(|r| *r).await;
            Answer::Response(Response::new(Body::from("done")))
        }
    }))
    .await;
    let mut client = raw_h2(&door, &h2::client::Builder::new()).await;
    let get = |path: &str| Request::get(format!("https://localhost{path}")).body(()).unwrap();
    let (waits, _) = client.send_request(get("/"), true).unwrap();
    let (defect, _) = client.send_request(get("/defect"), true).unwrap();
    assert!(defect.await.unwrap_err().is_reset());
    release.send(true).unwrap();
    assert_eq!(waits.await.unwrap().status(), 200);
}

/// An answer that took longer than silence may last is sent whole, and its connection goes on.
#[tokio::test]
async fn a_long_answer_is_no_silence() {
    let (release, released) = watch::channel(false);
    let service = Of(move |_| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|r| *r).await;
            Answer::Response(Response::new(Body::from(vec![b'z'; 1 << 20])))
        }
    });
    let limits = ListenerLimits { head: Duration::from_millis(200), ..ListenerLimits::default() };
    let door = Door::open_with(service, limits).await;
    let mut options = h2::client::Builder::new();
    options.initial_window_size(8 << 20).initial_connection_window_size(8 << 20);
    let mut client = raw_h2(&door, &options).await;
    let get = || Request::get("https://localhost/").body(()).unwrap();
    let (first, _) = client.send_request(get(), true).unwrap();
    // Until another one has been silent for as long as it may.
    let (_silent, closed) = h2_client(&door).await;
    closed.await.unwrap();
    release.send(true).unwrap();
    for answer in [first, client.send_request(get(), true).unwrap().0] {
        let mut body = answer.await.unwrap().into_body();
        let mut got = 0;
        while let Some(chunk) = body.data().await {
            got += chunk.unwrap().len();
        }
        assert_eq!(got, 1 << 20);
    }
}
