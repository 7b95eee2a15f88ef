//! The one place that turns an error into an HTTP answer.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{error::ApiError, headers};

/// The answer of REST: status, JSON body, `Retry-After` in whole seconds (rounded up), and the hint for the gateway.
pub fn error_response(error: &ApiError, request_id: &str) -> Response<Bytes> {
    let body = serde_json::to_vec(&error.to_body(request_id)).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    out.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        out.insert(headers::REQUEST_ID, headers::unrepeated(id));
    }
    if let Some(after) = error.retry_after {
        out.insert(header::RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000) as u64));
    }
    if let Some(hint) = &error.hint {
        let (kind, value) = hint.to_headers();
        out.insert(headers::RETRY, HeaderValue::from_static(kind));
        if let Ok(value) = HeaderValue::from_str(&value) {
            out.insert(headers::RETRY_HINT, value);
        }
    }
    response
}
