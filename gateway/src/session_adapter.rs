//! Runs a service over `http` types from a pingora session (HTTP/1.1) or an h2 stream (`stream.rs`), so that no protocol is written
//! by hand.
//!
//! Either becomes a request with a streaming body; the answer may stream, end with trailers (h2), or take the
//! connection over (`101 Switching Protocols`, HTTP/1.1). A client that goes away cancels the service's future and its body.

mod request_body;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
mod upgrade;

use std::{net::SocketAddr, time::Duration};

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use pingora::{
    apps::{HttpPersistentSettings, ReusedHttpStream},
    http::ResponseHeader,
    protocols::http::ServerSession,
};

use self::request_body::{Step, Upload};
pub use self::{request_body::RequestBody, upgrade::Upgrade};

/// A reader that takes nothing for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upload that nobody wants any more is read on, so that its sender sees the answer.
const LINGER: Duration = Duration::from_secs(2);
/// At most so many bytes of it.
const LINGER_BYTES: usize = 8 << 20;
/// An HTTP/1.1 connection waits so long for its next request, in seconds.
pub const KEEPALIVE_SECONDS: u64 = 75;

/// What a service does with a request.
pub enum Answer {
    /// Head, body and trailers; any of the latter may come slowly.
    Response(Response<Body>),
    /// The connection itself, after `101 Switching Protocols` (HTTP/1.1 only).
    Upgrade(Upgrade),
}

impl<B> From<Response<B>> for Answer
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    fn from(response: Response<B>) -> Self {
        Answer::Response(response.map(Body::new))
    }
}

/// The address that a request came from; in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

/// The path and query exactly as they came; in the request's extensions, since `http::Uri` is more tolerant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTarget(pub bytes::Bytes);

/// The client went away or its connection broke: there is nobody to answer.
#[derive(Debug, thiserror::Error)]
#[error("the client is gone: {0}")]
pub struct Gone(pub String);

impl From<Box<pingora::Error>> for Gone {
    fn from(error: Box<pingora::Error>) -> Self {
        Gone(error.to_string())
    }
}

/// Answers one HTTP/1.1 request whose head has been read. Gives the connection back where it can be used again.
pub async fn serve<F, Fut>(mut session: ServerSession, keep_alive: bool, service: F) -> Option<ReusedHttpStream>
where
    F: FnOnce(Request<RequestBody>) -> Fut,
    Fut: Future<Output = Answer> + Send,
{
    session.set_keepalive(keep_alive.then_some(KEEPALIVE_SECONDS));
    session.set_write_timeout(Some(WRITE_TIMEOUT));
    // A second request may already wait behind this one; its first byte must not look like a broken client.
    session.set_pipelining_enabled(true);
    if let Err(gone) = exchange(&mut session, service).await {
        tracing::debug!(error = %gone, "request given up");
        session.shutdown().await;
        return None;
    }
    finish(session).await
}

async fn exchange<F, Fut>(session: &mut ServerSession, service: F) -> Result<(), Gone>
where
    F: FnOnce(Request<RequestBody>) -> Fut,
    Fut: Future<Output = Answer> + Send,
{
    let (body, mut upload) = Upload::new(session);
    let request = head(session, body);
    let is_head = request.method() == Method::HEAD;
    let answer = answered(session, &mut upload, service(request)).await?;
    match answer {
        Answer::Upgrade(upgrade) => upgrade.run(session).await,
        Answer::Response(response) => write(session, response, is_head, &mut upload).await,
    }
}

/// Waits for the answer while its request is read. Owns the service's future, which holds several kilobytes: it must not stay
/// for as long as the answer's body comes, which for a watch is hours.
async fn answered(
    session: &mut ServerSession,
    upload: &mut Upload,
    service: impl Future<Output = Answer>,
) -> Result<Answer, Gone> {
    let mut service = std::pin::pin!(service);
    loop {
        tokio::select! {
            answer = &mut service => return Ok(answer),
            step = upload.step(session) => upload.take(session, step?).await?,
        }
    }
}

/// The request as `http` knows it. The URI may be unusable: [`RawTarget`] is what counts.
fn head(session: &ServerSession, body: RequestBody) -> Request<RequestBody> {
    let head = session.req_header();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    let raw = RawTarget(bytes::Bytes::copy_from_slice(head.raw_path()));
    request.extensions_mut().insert(raw);
    if let Some(address) = session.client_addr().and_then(|a| a.as_inet()) {
        request.extensions_mut().insert(ClientAddress(*address));
    }
    request
}

async fn write(
    session: &mut ServerSession,
    response: Response<Body>,
    is_head: bool,
    upload: &mut Upload,
) -> Result<(), Gone> {
    let (mut parts, mut body) = response.into_parts();
    let bodiless = is_bodiless(is_head, parts.status);
    if !bodiless && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        frame_http1(&mut parts.headers, session.req_header().version, body.size_hint().exact());
    }
    // pingora writes what it is told: HTTP/1.0 clients understand an HTTP/1.1 status line.
    parts.version = Version::HTTP_11;
    let ended = body.is_end_stream() || bodiless;
    session.write_response_header(Box::new(ResponseHeader::from(parts))).await?;
    if ended {
        return Ok(());
    }
    loop {
        tokio::select! {
            frame = body.frame() => match frame {
                None => return Ok(()),
                Some(Err(error)) => return Err(Gone(format!("the answer broke off: {error}"))),
                // HTTP/1 has no place for trailers that its clients would look at.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => session.write_response_body(data, false).await?,
                    Err(_trailers) => {}
                },
            },
            step = upload.step(session) => upload.take(session, step?).await?,
        }
    }
}

/// Whether the head is all of an answer.
fn is_bodiless(is_head: bool, status: StatusCode) -> bool {
    is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// HTTP/1 must say how the body ends; only the close of the connection is left to HTTP/1.0 and an unknown length.
fn frame_http1(headers: &mut http::HeaderMap, version: Version, length: Option<u64>) {
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    } else if version == Version::HTTP_11 {
        headers.insert(header::TRANSFER_ENCODING, http::HeaderValue::from_static("chunked"));
    }
}

/// Ends the answer and decides whether the connection serves another request.
async fn finish(mut session: ServerSession) -> Option<ReusedHttpStream> {
    if !session.was_upgraded() && !session.is_body_done() {
        // Closing while bytes are unread would reset the connection and take the answer with it.
        session.finish_body().await.ok()?;
        let _ = tokio::time::timeout(LINGER, linger(&mut session)).await;
    }
    let settings = HttpPersistentSettings::for_session(&session);
    match session.finish().await {
        Ok(stream) => stream.map(|s| ReusedHttpStream::from_reusable_stream(s, settings)),
        Err(error) => {
            tracing::debug!(%error, "the connection ended badly");
            None
        }
    }
}

async fn linger(session: &mut ServerSession) {
    let mut read = 0;
    while read < LINGER_BYTES {
        match session.read_request_body().await {
            Ok(Some(chunk)) => read += chunk.len(),
            _ => return,
        }
    }
}

impl Upload {
    /// Does what [`Upload::step`] found to do. Apart from it, since a write must not be cancelled half way.
    async fn take(&mut self, session: &mut ServerSession, step: Step) -> Result<(), Gone> {
        match step {
            Step::Nothing => Ok(()),
            Step::Invite => Ok(session.write_continue_response().await?),
        }
    }
}
