//! WebSocket: JSON frames of the same shape as over SSE, and a subscription that the client may change in place.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use conflux_common::error::{ApiError, Code};
use futures::{FutureExt, SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};
use serde::Deserialize;
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        error::CapacityError,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    Lane, WatchRequest, frame,
    selection::Wish,
    watcher::{Opening, Output, Watcher},
};
use crate::{
    respond::refuse,
    session_adapter::{Answer, Upgrade},
};

/// A client says little: its subscription.
const MAX_MESSAGE: usize = 16 * 1024;
/// How often a silent client is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A client that has said nothing (not even a pong) for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// For the closing handshake.
const CLOSING: Duration = Duration::from_secs(2);

/// What a client may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    subscribe: Wish,
}

/// Whether the request asks to speak WebSocket.
pub(super) fn is_asked(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE).and_then(|v| v.to_str().ok());
    upgrade.is_some_and(|u| u.split(',').any(|p| p.trim().eq_ignore_ascii_case("websocket")))
}

pub(super) async fn serve(lane: &Arc<Lane>, request: WatchRequest) -> Answer {
    let WatchRequest { parts, identity, route, request_id, style, .. } = request;
    let opened = async {
        let accept = handshake(&parts)?;
        check_origin(&parts, &lane.settings.allowed_origins)?;
        let wish = Wish::of_rest(parts.uri.query(), &parts.headers)?;
        let opening = Opening { identity, route, wish, transport: "websocket" };
        Ok::<_, ApiError>((accept, Watcher::open(lane, opening).await?))
    };
    match opened.await {
        Ok((accept, watcher)) => Answer::Upgrade(upgrade(accept, watcher, request_id)),
        Err(error) => refuse(&error, style, &request_id),
    }
}

/// The answer to the client's key.
fn handshake(parts: &Parts) -> Result<HeaderValue, ApiError> {
    if parts.method != Method::GET || parts.version != Version::HTTP_11 {
        return Err(ApiError::invalid("upgrade", "WebSocket is served by GET over HTTP/1.1"));
    }
    if parts.headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return Err(ApiError::invalid("sec-websocket-version", "must be 13"));
    }
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).filter(|k| k.len() == 24);
    let key = key.ok_or_else(|| ApiError::invalid("sec-websocket-key", "must be 16 bytes in base64"))?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|e| ApiError::new(Code::Internal, format!("the handshake failed: {e}")))
}

/// Only browsers send an origin: a page of another site must not open watches with what its visitor's browser holds.
fn check_origin(parts: &Parts, allowed: &[String]) -> Result<(), ApiError> {
    let Some(origin) = parts.headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = host(&parts.headers).or_else(|| parts.uri.authority().map(|a| a.as_str()));
    let same = origin.split_once("://").map(|(_, host)| host).zip(host).is_some_and(|(o, h)| o.eq_ignore_ascii_case(h));
    if same || allowed.iter().any(|a| a == "*" || a.eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    let text = "this origin may not open watches: see the gateway's setting for allowed origins";
    Err(ApiError::new(Code::PermissionDenied, text))
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST).and_then(|h| h.to_str().ok())
}

fn upgrade(accept: HeaderValue, watcher: Watcher, request_id: String) -> Upgrade {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        headers.insert(conflux_common::headers::REQUEST_ID, id);
    }
    Upgrade { response, serve: Box::new(move |io| talk(io, watcher, request_id).boxed()) }
}

async fn talk(io: DuplexStream, watcher: Watcher, request_id: String) {
    // Small buffers: there may be fifty thousand of these.
    let config = WebSocketConfig::default()
        .read_buffer_size(2048)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let now = Instant::now();
    let mut talk = Talk { socket, watcher, request_id, ping_at: now + PING_EVERY, heard: now };
    let close = match talk.run().await {
        Ok(close) => close,
        Err(error) => match reason_of(&error) {
            Some(close) => close,
            None => return,
        },
    };
    let _ = timeout(CLOSING, talk.close(close)).await;
}

struct Talk {
    socket: WebSocketStream<DuplexStream>,
    watcher: Watcher,
    request_id: String,
    ping_at: Instant,
    heard: Instant,
}

