//! How REST answers: bodies and headers. What stands in the bodies is in `rest/shown.rs` and beside the handlers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use conflux_common::{
    error::{ApiError, Code},
    fetch::{Head, private},
    headers,
};
use conflux_proto::v1;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{admission::Refused, fetching::FetchAnswer, reading::Stamp, rest::shown::Written};

fn put(out: &mut HeaderMap, name: impl Into<HeaderName>, value: &str) {
    // Everything that comes here was made by this service from checked parts.
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name.into(), value);
    }
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

/// A fetched content as it was put, or 304.
pub fn fetched(answer: FetchAnswer) -> Response {
    let FetchAnswer { stamp, fetched, not_modified } = answer;
    let head = Head::new(fetched.version, &fetched.etag, &fetched.hash, &fetched.media_type);
    head.answer(&stamp.state(), (!not_modified).then_some(fetched.content)).map(Body::from)
}

/// JSON that reflects a state.
pub fn json(at: &Stamp, body: &impl Serialize) -> Response {
    let mut response = plain(StatusCode::OK, body);
    at.state().write(response.headers_mut());
    response
}

/// JSON that reflects no one state.
pub fn plain(status: StatusCode, body: &impl Serialize) -> Response {
    let body = match serde_json::to_vec(body) {
        Ok(body) => body,
        Err(e) => return Refused(ApiError::new(Code::Internal, e.to_string())).into_response(),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    private(response.headers_mut());
    put(response.headers_mut(), header::CONTENT_TYPE, "application/json");
    response
}

/// The same with the config's ETag.
pub fn json_with_etag(at: &Stamp, etag: &str, body: &impl Serialize) -> Response {
    let mut response = json(at, body);
    put(response.headers_mut(), header::ETAG, etag);
    response
}

/// What a write made: 201 for a new config or version of its own, else 200.
pub fn written(answer: &v1::WriteResponse, status: StatusCode, location: Option<String>) -> Response {
    let mut response = with_headers_of(answer, plain(status, &Written::from(answer)));
    if let Some(location) = location {
        put(response.headers_mut(), header::LOCATION, &location);
    }
    response
}

/// The headers that say what a write made.
pub fn with_headers_of(answer: &v1::WriteResponse, mut response: Response) -> Response {
    let out = response.headers_mut();
    put(out, name(headers::EPOCH), &answer.epoch.to_string());
    put(out, name(headers::REVISION), &answer.revision);
    if !answer.etag.is_empty() {
        put(out, header::ETAG, &answer.etag);
    }
    if answer.version > 0 {
        put(out, name(headers::CONFIG_VERSION), &answer.version.to_string());
    }
    if !answer.hash.is_empty() {
        put(out, name(headers::CONFIG_HASH), &answer.hash);
    }
    response
}
