//! Connections of the load: both sides are driven by the same HTTP client over the same TLS, so that what the load itself costs is
//! alike. etcd's gRPC is spoken as what it is: h2 requests with a framed message and trailers.

use std::{convert::Infallible, path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::HOST, uri::Scheme};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::TlsConnector;

/// A request's body.
pub type Body = BoxBody<Bytes, Infallible>;

/// All of the body at once.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A first piece of a body that is never ended, as a client's side of a stream that stays open.
pub fn unended(bytes: Bytes) -> Body {
    use futures::StreamExt;
    let first = futures::stream::once(async move { Ok(Frame::data(bytes)) });
    BoxBody::new(StreamBody::new(first.chain(futures::stream::pending())))
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: one request at a time.
    Http1,
    /// h2.
    Http2,
}

/// Where one side listens, and how it is trusted.
#[derive(Clone)]
pub struct Endpoint {
    /// `127.0.0.1:port`
    pub address: String,
    tls: Arc<rustls::ClientConfig>,
    protocol: Protocol,
}

/// A client certificate and its key, in PEM.
pub struct Identity<'a> {
    pub cert: &'a Path,
    pub key: &'a Path,
}

impl Endpoint {
    /// Trusts this CA; shows this certificate where there is one.
    pub fn new(address: &str, ca: &Path, identity: Option<Identity<'_>>, protocol: Protocol) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_file_iter(ca).with_context(|| ca.display().to_string())? {
            roots.add(cert?)?;
        }
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let mut tls = match identity {
            Some(own) => {
                let chain = CertificateDer::pem_file_iter(own.cert)?.collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(own.key)?)?
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Self { address: address.into(), tls: Arc::new(tls), protocol })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Connection> {
        let tcp = TcpStream::connect(&self.address).await.with_context(|| self.address.clone())?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect("localhost".try_into()?, tcp).await?;
        let io = TokioIo::new(tls);
        let sender = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = conn::http1::handshake(io).await?;
                tokio::spawn(connection);
                Sender::Http1(Mutex::new(sender))
            }
            Protocol::Http2 => {
                let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Connection { sender, authority: self.address.replace("127.0.0.1", "localhost") })
    }
}

enum Sender {
    Http1(Mutex<conn::http1::SendRequest<Body>>),
    Http2(conn::http2::SendRequest<Body>),
}

/// An open connection; it ends with its last clone of the sender.
pub struct Connection {
    sender: Sender,
    authority: String,
}

impl Connection {
    /// Sends a request whose URI is a path, and returns the head of the answer.
    pub async fn open(&self, mut request: Request<Body>) -> Result<Response<Incoming>> {
        match &self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert(HOST, HeaderValue::from_str(&self.authority)?);
                let mut sender = sender.lock().await;
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Sender::Http2(sender) => {
                let mut parts = std::mem::take(request.uri_mut()).into_parts();
                parts.scheme = Some(Scheme::HTTPS);
                parts.authority = Some(self.authority.parse()?);
                *request.uri_mut() = Uri::from_parts(parts)?;
                let mut sender = sender.clone();
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }

    /// The whole answer, where it is a good one.
    pub async fn call(&self, request: Request<Body>) -> Result<Bytes> {
        let (head, body) = self.open(request).await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        let bytes = body.to_bytes();
        if !head.status.is_success() {
            bail!("{}: {}", head.status, String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
        }
        grpc_outcome(trailers.as_ref().unwrap_or(&head.headers))?;
        Ok(bytes)
    }
}

/// An answer of REST has no such header.
fn grpc_outcome(headers: &HeaderMap) -> Result<()> {
    match headers.get("grpc-status") {
        Some(status) if status != "0" => {
            let message = headers.get("grpc-message").and_then(|m| m.to_str().ok()).unwrap_or_default();
            bail!("grpc-status {}: {message}", status.to_str().unwrap_or_default())
        }
        _ => Ok(()),
    }
}
