//! A member's answer: read whole where it is small, so that a broken one can be asked for again.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use conflux_common::{
    error::{ApiError, Code, ErrorBody, ErrorInfo, Hint, Outcome},
    headers,
};
use http::{HeaderMap, Response, StatusCode, header, response::Parts};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::retry::Trouble;
use crate::upstream::Incoming;

/// Answers up to this size are read whole before the client sees their first byte.
const WHOLE: usize = 4 << 20;
/// gRPC's number for UNAVAILABLE.
const GRPC_UNAVAILABLE: &str = "14";

/// What a member answered.
#[derive(Debug)]
pub struct Answered {
    parts: Parts,
    data: Bytes,
    trailers: Option<HeaderMap>,
    /// What is still to come of a large one.
    rest: Option<Incoming>,
}

impl Answered {
    /// Reads it.
    pub async fn read(response: Response<Incoming>) -> Result<Self, h2::Error> {
        let (parts, mut body) = response.into_parts();
        let mut data = Bytes::new();
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(chunk) => data = joined(data, chunk),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
            if data.len() > WHOLE {
                return Ok(Self { parts, data, trailers: None, rest: Some(body) });
            }
        }
        Ok(Self { parts, data, trailers, rest: None })
    }

    /// Why it is no answer for the client: a refusal that the gateway can do something about.
    pub fn trouble(&self) -> Option<Trouble> {
        if let Some(hint) = self.hint() {
            return Some(Trouble::Refused(hint));
        }
        let lost_half_way = self.is_unavailable() && self.outcome() != Some(Outcome::NotApplied);
        lost_half_way.then_some(Trouble::Unknown)
    }

    /// A refusal of this one try that says nothing of the tries before it: too busy, too late, broken.
    pub fn of_this_try_only(&self) -> Option<ApiError> {
        let info = self.error()?;
        let undecided = (info.retryable || info.code == Code::Internal) && info.outcome == Outcome::NotApplied;
        let after = self.text(header::RETRY_AFTER.as_str()).and_then(|s| s.parse().ok()).map(Duration::from_secs);
        let of = |info: ErrorInfo| ApiError {
            details: info.details,
            retry_after: after,
            ..ApiError::new(info.code, info.message)
        };
        undecided.then(|| of(info))
    }

    /// Whether another replica may do better.
    pub fn is_unavailable(&self) -> bool {
        self.parts.status == StatusCode::SERVICE_UNAVAILABLE || self.text("grpc-status") == Some(GRPC_UNAVAILABLE)
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// What was read of its body.
    pub fn into_data(self) -> Bytes {
        self.data
    }

    fn hint(&self) -> Option<Hint> {
        Hint::from_headers(self.text(headers::RETRY)?, self.text(headers::RETRY_HINT).unwrap_or(""))
    }

    fn outcome(&self) -> Option<Outcome> {
        self.error().map(|info| info.outcome)
    }

    fn error(&self) -> Option<ErrorInfo> {
        let body: Option<ErrorBody> = match self.text(headers::ERROR_BODY) {
            Some(json) => serde_json::from_str(json).ok(),
            None => serde_json::from_slice(&self.data).ok(),
        };
        body.map(|b| b.error)
    }

    /// A header, or for gRPC a trailer.
    fn text(&self, name: &str) -> Option<&str> {
        let in_trailers = self.trailers.as_ref().and_then(|t| t.get(name));
        self.parts.headers.get(name).or(in_trailers).and_then(|v| v.to_str().ok())
    }

    /// As the client gets it.
    pub fn into_response(mut self) -> Response<Body> {
        // For the record of refused attempts: the body is not looked at again.
        if !self.parts.status.is_success() || self.text("grpc-status").is_some_and(|s| s != "0") {
            let code = self.error().map(|info| info.code);
            code.map(|code| self.parts.extensions.insert(code));
        }
        keep_public(&mut self.parts.headers);
        if self.parts.status == StatusCode::NOT_MODIFIED {
            // It would have to be that of the content (RFC 9110 section 8.6); the shard's HTTP server says 0.
            self.parts.headers.remove(header::CONTENT_LENGTH);
        }
        if let Some(trailers) = &mut self.trailers {
            keep_public(trailers);
        }
        let body = Replay { data: Some(self.data).filter(|d| !d.is_empty()), trailers: self.trailers, rest: self.rest };
        Response::from_parts(self.parts, Body::new(body))
    }
}

/// One after the other. Most answers come in one piece, which is taken as it is.
fn joined(before: Bytes, more: Bytes) -> Bytes {
    if before.is_empty() {
        return more;
    }
    let mut all = BytesMut::from(before);
    all.extend_from_slice(&more);
    all.freeze()
}

/// Takes out what is only between a shard and us, or of that connection.
fn keep_public(of: &mut HeaderMap) {
    let public = [headers::EPOCH, headers::REVISION, headers::AGE_MS, headers::ERROR_BODY];
    let gone: Vec<_> = of
        .keys()
        .filter(|name| headers::is_internal(name.as_str()) && !public.contains(&name.as_str()))
        .cloned()
        .collect();
    for name in gone {
        of.remove(name);
    }
    // As `headers::unrepeated` says; the way from the shard has lost it.
    for name in [headers::AGE_MS, headers::CONFIG_HASH] {
        of.get_mut(name).into_iter().for_each(|value| value.set_sensitive(true));
    }
    for name in [header::SERVER, header::DATE, header::CONNECTION, header::TRANSFER_ENCODING] {
        of.remove(name);
    }
}

/// What was read, then what is still to come.
struct Replay {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    rest: Option<Incoming>,
}

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(rest) = self.rest.as_mut() {
            return Pin::new(rest).poll_frame(cx);
        }
        Poll::Ready(self.trailers.take().map(|t| Ok(Frame::trailers(t))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_some() || self.trailers.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.data.as_ref().map_or(0, |d| d.len() as u64))
    }
}