impl Talk {
    /// Until either side ends it; the answer says how to close.
    async fn run(&mut self) -> Result<Option<CloseFrame>, tungstenite::Error> {
        self.send(frame::progress(self.watcher.scope(), self.watcher.at(), false)).await?;
        loop {
            tokio::select! {
                output = self.watcher.next() => {
                    if let Some(close) = self.say(output).await? {
                        return Ok(Some(close));
                    }
                }
                message = self.socket.next() => {
                    self.heard = Instant::now();
                    match message {
                        None => return Ok(None),
                        Some(message) => if let Some(close) = self.hear(message?).await? {
                            return Ok(close);
                        },
                    }
                }
                () = sleep_until(self.ping_at) => {
                    self.ping_at = Instant::now() + PING_EVERY;
                    if self.heard.elapsed() > SILENCE {
                        return Ok(Some(closing(CloseCode::Away, "no pong")));
                    }
                    self.socket.send(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    async fn say(&mut self, output: Output) -> Result<Option<CloseFrame>, tungstenite::Error> {
        let (scope, at) = (self.watcher.scope(), self.watcher.at());
        match output {
            Output::Change(told) => self.send(frame::change(scope, &told)).await?,
            Output::Progress => self.send(frame::progress(scope, at, false)).await?,
            Output::End(error) => {
                self.send(frame::error(scope, at, &error, &self.request_id)).await?;
                let restart = self.watcher.is_draining() && error.code == Code::Unavailable;
                let code = if restart { CloseCode::Restart } else { close_code(&error) };
                return Ok(Some(closing(code, &error.to_string())));
            }
        }
        Ok(None)
    }

    async fn hear(&mut self, message: Message) -> Result<Option<Option<CloseFrame>>, tungstenite::Error> {
        match message {
            Message::Text(text) => self.obey(&text).await?,
            Message::Binary(_) => return Ok(Some(Some(closing(CloseCode::Unsupported, "send JSON as text")))),
            Message::Close(_) => return Ok(Some(None)),
            // tungstenite answers pings by itself.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => self.socket.flush().await?,
        }
        Ok(None)
    }

    /// A refused wish is answered, and the watch goes on as it was.
    async fn obey(&mut self, text: &str) -> Result<(), tungstenite::Error> {
        let changed = match serde_json::from_str::<Said>(text) {
            Ok(said) => self.watcher.change(&said.subscribe).await,
            Err(e) => Err(ApiError::invalid("message", format!("not {{\"subscribe\": {{..}}}}: {e}"))),
        };
        let (scope, at) = (self.watcher.scope(), self.watcher.at());
        let answer = match changed {
            Ok(()) => frame::progress(scope, at, true),
            Err(error) => frame::error(scope, at, &error, &self.request_id),
        };
        self.send(answer).await
    }

    async fn send(&mut self, text: Bytes) -> Result<(), tungstenite::Error> {
        let text = Utf8Bytes::try_from(text).map_err(|e| tungstenite::Error::Utf8(e.to_string()))?;
        self.socket.send(Message::Text(text)).await
    }

    async fn close(&mut self, frame: Option<CloseFrame>) {
        if self.socket.close(frame).await.is_ok() {
            while let Some(Ok(_)) = self.socket.next().await {}
        }
    }
}

fn closing(code: CloseCode, reason: &str) -> CloseFrame {
    // A control frame holds 125 bytes, two of which are the code.
    let reason: String = reason.chars().filter(char::is_ascii).take(120).collect();
    CloseFrame { code, reason: reason.into() }
}

/// Says whether to come back: 1013 and 1001 do (and 1012, when the gateway stops), the others are no use without a change.
fn close_code(error: &ApiError) -> CloseCode {
    match error.code {
        Code::ResourceExhausted | Code::DeadlineExceeded => CloseCode::Again,
        Code::Unavailable => CloseCode::Away,
        Code::Unauthenticated | Code::PermissionDenied => CloseCode::Policy,
        Code::Internal => CloseCode::Error,
        _ => CloseCode::from(4000 + error.http_status()),
    }
}

/// How to close after what the client did wrong; none when it is simply gone.
fn reason_of(error: &tungstenite::Error) -> Option<Option<CloseFrame>> {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            Some(Some(closing(CloseCode::Size, "a message is at most 16 KiB")))
        }
        tungstenite::Error::Utf8(_) => Some(Some(closing(CloseCode::Invalid, "text must be UTF-8"))),
        tungstenite::Error::Protocol(_) => Some(Some(closing(CloseCode::Protocol, "not as RFC 6455 says"))),
        _ => None,
    }
}
