//! The client's end of mTLS: a connector for hyper and tonic (`Endpoint::connect_with_connector_lazy`).
//!
//! Give tonic `http://host:port`: the connector does TLS, and tonic was built without. For example
//! `Endpoint::from_shared("http://10.0.0.1:7002")?.connect_with_connector_lazy(MtlsConnector { tls, expected })`.
//! A connection ends with an error when its peer is revoked; a channel then dials anew, by the present files.
//!
//! With TLS 1.3 a client finishes its handshake before the server has judged its certificate: a server that refuses us
//! shows as an error of the first request, not of the dial. Why it refused is in the server's log.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    detour,
    net::TcpStream,
    serve::reason,
    throttle::Throttle,
    tls::{Admission, PeerId, PeerSide, SERVER_NAME, TlsContext},
};

/// For TCP and TLS together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

static REFUSALS: Throttle = Throttle::new();

/// Dials a `host:port` over TCP and TLS, and accepts only the expected peers. A `tower::Service<Uri>`.
#[derive(Debug, Clone)]
pub struct MtlsConnector {
    /// Own certificate and trust.
    pub tls: TlsContext,
    /// Who must be at the other end.
    pub expected: Admission,
}

impl MtlsConnector {
    /// Connects once, within two seconds. `address` is `host:port`.
    pub async fn connect(&self, address: &str) -> io::Result<MtlsStream> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{address} did not answer within two seconds"));
        timeout(CONNECT_DEADLINE, self.handshake(address)).await.map_err(|_| late())?
    }

    async fn handshake(&self, address: &str) -> io::Result<MtlsStream> {
        let explained = |error: io::Error| io::Error::new(error.kind(), format!("cannot reach {address}: {error}"));
        let tcp = detour::connect(address).await.map_err(explained)?;
        tcp.set_nodelay(true).map_err(explained)?;
        let generation = self.tls.generation();
        let connector = TlsConnector::from(self.tls.client_config(&self.expected));
        let name = SERVER_NAME.try_into().map_err(io::Error::other)?;
        let stream = connector.connect(name, tcp).await.map_err(|error| self.refused(address, &error))?;
        let certificates: Vec<_> =
            stream.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
        let leaf = certificates.first().ok_or_else(|| io::Error::other("the server presented no certificate"))?;
        let peer = PeerId::of_certificate(leaf).map_err(io::Error::other)?;
        let distrusted = self.tls.clone().distrusted(certificates, PeerSide::Server, self.expected.clone(), generation);
        Ok(MtlsStream { io: TokioIo::new(stream), peer, address: address.into(), distrusted: Box::pin(distrusted) })
    }

    fn refused(&self, address: &str, error: &io::Error) -> io::Error {
        let why = reason(error);
        // Only what rustls judged; a connection that broke off is the caller's to report.
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            metrics::counter!("conflux_tls_refused_total", "side" => "client").increment(1);
            if let Some(kept_back) = REFUSALS.pass() {
                tracing::warn!(address, why, expected = %self.expected, kept_back, "a server was refused");
            }
        }
        io::Error::new(error.kind(), format!("the TLS handshake with {address} failed: {why}"))
    }
}

impl tower::Service<Uri> for MtlsConnector {
    type Response = MtlsStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<MtlsStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| no_address(&uri))?;
            let port = uri.port_u16().ok_or_else(|| no_address(&uri))?;
            connector.connect(&format!("{host}:{port}")).await
        })
    }
}

fn no_address(uri: &Uri) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} has no host and port"))
}

/// A connection to an expected peer. Fails once that peer's certificate is no longer trusted.
pub struct MtlsStream {
    io: TokioIo<TlsStream<TcpStream>>,
    peer: PeerId,
    address: Arc<str>,
    distrusted: Pin<Box<dyn Future<Output = String> + Send>>,
}

impl MtlsStream {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// Whether HTTP/2 was agreed on.
    pub fn is_h2(&self) -> bool {
        self.io.inner().get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl fmt::Debug for MtlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MtlsStream({} at {})", self.peer, self.address)
    }
}

impl Connection for MtlsStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.is_h2() { connected.negotiated_h2() } else { connected }
    }
}

impl Read for MtlsStream {
    /// hyper reads for as long as a connection lives, so here it is woken when the peer loses our trust.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(why) = self.distrusted.as_mut().poll(cx) {
            tracing::warn!(address = %self.address, peer = %self.peer, why,
                "a connection is closed: its certificate is no longer trusted");
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, why.clone());
            self.distrusted = Box::pin(std::future::ready(why));
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for MtlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
