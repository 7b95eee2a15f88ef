//! The one place that turns an error into a gRPC status and back.

use conflux_common::{
    error::{ApiError, Code, ErrorBody, Hint},
    headers,
};
use tonic::{Status, metadata::MetadataValue};

/// The status, with the JSON body of REST in the metadata `x-conflux-error` and the hint for the gateway.
pub fn to_status(error: &ApiError, request_id: &str) -> Status {
    let mut status = Status::new(tonic::Code::from_i32(error.code.grpc_code()), error.message.clone());
    let meta = status.metadata_mut();
    let body = serde_json::to_string(&error.to_body(request_id)).unwrap_or_default();
    // Header values are ASCII: a message with other characters travels only as the status message.
    if let Ok(body) = MetadataValue::try_from(body) {
        meta.insert(headers::ERROR_BODY, body);
    }
    if let Ok(id) = MetadataValue::try_from(request_id) {
        meta.insert(headers::REQUEST_ID, id);
    }
    if let Some(hint) = &error.hint {
        let (kind, value) = hint.to_headers();
        meta.insert(headers::RETRY, MetadataValue::from_static(kind));
        if let Ok(value) = MetadataValue::try_from(value) {
            meta.insert(headers::RETRY_HINT, value);
        }
    }
    status
}

/// Reads a status that another process of the federation sent. Without our body, a lost answer: outcome unknown.
pub fn from_status(status: &Status) -> ApiError {
    let text = |name: &str| status.metadata().get(name).and_then(|v| v.to_str().ok());
    let hint = text(headers::RETRY).and_then(|kind| Hint::from_headers(kind, text(headers::RETRY_HINT).unwrap_or("")));
    let body: Option<ErrorBody> = text(headers::ERROR_BODY).and_then(|b| serde_json::from_str(b).ok());
    if let Some(ErrorBody { error: info }) = body {
        let mut error = ApiError::new(info.code, info.message);
        error.details = info.details;
        error.outcome = info.outcome;
        error.hint = hint;
        return error;
    }
    let known = Code::ALL.into_iter().find(|c| c.grpc_code() == status.code() as i32);
    let error = ApiError::new(known.unwrap_or(Code::Unavailable), status.message());
    if hint.is_some() { ApiError { hint, ..error } } else { error.outcome_unknown() }
}
