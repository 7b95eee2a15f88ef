//! The request's body: read from the session or the stream only when the service asks for it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};
use pingora::protocols::http::ServerSession;
use tokio::sync::{Notify, mpsc};

use super::Gone;

/// What pingora calls a body that is not as chunked bodies are.
const INVALID_CHUNK: &str = "InvalidChunk";

/// The client broke off its upload.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the request body broke off: {0}")]
pub struct BodyError(String);

/// A streaming request body. Nothing is read from the client before the first poll, so that a request that is refused
/// by its head costs no upload (`Expect: 100-continue` is answered then).
pub struct RequestBody {
    source: Source,
    length: Option<u64>,
}

enum Source {
    Nothing,
    /// A session, which [`Upload`] reads.
    Session {
        chunks: mpsc::Receiver<Result<Bytes, BodyError>>,
        wanted: Arc<Notify>,
        asked: bool,
    },
    Stream(RecvStream),
}

impl RequestBody {
    /// A body with nothing in it.
    pub fn empty() -> Self {
        Self { source: Source::Nothing, length: Some(0) }
    }

    /// What comes on an h2 stream.
    pub(super) fn of_stream(stream: RecvStream, headers: &HeaderMap) -> Self {
        if stream.is_end_stream() {
            return Self::empty();
        }
        Self { source: Source::Stream(stream), length: announced(headers) }
    }

    /// The length that the client announced.
    pub fn announced_length(&self) -> Option<u64> {
        self.length
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let chunk = match &mut self.source {
            Source::Nothing => return Poll::Ready(None),
            Source::Session { chunks, wanted, asked } => {
                if !*asked {
                    *asked = true;
                    wanted.notify_one();
                }
                ready!(chunks.poll_recv(cx))
            }
            Source::Stream(stream) => ready!(stream.poll_data(cx)).map(|chunk| {
                // The client may send as much again.
                chunk
                    .and_then(|data| stream.flow_control().release_capacity(data.len()).map(|()| data))
                    .map_err(|error| BodyError(error.to_string()))
            }),
        };
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}

/// The session's end of a [`RequestBody`].
pub(super) struct Upload {
    sender: Option<mpsc::Sender<Result<Bytes, BodyError>>>,
    wanted: Arc<Notify>,
    expects_continue: bool,
    started: bool,
}

/// What [`Upload::step`] leaves to do.
pub(super) enum Step {
    /// It is done.
    Nothing,
    /// The client waits for `100 Continue`.
    Invite,
}

impl Upload {
    /// Both ends for a session whose head has been read.
    pub(super) fn new(session: &mut ServerSession) -> (RequestBody, Upload) {
        let headers = &session.req_header().headers;
        let (length, expects_continue) = (announced(headers), headers.contains_key(header::EXPECT));
        let wanted = Arc::<Notify>::default();
        let upload = |sender| Upload { sender, wanted: wanted.clone(), expects_continue, started: false };
        if session.is_body_empty() {
            return (RequestBody::empty(), upload(None));
        }
        let (sender, chunks) = mpsc::channel(2);
        let upload = upload(Some(sender));
        (RequestBody { source: Source::Session { chunks, wanted, asked: false }, length }, upload)
    }

    /// Moves one chunk to the service, or waits for the client to leave. Safe to cancel at any await.
    pub(super) async fn step(&mut self, session: &mut ServerSession) -> Result<Step, Gone> {
        let Some(sender) = &self.sender else { return watch_for_leaving(session).await };
        if !self.started {
            self.wanted.notified().await;
            self.started = true;
            return Ok(if self.expects_continue { Step::Invite } else { Step::Nothing });
        }
        let Ok(permit) = sender.reserve().await else {
            // The service wants no more of it.
            self.sender = None;
            return Ok(Step::Nothing);
        };
        match session.read_request_body().await {
            Ok(Some(chunk)) => {
                permit.send(Ok(chunk));
                Ok(Step::Nothing)
            }
            Ok(None) => {
                drop(permit);
                self.sender = None;
                Ok(Step::Nothing)
            }
            Err(error) => {
                permit.send(Err(BodyError(error.to_string())));
                self.sender = None;
                if error.root_etype().as_str() != INVALID_CHUNK {
                    return Err(error.into());
                }
                // The client is still there, and is told by the service; where its body ends nobody knows.
                session.set_keepalive(None);
                Ok(Step::Nothing)
            }
        }
    }
}

async fn watch_for_leaving(session: &mut ServerSession) -> Result<Step, Gone> {
    if !session.is_body_done() {
        // Bytes that nobody wants lie between us and the end of the connection.
        std::future::pending::<()>().await;
    }
    session.read_body_or_idle(true).await?;
    Ok(Step::Nothing)
}
