//! The one place of the gateway that turns an error into an answer.

use axum::body::Body;
use conflux_common::error::{ApiError, Code};
use conflux_proto::status::to_status;
use http::{Response, header};

use crate::session_adapter::Answer;

/// How the caller wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Status and JSON body.
    Rest,
    /// gRPC status, trailers only.
    Grpc,
}

/// The error as an answer. What only the gateway may know (the hint where to try again) is left out.
pub fn refuse(error: &ApiError, style: Style, request_id: &str) -> Answer {
    let public = ApiError { hint: None, ..error.clone() };
    match style {
        Style::Rest => {
            let mut response = conflux_common::respond::error_response(&public, request_id);
            if public.code == Code::Unauthenticated {
                let challenge = http::HeaderValue::from_static("Bearer realm=\"conflux\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            Answer::Response(response.map(Body::from))
        }
        Style::Grpc => {
            let response: Response<tonic::body::Body> = to_status(&public, request_id).into_http();
            Answer::from(response)
        }
    }
}

/// The answer to what could not be read as HTTP.
pub fn unreadable(too_large: bool) -> Response<bytes::Bytes> {
    let error = if too_large {
        ApiError::too_large("the head of the request is too large")
    } else {
        ApiError::new(Code::InvalidArgument, "the request is not well-formed HTTP")
    };
    let mut response = conflux_common::respond::error_response(&error, "");
    let length = response.body().len();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response.headers_mut().remove(conflux_common::headers::REQUEST_ID);
    response
}
