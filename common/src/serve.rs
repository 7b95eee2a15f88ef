//! The accept loop behind every mTLS port: handshake deadline, limits, peer identity, revocation, graceful drain.

use std::{convert::Infallible, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use rustls::pki_types::CertificateDer;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::{Service, ServiceExt};

use crate::{
    net::{TcpListener, TcpStream},
    throttle::Throttle,
    tls::{Admission, PeerId, PeerSide, TlsContext, explain},
};

/// [`ServeLimits::drain`] of most ports.
const DRAIN: Duration = Duration::from_secs(10);
/// A peer that is silent on h2 is asked so often whether it lives, and must answer within the same time.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Of all the headers of one request.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// After an accept failed (out of file descriptors, mostly): time for connections to end, instead of a busy loop.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Bounds of one port.
#[derive(Debug, Clone)]
pub struct ServeLimits {
    /// Open connections; further ones wait in the listen queue.
    pub max_connections: usize,
    /// For the TLS handshake and for the headers of an h1 request.
    pub handshake: Duration,
    /// h2 streams open on one connection.
    pub max_streams: u32,
    /// Requests under way at shutdown get so long to finish. Zero: every connection is closed at once.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { max_connections: 2048, handshake: Duration::from_secs(5), max_streams: 1024, drain: DRAIN }
    }
}

/// Binds a port. `SO_REUSEADDR` is set on Unix, so that a restart need not wait for old connections to be forgotten.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// Serves `service` until `shutdown` resolves, then drains for at most [`ServeLimits::drain`]. Each request carries the
/// [`PeerId`] and the peer's [`SocketAddr`] in its extensions. A connection whose certificate is revoked later is closed.
///
/// `service` is an `axum::Router`, or any tower service of hyper requests. HTTP/1.1 upgrades are not offered: an upgraded
/// connection would escape the revocation check and the drain.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: TlsContext,
    admission: Admission,
    limits: ServeLimits,
    service: S,
    shutdown: impl Future<Output = ()> + Send + 'static,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let drain = limits.drain;
    let port = Port { tls, admission, limits, refusals: Arc::new(Throttle::new()) };
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = next(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, slot)) => {
                let serving = port.clone().connection(stream, peer, service.clone(), graceful.watcher());
                connections.spawn(async move {
                    serving.await;
                    drop(slot);
                });
            }
            Err(error) => {
                if let Some(kept_back) = port.refusals.pass() {
                    tracing::error!(%error, kept_back, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    if !drain.is_zero() && timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = connections.len(), "requests did not finish in time; their connections are closed");
    }
    connections.shutdown().await;
}

type Slot = tokio::sync::OwnedSemaphorePermit;

/// Takes a slot first, so that what is beyond the bound waits in the kernel's queue and costs nothing here.
async fn next(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, SocketAddr, Slot)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

#[derive(Clone)]
struct Port {
    tls: TlsContext,
    admission: Admission,
    limits: ServeLimits,
    refusals: Arc<Throttle>,
}

/// A peer that passed the handshake.
struct Admitted {
    stream: TlsStream<TcpStream>,
    id: PeerId,
    certificates: Vec<CertificateDer<'static>>,
    /// Of the TLS files, before the handshake.
    generation: u64,
}

impl Port {
    /// One connection from handshake to end.
    async fn connection<S, B>(self, stream: TcpStream, address: SocketAddr, service: S, watcher: Watcher)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let admitted = match timeout(self.limits.handshake, self.handshake(stream)).await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(why)) => return self.say_refused(address, &why),
            Err(_) => return self.say_refused(address, "the handshake took too long"),
        };
        let Admitted { stream, id, certificates, generation } = admitted;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let distrusted =
            self.tls.clone().distrusted(certificates, PeerSide::Client, self.admission.clone(), generation);
        let peer = id.clone();
        let handler = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(address);
            service.clone().oneshot(request)
        });
        let http = self.http(h2);
        let connection = watcher.watch(http.serve_connection(TokioIo::new(stream), handler).into_owned());
        tokio::select! {
            ended = connection => {
                if let Err(error) = ended {
                    tracing::debug!(%address, peer = %id, %error, "a connection ended with an error");
                }
            },
            why = distrusted => {
                tracing::warn!(%address, peer = %id, why, "a connection is closed: its certificate is no longer trusted");
            },
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Result<Admitted, String> {
        // Small answers must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let generation = self.tls.generation();
        let acceptor = TlsAcceptor::from(self.tls.server_config(&self.admission));
        let stream = acceptor.accept(stream).await.map_err(|error| reason(&error))?;
        let certificates: Vec<_> =
            stream.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
        let leaf = certificates.first().ok_or("it presented no certificate")?;
        let id = PeerId::of_certificate(leaf).map_err(|error| error.to_string())?;
        Ok(Admitted { stream, id, certificates, generation })
    }

    fn http(&self, h2: bool) -> auto::Builder<TokioExecutor> {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(self.limits.handshake).max_buf_size(MAX_HEADER_BYTES);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.max_streams)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            // Rapid reset (CVE-2023-44487). A gateway that gives up many requests at once is no attacker, so as many
            // are borne as may be open.
            .max_pending_accept_reset_streams(self.limits.max_streams as usize)
            .max_local_error_reset_streams(self.limits.max_streams as usize);
        // By ALPN instead of by the first bytes, for which there would be no deadline.
        if h2 { http.http2_only() } else { http.http1_only() }
    }

    fn say_refused(&self, address: SocketAddr, why: &str) {
        metrics::counter!("conflux_tls_refused_total", "side" => "server").increment(1);
        if let Some(kept_back) = self.refusals.pass() {
            tracing::warn!(%address, why, expected = %self.admission, kept_back, "a connection was refused");
        }
    }
}

/// Why a handshake failed, in words.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => explain(tls),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
