//! Operators' calls: forwarded to placement's leader or to a group, and the summary of all groups.

mod status;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
};
use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    grant::Principal,
    headers,
    ids::GroupName,
    tls::{PeerId, Role},
};
use conflux_proto::context::IdempotencyKey;
use http::{HeaderValue, Method, Response, header, request::Parts};
use tokio::time::Instant;

use crate::{
    canonical::{Target, canonical},
    lanes::unary::{Destination, Level, Outgoing, Unary},
    refused::{Answered, AuditSink},
    respond::{Style, refuse},
    routes::{Group, Routes},
    session_adapter::Answer,
    strip,
};

/// What a member says of its group.
const OWN_STATUS: &str = "/_cluster/status";
/// A body must be there after this.
const SLOW_BODY: Duration = Duration::from_secs(30);

/// Carries operators' calls.
pub struct Operator {
    unary: Arc<Unary>,
    routes: Routes,
    placement: GroupName,
    patience: Duration,
}

impl Operator {
    /// `placement` is the name of its group.
    pub fn new(unary: Arc<Unary>, routes: Routes, placement: GroupName, patience: Duration) -> Self {
        Self { unary, routes, placement, patience }
    }

    /// Answers a call whose caller is known to be an operator.
    pub async fn call(
        &self,
        mut parts: Parts,
        target: &Target,
        body: Bytes,
        principal: Arc<Principal>,
        request_id: String,
    ) -> Result<Response<Body>, ApiError> {
        let key = strip::take_idempotency_key(&mut parts.headers)?;
        strip::strip(&mut parts.headers);
        let read = matches!(parts.method, Method::GET | Method::HEAD);
        let mut outgoing = Outgoing {
            method: parts.method,
            target: String::new(),
            headers: parts.headers,
            body,
            principal,
            request_id,
            idempotency: key.map(IdempotencyKey::Client).or_else(|| (!read).then(gateway_key)),
            style: Style::Rest,
            level: Level::Leader,
            repeatable: read || is_repeatable(target),
            write: !read,
            deadline: Instant::now() + self.patience,
            destination: Destination::Group(self.placement.clone()),
        };
        let path = match target.segments().as_slice() {
            ["api", "v1", "admin", ..] => target.path.clone(),
            ["_cluster", "status"] if read => {
                outgoing.target = OWN_STATUS.into();
                return Ok(json(&status::of_all(&self.unary, &self.routes, &outgoing).await));
            }
            ["_cluster", group, "status"] if read => {
                outgoing.target = OWN_STATUS.into();
                return Ok(json(&status::of_group(&self.unary, &self.known_group(group)?, &outgoing).await));
            }
            // A member serves these for its own group, and so without its name.
            ["_cluster", group, rest @ ..] if !rest.is_empty() => {
                outgoing.destination = Destination::Group(self.known_group(group)?.name.clone());
                // Questions are most urgent when there is no leader to answer them.
                outgoing.level = if read { Level::Any } else { Level::Leader };
                format!("/_cluster/{}", rest.join("/"))
            }
            _ => return Err(ApiError::new(Code::NotFound, "there is nothing at this path")),
        };
        outgoing.target = target.query.as_ref().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        self.unary.call(outgoing).await
    }

    fn known_group(&self, name: &str) -> Result<Arc<Group>, ApiError> {
        let name = GroupName::new(name)?;
        self.routes.group(&name).ok_or_else(|| ApiError::new(Code::NotFound, format!("there is no group {name}")))
    }
}

/// Whether a lost answer to a change may be asked for again under the same key. Placement remembers keys, but not the
/// secret of a new API key: a second answer would come without it. The groups' own routes remember none.
fn is_repeatable(target: &Target) -> bool {
    match target.segments().as_slice() {
        ["api", "v1", "admin", what, ..] => *what != "keys",
        // Removing who is gone, or handing over to who leads, changes nothing.
        ["_cluster", _, "nodes", _] | ["_cluster", _, "leader", "transfer"] => true,
        _ => false,
    }
}

fn gateway_key() -> IdempotencyKey {
    IdempotencyKey::Gateway(uuid::Uuid::new_v4().simple().to_string())
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The port that operators reach with their certificates.
#[derive(Clone)]
pub struct OperatorPort {
    operator: Arc<Operator>,
    max_body: usize,
    refusals: Option<Arc<dyn AuditSink>>,
}

impl OperatorPort {
    /// Bodies of at most so many bytes; `refusals` is told of refused attempts.
    pub fn new(operator: Arc<Operator>, max_body: usize, refusals: Option<Arc<dyn AuditSink>>) -> Self {
        Self { operator, max_body, refusals }
    }

    /// Tells of a refused attempt.
    fn tell(&self, asked: &Asked, request_id: &str, response: &Response<Body>, code: Option<Code>) {
        let Some(sink) = &self.refusals else { return };
        let answered = Answered {
            request_id,
            principal: &asked.principal,
            tenant: "",
            method: &asked.method,
            path: &asked.path,
            write: !matches!(asked.method, Method::GET | Method::HEAD),
            status: response.status(),
            code: code.or_else(|| response.extensions().get::<Code>().copied()),
            client: None,
        };
        if let Some(attempt) = answered.refused() {
            sink.record(attempt);
        }
    }

    /// Everything goes through one function.
    pub fn router(self) -> Router {
        Router::new().fallback(answer).with_state(self)
    }
}

async fn answer(State(port): State<OperatorPort>, request: Request) -> Response<Body> {
    let request_id = strip::request_id(request.headers());
    let asked = Asked::of(&request);
    let (answer, code) = match port.admit(request, &request_id).await {
        Ok(response) => (Answer::Response(response), None),
        Err(error) => (refuse(&error, Style::Rest, &request_id), Some(error.code)),
    };
    let Answer::Response(mut response) = answer else { return Response::new(Body::empty()) };
    port.tell(&asked, &request_id, &response, code);
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    response
}

/// What a record of a refused attempt says of the request.
struct Asked {
    principal: String,
    method: Method,
    path: String,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<PeerId>();
        Self {
            principal: peer.map(|peer| format!("operator:{}", peer.member)).unwrap_or_default(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        }
    }
}

impl OperatorPort {
    async fn admit(&self, request: Request, request_id: &str) -> Result<Response<Body>, ApiError> {
        let (parts, body) = request.into_parts();
        strip::check_size(&parts.headers)?;
        let principal = operator_of(&parts)?;
        let target = canonical(parts.uri.path_and_query().map_or("/", |p| p.as_str()).as_bytes())?;
        let late = |_| ApiError::new(Code::DeadlineExceeded, "the request body came too slowly");
        let body = tokio::time::timeout(SLOW_BODY, axum::body::to_bytes(body, self.max_body)).await.map_err(late)?;
        let body = body.map_err(|_| ApiError::too_large(format!("the body is larger than {} bytes", self.max_body)))?;
        tracing::info!(request_id, principal = principal.name, method = %parts.method, path = target.path, "operator");
        self.operator.call(parts, &target, body, principal, request_id.to_owned()).await
    }
}

/// The handshake lets only operators in; a request that did not come through it is nobody's.
fn operator_of(request: &Parts) -> Result<Arc<Principal>, ApiError> {
    let peer = request.extensions.get::<PeerId>().filter(|peer| peer.role == Role::Operator);
    let peer = peer.ok_or_else(|| ApiError::new(Code::PermissionDenied, "this port is for operators"))?;
    let name = format!("operator:{}", peer.member);
    Ok(Arc::new(Principal { name, tenant: None, operator: true, grants: Vec::new(), directory_seq: 0 }))
}
