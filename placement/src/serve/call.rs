//! One operator's call: who asks, how long, with what body; and the way of every answer out.

use std::time::Duration;

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    headers,
    respond::error_response,
    tls::PeerId,
};
use conflux_proto::{
    context::{CallContext, IdempotencyKey},
    log::{PlacementCommand, placement_answer::Result as Answer, placement_command::Op},
};
use conflux_raft::{FatalError, View};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::service::Service;

/// Of a request's body.
pub const MAX_BODY: usize = 64 << 10;
/// A key that the gateway gave is remembered so long (DESIGN section 3).
const GATEWAY_KEY_MS: u64 = 5 * 60 * 1000;
/// Characters of an idempotency key.
const MAX_KEY: usize = 255;

/// A call by an operator.
pub struct Call {
    context: CallContext,
    method: Method,
    uri: Uri,
    body: Bytes,
    /// When its time is over.
    pub until: Instant,
}

/// Runs a handler; its error becomes the answer.
pub async fn answer<F>(request: Request, handler: impl FnOnce(Call) -> F) -> Response
where
    F: Future<Output = Result<Response, ApiError>>,
{
    let id = request_id(request.headers());
    let result = match Call::open(request).await {
        Ok(call) => handler(call).await,
        Err(error) => Err(error),
    };
    let mut response = result.unwrap_or_else(|error| refuse(&error, &id));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    response
}

/// The answer to what no handler takes.
pub fn answer_error(request: Request, error: ApiError) -> Response {
    refuse(&error, &request_id(request.headers()))
}

fn refuse(error: &ApiError, request_id: &str) -> Response {
    if error.code == Code::Internal {
        tracing::error!(%error, request_id, "an operator's call failed");
    }
    error_response(error, request_id).map(Body::from)
}

/// The gateway's, or a new one for an operator who calls directly without.
fn request_id(from: &HeaderMap) -> String {
    let given = from.get(headers::REQUEST_ID).and_then(|v| v.to_str().ok());
    match given.filter(|id| !id.is_empty() && id.len() <= 128) {
        Some(id) => id.to_owned(),
        None => format!("{:032x}", rand::random::<u128>()),
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(body).map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// How strong a read is. Operators see the truth unless they ask for less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// What is applied on the member that answers.
    Stale,
    /// What is applied on the leader.
    Leader,
    /// Everything that was committed before the call.
    #[default]
    Linearizable,
}

impl Call {
    async fn open(request: Request) -> Result<Call, ApiError> {
        let context = CallContext::of(request.extensions().get::<PeerId>(), request.headers())?;
        context.require_operator()?;
        let until = Instant::now() + context.deadline;
        let (parts, body) = request.into_parts();
        let body = timeout_at(until, axum::body::to_bytes(body, MAX_BODY))
            .await
            .map_err(|_| ApiError::new(Code::DeadlineExceeded, "the body did not come in time"))?
            .map_err(|_| ApiError::too_large(format!("the body may have at most {MAX_BODY} bytes")))?;
        Ok(Call { context, method: parts.method, uri: parts.uri, body, until })
    }

    /// The body. A wrong one is refused with the path of the field at fault.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        conflux_common::body::json(&self.body)
    }

    /// The query string.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let parsed = axum::extract::Query::<T>::try_from_uri(&self.uri);
        parsed.map(|q| q.0).map_err(|e| ApiError::invalid("query", e.body_text()))
    }

    /// Half of what is left of the time, at most this: to wait for what need not be waited for.
    pub fn patience(&self, most: Duration) -> Instant {
        let now = Instant::now();
        now + (self.until.saturating_duration_since(now) / 2).min(most)
    }

    /// Who calls.
    pub fn principal(&self) -> &str {
        &self.context.principal.name
    }

    /// Replicates what the call asks for, under its idempotency key if it has one.
    pub async fn propose(&self, service: &Service, op: Op) -> Result<Answer, ApiError> {
        let (idempotency_key, idempotency_ttl_ms) = match &self.context.idempotency {
            None => (String::new(), 0),
            Some(IdempotencyKey::Client(key)) => (key.clone(), 0),
            Some(IdempotencyKey::Gateway(key)) => (key.clone(), GATEWAY_KEY_MS),
        };
        let plain = idempotency_key.bytes().all(|b| (0x21..0x7f).contains(&b));
        if idempotency_key.len() > MAX_KEY || !plain {
            let rule = format!("1 to {MAX_KEY} visible ASCII characters");
            return Err(ApiError::invalid(headers::IDEMPOTENCY_KEY, rule));
        }
        let command = PlacementCommand {
            principal: self.context.principal.name.clone(),
            request_id: self.context.request_id.clone(),
            idempotency_key,
            fingerprint: self.fingerprint(),
            idempotency_ttl_ms,
            op: Some(op),
        };
        service.propose(&command, self.until).await
    }

    /// Of operation, target and body. The secret of a new key is not part of it: each try makes its own.
    fn fingerprint(&self) -> Bytes {
        let mut hash = Sha256::new();
        for part in [self.method.as_str().as_bytes(), self.uri.path().as_bytes(), &self.body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Bytes::copy_from_slice(&hash.finalize())
    }

    /// Reads at the level that the query asks for.
    pub async fn read<R>(
        &self,
        service: &Service,
        consistency: Consistency,
        f: impl FnOnce(&View<'_>) -> Result<R, FatalError>,
    ) -> Result<R, ApiError> {
        match consistency {
            Consistency::Linearizable => service.read_linearizable(self.until, f).await,
            Consistency::Leader => {
                service.node.check_leader()?;
                service.read(f)
            }
            Consistency::Stale => service.read(f),
        }
    }
}

/// An answer of another kind than the command's cannot come from our own state machine.
pub fn unexpected() -> ApiError {
    ApiError::new(Code::Internal, "the state machine gave an unexpected answer").outcome_unknown()
}
