//! The door: what each request passes, top to bottom, a reason beside each step.

mod access;
mod measured;

use std::{
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use async_trait::async_trait;
use axum::body::Body;
use conflux_common::{
    error::{ApiError, Code},
    headers,
    ids::{Epoch, TenantName},
    planted,
    telemetry::Readiness,
};
use conflux_proto::context::{IdempotencyKey, MAX_DEADLINE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use tokio::time::Instant;

use self::access::Access;
use crate::{
    authenticate::Authenticator,
    budget::Budget,
    call::{CHANGESETS, Call, IMPORT, Kind, classify},
    canonical::{Target, canonical},
    document::Document,
    edge::{Asked, Edge, Look},
    identity::Identity,
    lanes::unary::{Destination, Level, Outgoing, Unary},
    listener::Service,
    operator::Operator,
    placement::Lookup,
    refused::AuditSink,
    respond::{Style, refuse},
    routes::TenantRoute,
    self_service::{self, SelfService},
    session_adapter::{Answer, RawTarget, RequestBody},
    settings::Limits,
    strip,
    usage::{Fetch, Usage},
    watch,
};

/// Everything that a request may need.
pub struct Door {
    /// Who asks.
    pub authenticator: Authenticator,
    /// Where a tenant is.
    pub lookup: Arc<Lookup>,
    /// Calls with a bounded body.
    pub unary: Arc<Unary>,
    /// Stale fetches that end here; none: each goes to a shard.
    pub edge: Option<Arc<Edge>>,
    /// Watches.
    pub watches: Arc<watch::Lane>,
    /// The description of the API.
    pub document: Document,
    /// gRPC health and reflection.
    pub self_service: SelfService,
    /// Operators' calls, where an admin key alone may do (development).
    pub operator: Option<Arc<Operator>>,
    /// What is fetched, and by how many.
    pub usage: Arc<Usage>,
    /// Bytes of bodies in flight.
    pub budget: Budget,
    /// Bounds.
    pub limits: Limits,
    /// Whether the mirror is complete.
    pub ready: Readiness,
    /// Who is told of refused attempts.
    pub refusals: Option<Arc<dyn AuditSink>>,
}

#[async_trait]
impl Service for Door {
    async fn answer(&self, request: Request<RequestBody>) -> Answer {
        let started = StdInstant::now();
        let style = style_of(request.headers());
        let mut access = Access::of(&request, strip::request_id(request.headers()));
        let answer = match self.admit(request, style, &mut access).await {
            Ok(answer) => answer,
            Err(error) => {
                access.code = Some(error.code);
                refuse(&error, style, &access.request_id)
            }
        };
        access.tell(self.refusals.as_deref(), &answer);
        access.finish(answer, started)
    }
}

impl Door {
    async fn admit(
        &self,
        request: Request<RequestBody>,
        style: Style,
        access: &mut Access,
    ) -> Result<Answer, ApiError> {
        // An honest client's head is small; whatever comes after looks at each line of it.
        strip::check_size(request.headers())?;
        // One reading of the path, and all that follows (here and in the shard) decides on that one.
        let target = canonical_target(&request)?;
        // What is asked for. Unknown gRPC methods end here: they must never fall through to something else.
        let call = classify(request.method(), &target, style)?;
        access.template = call.as_ref().map_or("unknown", |c| c.template);
        access.path = target.path.clone();
        access.write = call.as_ref().is_some_and(|c| match c.kind {
            Kind::Operator => !matches!(*request.method(), Method::GET | Method::HEAD),
            kind => kind == Kind::Write,
        });
        // Load balancers have no credentials.
        match call.as_ref().map(|c| c.kind) {
            Some(Kind::Live) => return Ok(self.probe(true)),
            Some(Kind::Ready) => return Ok(self.probe(self.ready.get())),
            // What can be asked is no secret, and a browser that looks it up has no credential.
            Some(Kind::Document) => return Ok(Answer::Response(self.document.json.answer(request.headers()))),
            Some(Kind::Page) => return Ok(Answer::Response(self.document.page.answer(request.headers()))),
            Some(Kind::GrpcHealth) => return self.health(request).await,
            _ => {}
        }
        // Who asks. Before anything that costs more than memory, and before anything that tells of what exists.
        let identity = self.authenticator.authenticate(request.headers()).await.map_err(ApiError::from)?;
        access.principal = identity.principal.name.clone();
        let call = call.ok_or_else(nothing_here)?;
        match call.kind {
            Kind::GrpcReflection => return Ok(self.self_service.answer(request.map(Body::new)).await),
            // Operators have a port of their own; here there is nothing, except in development.
            Kind::Operator => return self.operator_call(request, target, identity, access).await,
            _ => {}
        }
        // Which tenant, and whether the credential covers it: before it is looked for, so that a refusal is the same
        // whether it exists or not.
        let tenant = covered_tenant(&call, request.headers(), &identity)?;
        access.tenant = tenant.to_string();
        let deadline = deadline(request.headers(), self.limits.deadline_ms)?;
        let route = self.lookup.tenant(&tenant, Epoch(0), deadline).await?;
        let route = route.ok_or_else(|| ApiError::new(Code::NotFound, "the tenant does not exist"))?;
        if call.kind == Kind::Watch {
            return Ok(self.watch(request, target, identity, route, style, access).await);
        }
        let Some(edge) = self.edge.as_ref().filter(|_| call.kind == Kind::Fetch) else {
            return self.unary_call(request, call, target, identity, route, style, deadline, access).await;
        };
        // A stale fetch of what is hot ends here, if it is young enough.
        match self.look(edge, &request, &target, &identity, &route, access) {
            (Look::Answer(response), Some(fetch)) => {
                self.usage.count(&fetch);
                Ok(Answer::Response(response))
            }
            (Look::TooOld(answerable), Some(fetch)) if edge.outlasts_outages() => {
                if let Some(patience) = edge.patience(&route.group) {
                    let (group, until) = (route.group.clone(), deadline.min(Instant::now() + patience));
                    let answer = self.unary_call(request, call, target, identity, route, style, until, access).await;
                    if !is_outage(&answer) {
                        return answer;
                    }
                    edge.note_outage(&group);
                }
                self.usage.count(&fetch);
                Ok(Answer::Response(edge.outlast(&answerable)))
            }
            _ => self.unary_call(request, call, target, identity, route, style, deadline, access).await,
        }
    }

    /// What the edge knows of a fetch, and how it is counted if the edge answers.
    fn look(
        &self,
        edge: &Arc<Edge>,
        request: &Request<RequestBody>,
        target: &Target,
        identity: &Identity,
        route: &TenantRoute,
        access: &Access,
    ) -> (Look, Option<Fetch>) {
        let asked = Asked::read(request.method(), target, request.headers(), &identity.principal);
        // Whoever sends a body is told by a shard what becomes of it.
        let Some(asked) = asked.filter(|_| request.body().is_end_stream()) else { return (Look::Nothing, None) };
        let look = edge.look(&asked, route);
        let fetch = (!matches!(look, Look::Nothing)).then(|| {
            let address = access.client.map(|address| address.ip());
            Fetch::new(route.id, asked.what.to_owned(), asked.labels, &identity.principal, address)
        });
        (look, fetch)
    }

    /// Bumped with each change of identities that has come through.
    #[cfg(test)]
    fn authenticator_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.authenticator.directory().subscribe()
    }

    fn probe(&self, well: bool) -> Answer {
        let mut response = Response::new(Body::from(if well { "ok\n" } else { "not ready\n" }));
        *response.status_mut() = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Answer::Response(response)
    }

    /// Anyone may ask, so the question is read within the budget and its time, not as long as it likes.
    async fn health(&self, request: Request<RequestBody>) -> Result<Answer, ApiError> {
        let (parts, body) = request.into_parts();
        let question = self.budget.collect(body, self_service::MAX_QUESTION).await?;
        Ok(self.self_service.answer(Request::from_parts(parts, Body::from(question.bytes))).await)
    }

    async fn operator_call(
        &self,
        request: Request<RequestBody>,
        target: Target,
        identity: Identity,
        access: &Access,
    ) -> Result<Answer, ApiError> {
        let operator = self.operator.as_ref().ok_or_else(nothing_here)?;
        if !identity.principal.operator {
            return Err(ApiError::new(Code::PermissionDenied, "this call is for operators"));
        }
        let (parts, body) = request.into_parts();
        let held = self.budget.collect(body, self.limits.rest_body_bytes).await?;
        let answered = operator.call(parts, &target, held.bytes, identity.principal, access.request_id.clone()).await?;
        Ok(Answer::Response(answered))
    }

    async fn watch(
        &self,
        request: Request<RequestBody>,
        target: Target,
        identity: Identity,
        route: TenantRoute,
        style: Style,
        access: &Access,
    ) -> Answer {
        let (mut parts, body) = request.into_parts();
        let wants_socket = wants_websocket(&parts);
        let host = parts.headers.get(header::HOST).cloned();
        prepare(&mut parts, &target);
        if wants_socket {
            // Its origin is compared with it.
            host.map(|host| parts.headers.insert(header::HOST, host));
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        let request_id = access.request_id.clone();
        watch::serve(&self.watches, watch::WatchRequest { parts, body, identity, route, request_id, style }).await
    }

    #[allow(clippy::too_many_arguments)] // each is one finding of `admit`
    async fn unary_call(
        &self,
        request: Request<RequestBody>,
        call: Call,
        target: Target,
        identity: Identity,
        route: TenantRoute,
        style: Style,
        deadline: Instant,
        access: &Access,
    ) -> Result<Answer, ApiError> {
        let (mut parts, body) = request.into_parts();
        let write = call.kind == Kind::Write;
        let client_key = strip::take_idempotency_key(&mut parts.headers)?;
        prepare(&mut parts, &target);
        // Read whole, within the budget, so that it can be repeated.
        let limit = body_limit(&call, style, &self.limits);
        let held = self.budget.collect(body, limit).await?;
        let level = level(&call, &target, &held.bytes)?;
        let address = access.client.map(|address| address.ip());
        let fetch = Fetch::of(&call, &target, &parts.headers, &held.bytes, route.id, &identity.principal, address);
        // Every write has a key: without one a lost answer could not be asked for again.
        let idempotency = write.then(|| match client_key {
            Some(key) => IdempotencyKey::Client(key),
            None => IdempotencyKey::Gateway(uuid::Uuid::new_v4().simple().to_string()),
        });
        let outgoing = Outgoing {
            method: parts.method,
            target: path_and_query(&target),
            headers: parts.headers,
            body: held.bytes.clone(),
            principal: identity.principal,
            request_id: access.request_id.clone(),
            idempotency,
            style,
            level,
            repeatable: true,
            write,
            deadline,
            destination: Destination::Tenant(route),
        };
        let answered = self.unary.call(outgoing).await?;
        if let Some(fetch) = fetch.filter(|_| is_served(&answered)) {
            self.usage.count(&fetch);
        }
        Ok(Answer::Response(answered))
    }
}

/// Whether no member of the shard could answer.
fn is_outage(answer: &Result<Answer, ApiError>) -> bool {
    match answer {
        Ok(Answer::Response(response)) => {
            matches!(response.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
        }
        Ok(Answer::Upgrade(_)) => false,
        Err(error) => matches!(error.code, Code::Unavailable | Code::DeadlineExceeded),
    }
}

/// How large a body may be, by what is asked for. A changeset holds several contents, over REST as much as over gRPC.
fn body_limit(call: &Call, style: Style, limits: &Limits) -> usize {
    match call.template {
        _ if style == Style::Grpc => limits.grpc_body_bytes,
        CHANGESETS => limits.grpc_body_bytes.max(limits.rest_body_bytes),
        IMPORT => limits.archive_body_bytes,
        _ => limits.rest_body_bytes,
    }
}

/// Whether a fetch was answered with what is released, or with "not modified". gRPC's refusals have no body: their status is in
/// the head.
fn is_served(answer: &Response<Body>) -> bool {
    match answer.status() {
        StatusCode::NOT_MODIFIED => true,
        StatusCode::OK => answer.headers().get("grpc-status").is_none_or(|status| status == "0"),
        _ => false,
    }
}

fn style_of(headers: &HeaderMap) -> Style {
    let grpc = headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    if grpc { Style::Grpc } else { Style::Rest }
}

fn canonical_target(request: &Request<RequestBody>) -> Result<Target, ApiError> {
    if request.version() != Version::HTTP_2 && style_of(request.headers()) == Style::Grpc {
        return Err(ApiError::invalid("content-type", "gRPC needs HTTP/2"));
    }
    if request.method() == Method::CONNECT {
        return Err(ApiError::new(Code::Unimplemented, "this is no proxy"));
    }
    match request.extensions().get::<RawTarget>() {
        Some(raw) => canonical(&raw.0),
        None => canonical(request.uri().path_and_query().map_or("/", |p| p.as_str()).as_bytes()),
    }
}

fn nothing_here() -> ApiError {
    ApiError::new(Code::NotFound, "there is nothing at this path")
}

/// The tenant that a call is about: from the path, else the header, else the credential. All that are given must agree,
/// and the credential must cover it.
fn covered_tenant(call: &Call, headers: &HeaderMap, identity: &Identity) -> Result<TenantName, ApiError> {
    let not_covered = || ApiError::new(Code::PermissionDenied, "the credential does not cover this tenant");
    let in_path = call.tenant.as_deref().map(TenantName::new).transpose()?;
    let in_header = strip::single(headers, headers::TENANT)?.map(TenantName::new).transpose()?;
    if let (Some(path), Some(header)) = (&in_path, &in_header)
        && path != header
    {
        return Err(not_covered());
    }
    let named = in_path.or(in_header).or_else(|| identity.principal.tenant.clone()).ok_or_else(not_covered)?;
    if identity.principal.covers(&named) { Ok(named) } else { Err(not_covered()) }
}

/// When the caller has waited long enough.
fn deadline(headers: &HeaderMap, default_ms: u64) -> Result<Instant, ApiError> {
    let given = strip::single(headers, "grpc-timeout")?;
    let patience = match given {
        None => Duration::from_millis(default_ms),
        Some(text) => grpc_timeout(text).ok_or_else(|| ApiError::invalid("grpc-timeout", "not a gRPC timeout"))?,
    };
    Ok(Instant::now() + patience.min(MAX_DEADLINE))
}

/// `10S`, `500m`, as gRPC writes them: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

fn path_and_query(target: &Target) -> String {
    match &target.query {
        Some(query) => format!("{}?{query}", target.path),
        None => target.path.clone(),
    }
}

/// Leaves in a request only what may go on.
fn prepare(parts: &mut Parts, target: &Target) {
    strip::strip(&mut parts.headers);
    // Ours is in the call's context.
    parts.headers.remove("grpc-timeout");
    parts.headers.remove(headers::TENANT);
    if let Ok(uri) = path_and_query(target).parse() {
        parts.uri = uri;
    }
}

fn wants_websocket(parts: &Parts) -> bool {
    let holds = |name: header::HeaderName, word: &str| {
        let values = parts.headers.get_all(name);
        values
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|v| v.trim().eq_ignore_ascii_case(word))
    };
    parts.version == Version::HTTP_11 && holds(header::UPGRADE, "websocket") && holds(header::CONNECTION, "upgrade")
}

/// Which replicas may answer. The one message that the gateway reads is gRPC's FetchRequest.
fn level(call: &Call, target: &Target, body: &[u8]) -> Result<Level, ApiError> {
    let asked = match call.kind {
        Kind::Write => return Ok(Level::Leader),
        Kind::GrpcFetch => return Ok(fetch_level(body)),
        _ => target.pairs()?.into_iter().filter(|(name, _)| name == "consistency").map(|(_, value)| value),
    };
    let mut asked: Vec<String> = asked.collect();
    asked.dedup();
    match asked.as_slice() {
        [] if call.kind == Kind::Fetch => Ok(Level::Any),
        [] => Ok(Level::Leader),
        [one] if one == "stale" => Ok(Level::Any),
        [one] if one == "linearizable" && planted::has("unconfirmed_read") => Ok(Level::Any),
        [one] if one == "leader" || one == "linearizable" => Ok(Level::Leader),
        [_] => Err(ApiError::invalid("consistency", "one of stale, leader, linearizable")),
        _ => Err(ApiError::invalid("consistency", "given twice, with different values")),
    }
}

fn fetch_level(framed: &[u8]) -> Level {
    use conflux_proto::v1::{Consistency, FetchRequest};
    // Compressed or broken: the leader reads it, and says what is wrong with it.
    let message = match framed.split_at_checked(5) {
        Some(([0, ..], message)) => <FetchRequest as prost::Message>::decode(message),
        _ => return Level::Leader,
    };
    match message.map(|m| m.consistency()) {
        Ok(Consistency::Unspecified | Consistency::Stale) => Level::Any,
        _ => Level::Leader,
    }
}

#[cfg(test)]
mod tests;
