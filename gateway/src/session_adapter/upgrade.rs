//! Hands an HTTP/1.1 connection over to a service after `101 Switching Protocols`.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{Response, Version};
use pingora::{http::ResponseHeader, protocols::http::ServerSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::Gone;

/// Bytes that may lie between the client and the service, each way.
const BUFFER: usize = 64 * 1024;
/// How long a service may take to end once its client has.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Takes a connection over.
pub struct Upgrade {
    /// Status 101 with its headers (`upgrade`, `connection`, `sec-websocket-accept`).
    pub response: Response<()>,
    /// Gets the raw connection; when the future ends, the connection is closed.
    pub serve: Box<dyn FnOnce(DuplexStream) -> BoxFuture<'static, ()> + Send>,
}

/// Ends the service's task when the connection does.
struct Serving(tokio::task::JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upgrade {
    pub(super) async fn run(self, session: &mut ServerSession) -> Result<(), Gone> {
        let (mut parts, ()) = self.response.into_parts();
        parts.version = Version::HTTP_11;
        session.write_response_header(Box::new(ResponseHeader::from(parts))).await?;
        // Silence is allowed now: who is dead is found by the protocol's own pings.
        session.set_read_timeout(None);
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let mut serving = Serving(tokio::spawn((self.serve)(theirs)));
        let result = pump(session, ours).await;
        if result.is_ok() {
            let _ = tokio::time::timeout(LAST_WORDS, &mut serving.0).await;
        }
        result
    }
}

/// Moves bytes both ways until the service ends. No direction waits for the other, except on a client that takes
/// nothing, which the session's write timeout bounds.
async fn pump(session: &mut ServerSession, ours: DuplexStream) -> Result<(), Gone> {
    let (mut from_service, mut to_service) = tokio::io::split(ours);
    let mut outgoing = BytesMut::with_capacity(16 * 1024);
    let mut incoming: Option<Bytes> = None;
    let mut client_done = false;
    let mut end = std::pin::pin!(tokio::time::sleep(LAST_WORDS));
    loop {
        tokio::select! {
            () = &mut end, if client_done => return Err(Gone("the client hung up".into())),
            read = from_service.read_buf(&mut outgoing) => {
                if !matches!(read, Ok(n) if n > 0) {
                    session.finish_body().await?;
                    return Ok(());
                }
                session.write_response_body(outgoing.split().freeze(), false).await?;
                outgoing.reserve(16 * 1024);
            }
            written = forward(&mut to_service, &mut incoming), if incoming.is_some() => {
                if written.is_err() {
                    // The service is gone; what it still said comes out of the other arm.
                    incoming = None;
                    client_done = true;
                    end.as_mut().reset(tokio::time::Instant::now() + LAST_WORDS);
                }
            }
            chunk = session.read_request_body(), if incoming.is_none() && !client_done => match chunk? {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => incoming = Some(chunk),
                None => {
                    client_done = true;
                    end.as_mut().reset(tokio::time::Instant::now() + LAST_WORDS);
                    let _ = to_service.shutdown().await;
                }
            },
        }
    }
}

/// Writes some of what waits. Cancelled between writes it loses nothing.
async fn forward(to: &mut (impl AsyncWriteExt + Unpin), waiting: &mut Option<Bytes>) -> Result<(), std::io::Error> {
    if let Some(bytes) = waiting {
        let written = to.write(bytes).await?;
        bytes.advance(written);
        if bytes.is_empty() {
            *waiting = None;
        }
    }
    Ok(())
}
