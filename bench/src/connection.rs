//! Connections of the load: all sides are driven by the same HTTP client over the same TLS, so that what the load itself costs is
//! alike. etcd's gRPC is spoken as what it is: h2 requests with a framed message and trailers. h2 is spoken without hyper's client
//! over it, whose queues and tasks cost as much as a small answer.

mod body;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri,
    header::HOST,
    uri::{Authority, Scheme},
};
use http_body_util::BodyExt;
use hyper::client::conn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::Mutex,
    task::AbortHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use self::body::{Answer, Body, whole};

/// Bytes of answers in flight on a stream of h2, and on a connection.
const WINDOWS: (u32, u32) = (2 << 20, 5 << 20);

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
    pub address: SocketAddr,
    name: ServerName<'static>,
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
        let address = address.parse().with_context(|| format!("{address} is no address"))?;
        Ok(Self { address, name: "localhost".try_into()?, tls: Arc::new(tls), protocol })
    }

    /// Whose certificate this is by another name than `localhost`.
    pub fn named(self, name: &str) -> Result<Self> {
        Ok(Self { name: ServerName::try_from(name.to_owned())?, ..self })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Connection> {
        self.connect_from(Ipv4Addr::UNSPECIFIED).await
    }

    /// Opens a connection from an address of this machine: each has its own ports, of which one address has 28,000.
    pub async fn connect_from(&self, source: Ipv4Addr) -> Result<Connection> {
        let io = self.stream(source).await?;
        let (sender, task) = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = conn::http1::handshake(TokioIo::new(io)).await?;
                (Sender::Http1(Mutex::new(sender)), tokio::spawn(connection).abort_handle())
            }
            Protocol::Http2 => {
                let mut builder = h2::client::Builder::new();
                builder.initial_window_size(WINDOWS.0).initial_connection_window_size(WINDOWS.1);
                let (sender, connection) = builder.enable_push(false).handshake(io).await?;
                (Sender::Http2(sender), tokio::spawn(connection).abort_handle())
            }
        };
        let authority: Authority = format!("localhost:{}", self.address.port()).parse()?;
        Ok(Connection { sender, task, host: HeaderValue::from_str(authority.as_str())?, authority })
    }

    /// The TLS below a connection, for what speaks by itself.
    pub async fn stream(&self, source: Ipv4Addr) -> Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        if !source.is_unspecified() {
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        let tcp = socket.connect(self.address).await.with_context(|| self.address.to_string())?;
        tcp.set_nodelay(true)?;
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), tcp).await?)
    }
}

enum Sender {
    Http1(Mutex<conn::http1::SendRequest<Body>>),
    Http2(h2::client::SendRequest<Bytes>),
}

/// An open connection. It ends when this is dropped, whatever is still under way on it: a stream that this side never ends would
/// keep it open.
pub struct Connection {
    sender: Sender,
    task: AbortHandle,
    authority: Authority,
    host: HeaderValue,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Sends a request whose URI is a path, and returns the head of the answer.
    pub async fn open(&self, mut request: Request<Body>) -> Result<Response<Answer>> {
        match &self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert(HOST, self.host.clone());
                let mut sender = sender.lock().await;
                sender.ready().await?;
                Ok(sender.send_request(request).await?.map(Answer::Http1))
            }
            Sender::Http2(sender) => {
                let mut parts = std::mem::take(request.uri_mut()).into_parts();
                parts.scheme = Some(Scheme::HTTPS);
                parts.authority = Some(self.authority.clone());
                *request.uri_mut() = Uri::from_parts(parts)?;
                let (parts, body) = request.into_parts();
                let head = Request::from_parts(parts, ());
                let mut sender = sender.clone().ready().await?;
                let answer = match body {
                    Body::Whole(None) => sender.send_request(head, true)?.0,
                    Body::Whole(Some(bytes)) => {
                        let (answer, mut upload) = sender.send_request(head, false)?;
                        upload.send_data(bytes, true)?;
                        answer
                    }
                    Body::Unended(first) => {
                        let (answer, mut upload) = sender.send_request(head, false)?;
                        upload.send_data(first.unwrap_or_default(), false)?;
                        answer
                    }
                };
                Ok(answer.await?.map(Answer::Http2))
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

    /// Reads an answer to its end and keeps nothing of it but how many bytes its body had: for the load, which makes many.
    pub async fn exchange(&self, request: Request<Body>, expected: Expected) -> Result<u64> {
        let (head, mut body) = self.open(request).await?.into_parts();
        if !expected.is(head.status) {
            let text = body.collect().await?.to_bytes();
            bail!("{}: {}", head.status, String::from_utf8_lossy(&text[..text.len().min(300)]));
        }
        let (mut bytes, mut judged) = (0, false);
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => bytes += data.len() as u64,
                Err(other) => {
                    if let Some(trailers) = other.trailers_ref() {
                        grpc_outcome(trailers)?;
                        judged = true;
                    }
                }
            }
        }
        if !judged {
            grpc_outcome(&head.headers)?;
        }
        Ok(bytes)
    }
}

/// What a good answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// 200 and its like.
    Success,
    /// 304: the client has it already.
    NotModified,
}

impl Expected {
    fn is(self, status: StatusCode) -> bool {
        match self {
            Expected::Success => status.is_success(),
            Expected::NotModified => status == StatusCode::NOT_MODIFIED,
        }
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
