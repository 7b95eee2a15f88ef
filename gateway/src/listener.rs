//! The client port: accepts, caps, shakes hands, and gives each connection to pingora's HTTP/1.1 or to h2.
//!
//! pingora's own `Server` installs signal handlers and exits the process, and its listener has no cap on connections
//! and a minute for a handshake. So the accept loop is ours; HTTP/1.1 (framing checks, keep-alive) is pingora's, and
//! `h2_connection.rs` says why h2 is not.

mod framing;
mod h2_connection;
mod metered;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::Request;
use pingora::{
    apps::{HttpServerApp, ReusedHttpStream, ServerApp},
    http::ResponseHeader,
    protocols::{TcpKeepalive, http::ServerSession, l4::ext::set_tcp_keepalive},
    server::ShutdownWatch,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

use self::metered::Metered;
use crate::{
    session_adapter::{self, Answer, RequestBody},
    strip,
    threads::Threads,
};

/// Bytes of an HTTP/1 head: what headers may have together, and a request line.
const MAX_HEAD: i64 = (strip::MAX_HEADER_BYTES + 16 * 1024) as i64;
/// How long an unreadable request is read on.
const LAST_READ: Duration = Duration::from_secs(1);
/// A client that vanished without a word is noticed by the kernel, also on a watch that has nothing to say.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
    user_timeout: Duration::from_secs(60),
};

/// The listening socket's configuration for clients; swapped when the certificate changes.
pub type ClientTls = Arc<ArcSwap<rustls::ServerConfig>>;

/// What answers requests.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers one request; dropped when its client goes away.
    async fn answer(&self, request: Request<RequestBody>) -> Answer;
}

/// Bounds of the client port.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// Open connections; further ones are closed at once, so that those who are inside go on.
    pub max_connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request, from when its connection is ready for it: also how long a connection may be idle.
    pub head: Duration,
    /// h2 streams open on one connection.
    pub max_streams: u32,
    /// How long requests in flight may take to end after the shutdown began.
    pub drain: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(session_adapter::KEEPALIVE_SECONDS),
            max_streams: 256,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves on `threads` until `shutdown` says true, then stops accepting, says goodbye on every connection (`Connection: close`,
/// GOAWAY) and waits for what is in flight.
pub async fn serve(
    listener: TcpListener,
    tls: ClientTls,
    limits: ListenerLimits,
    service: Arc<dyn Service>,
    threads: Arc<Threads>,
    mut shutdown: watch::Receiver<bool>,
) {
    let app = Arc::new(App { service, limits: limits.clone() });
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => match slots.clone().try_acquire_owned() {
                Ok(slot) => {
                    let tls = tls.load_full();
                    // Of this runtime until here, of the thread's from there on.
                    match stream.into_std() {
                        Ok(stream) => threads.spawn(connection(stream, tls, app.clone(), slot, shutdown.clone())),
                        Err(error) => tracing::warn!(%error, "a connection cannot be given to its thread"),
                    }
                }
                Err(_) => metrics::counter!("conflux_gateway_connections_refused_total").increment(1),
            },
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                // Out of file descriptors: wait until someone leaves.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits.drain, slots.acquire_many(all)).await.is_err() {
        tracing::warn!(seconds = limits.drain.as_secs(), "requests were still in flight when the drain ended");
    }
}

async fn connection(
    stream: std::net::TcpStream,
    tls: Arc<rustls::ServerConfig>,
    app: Arc<App>,
    slot: OwnedSemaphorePermit,
    shutdown: ShutdownWatch,
) {
    let _slot = slot;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a connection cannot be registered"),
    };
    let _ = stream.set_nodelay(true);
    if let Err(error) = set_tcp_keepalive(&stream, &KEEPALIVE) {
        tracing::debug!(%error, "TCP keep-alive cannot be set");
    }
    let peer = stream.peer_addr().ok();
    let stream = match tokio::time::timeout(app.limits.handshake, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(?peer, %error, "TLS handshake refused"),
        Err(_) => return tracing::debug!(?peer, "TLS handshake too slow"),
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        h2_connection::serve(stream, peer, &app.service, &app.limits, shutdown).await;
    } else {
        app.process_new(Box::new(Metered::new(stream, peer)), &shutdown).await;
    }
}

struct App {
    service: Arc<dyn Service>,
    limits: ListenerLimits,
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !self.read_head(&mut session, shutdown).await {
            return None;
        }
        let service = &self.service;
        let keep_alive = !*shutdown.borrow();
        session_adapter::serve(session, keep_alive, |request| service.answer(request)).await
    }
}

impl App {
    /// Whether there is a request to answer. One deadline for the whole head, since a client that sends a byte now and
    /// then never meets a deadline for each read.
    async fn read_head(&self, session: &mut ServerSession, shutdown: &ShutdownWatch) -> bool {
        let mut stopping = shutdown.clone();
        if let Some(stream) = Metered::of(session) {
            stream.allow(MAX_HEAD);
        }
        let read = tokio::select! {
            read = tokio::time::timeout(self.limits.head, session.read_request()) => read,
            // Nothing was asked on this connection: it may close.
            _ = stopped(&mut stopping) => return false,
        };
        let too_large = Metered::of(session).is_some_and(Metered::is_exhausted);
        if let Some(stream) = Metered::of(session) {
            stream.allow_all();
        }
        match read {
            Ok(Ok(got)) => {
                let refusal = got.then(|| framing::refusal(session)).flatten();
                let Some(why) = refusal else { return got };
                tracing::debug!(why, "ambiguous request");
                refuse(session, false).await;
                false
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "unreadable request");
                refuse(session, too_large).await;
                false
            }
            Err(_) => false,
        }
    }
}

/// Answers what is no request, and closes.
async fn refuse(session: &mut ServerSession, too_large: bool) {
    let (parts, body) = crate::respond::unreadable(too_large).into_parts();
    session.set_keepalive(None);
    let told = async {
        session.write_response_header(Box::new(ResponseHeader::from(parts))).await?;
        session.write_response_body(body, true).await
    };
    if told.await.is_ok() {
        let _ = tokio::time::timeout(LAST_READ, discard(session)).await;
    }
    session.shutdown().await;
}

/// Reads on a little, since closing while bytes are unread would take the answer with it.
async fn discard(session: &mut ServerSession) {
    if let ServerSession::H1(http1) = session {
        while matches!(http1.idle().await, Ok(n) if n > 0) {}
    }
}

/// Resolves a second after the shutdown began: whoever had begun to send a request then gets its answer.
async fn stopped(shutdown: &mut ShutdownWatch) {
    let _ = shutdown.wait_for(|stop| *stop).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}
