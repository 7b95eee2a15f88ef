//! Calls with a bounded body: read whole, sent over shared connections, repeated where that is safe.

mod answer;
mod leader;
pub mod retry;
mod stale;

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code, Hint},
    grant::Principal,
    headers,
    ids::{Epoch, GroupName, MemberName},
};
use conflux_proto::context::{CallContext, IdempotencyKey};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use tokio::{sync::Semaphore, time::Instant};

use self::{answer::Answered, retry::Trouble};
use crate::{
    placement::Lookup,
    respond::Style,
    routes::{Routes, TenantRoute},
    upstream::{FailureKind, Peer, Upstream},
};

/// Requests that may wait for a leader at once; their bodies count against the byte budget besides.
const WAITING: usize = 4096;

/// A try of less time than this says nothing of the member: or a client with short deadlines could have healthy members
/// avoided, and their leader forgotten, for everyone.
const FAIR: Duration = Duration::from_millis(500);

/// A call on its way to a group.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// As the client sent it.
    pub method: Method,
    /// Canonical path and query.
    pub target: String,
    /// Without anything that only the gateway may say.
    pub headers: HeaderMap,
    /// Read whole.
    pub body: Bytes,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// Found again in logs, answers and records.
    pub request_id: String,
    /// On writes: the same on each repetition.
    pub idempotency: Option<IdempotencyKey>,
    /// How the answer will look.
    pub style: Style,
    /// Which replicas may answer.
    pub level: Level,
    /// A lost answer may be asked for again.
    pub repeatable: bool,
    /// It may change something.
    pub write: bool,
    /// When the client has waited long enough.
    pub deadline: Instant,
    /// Where to.
    pub destination: Destination,
}

/// Which replicas may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Any that is healthy.
    Any,
    /// The leader.
    Leader,
}

/// Whose data a call is about.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A tenant's, wherever it is.
    Tenant(TenantRoute),
    /// A group's own: operators' calls.
    Group(GroupName),
}

impl Destination {
    fn group(&self) -> &GroupName {
        match self {
            Destination::Tenant(route) => &route.group,
            Destination::Group(group) => group,
        }
    }

    fn epoch(&self) -> Epoch {
        match self {
            Destination::Tenant(route) => route.epoch,
            Destination::Group(_) => Epoch(0),
        }
    }
}

/// The lane.
pub struct Unary {
    upstream: Upstream,
    routes: Routes,
    lookup: Arc<Lookup>,
    waiting: Semaphore,
}

impl Unary {
    /// Nothing is dialled before the first call.
    pub fn new(upstream: Upstream, routes: Routes, lookup: Arc<Lookup>) -> Self {
        Self { upstream, routes, lookup, waiting: Semaphore::new(WAITING) }
    }

    /// Carries a call to its group and brings the answer back.
    pub async fn call(&self, outgoing: Outgoing) -> Result<Response<Body>, ApiError> {
        let answered = match outgoing.level {
            Level::Leader => self.of_leader(outgoing).await?,
            Level::Any => self.of_any(outgoing).await?,
        };
        Ok(answered.into_response())
    }

    /// Asks one member and takes its 200 as it is; for summaries, which say of the others why they are missing.
    pub async fn ask_member(
        &self,
        group: &GroupName,
        member: &MemberName,
        outgoing: &Outgoing,
        limit: Duration,
    ) -> Result<Bytes, String> {
        let peer = self.upstream.peer(group, member).ok_or("it is no member any more")?;
        match self.once(&peer, outgoing, limit).await {
            Ok(answered) if answered.status() == http::StatusCode::OK => Ok(answered.into_data()),
            Ok(answered) => Err(format!("it answered with status {}", answered.status())),
            Err(Trouble::TimedOut) => Err(format!("no answer within {limit:?}")),
            Err(_) => Err("it cannot be reached".into()),
        }
    }

    /// One try at one member.
    async fn once(&self, peer: &Peer, outgoing: &Outgoing, limit: Duration) -> Result<Answered, Trouble> {
        let request = outgoing.request(peer.address()).map_err(|error| {
            tracing::warn!(%error, "a request could not be built");
            Trouble::Failed(FailureKind::NotSent)
        })?;
        let exchange = async {
            let response = self.upstream.send(peer, request).await.map_err(|failure| {
                tracing::debug!(member = %peer.name, %failure, "no answer");
                Trouble::Failed(failure.kind)
            })?;
            Answered::read(response).await.map_err(|error| {
                tracing::debug!(member = %peer.name, %error, "the answer broke off");
                Trouble::Failed(FailureKind::Lost)
            })
        };
        let result = tokio::time::timeout_at(Instant::now() + limit, exchange).await.unwrap_or(Err(Trouble::TimedOut));
        match &result {
            Ok(_) => self.upstream.note_success(peer),
            Err(Trouble::TimedOut) if limit < FAIR => {}
            Err(_) => self.upstream.note_failure(peer),
        }
        result
    }

    /// The tenant's route, of at least this epoch.
    async fn refresh(&self, outgoing: &mut Outgoing, floor: Epoch) -> Result<(), ApiError> {
        let Destination::Tenant(route) = &outgoing.destination else { return Ok(()) };
        let found = self.lookup.tenant(&route.name, floor, outgoing.deadline).await?;
        let found = found.ok_or_else(|| ApiError::new(Code::NotFound, "the tenant does not exist any more"))?;
        outgoing.destination = Destination::Tenant(found);
        Ok(())
    }
}

impl Outgoing {
    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn request(&self, address: &str) -> Result<Request<Bytes>, http::Error> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("http://{address}{}", self.target))
            .body(self.body.clone())?;
        *request.headers_mut() = self.headers.clone();
        self.context().write(request.headers_mut());
        if let Destination::Tenant(route) = &self.destination
            && let Ok(name) = HeaderValue::from_str(route.name.as_str())
        {
            request.headers_mut().insert(headers::TENANT, name);
        }
        if self.style == Style::Grpc {
            request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        }
        Ok(request)
    }

    fn context(&self) -> CallContext {
        let tenant = match &self.destination {
            Destination::Tenant(route) => Some((route.id, route.epoch)),
            Destination::Group(_) => None,
        };
        CallContext {
            principal: self.principal.clone(),
            tenant,
            request_id: self.request_id.clone(),
            deadline: self.remaining(),
            idempotency: self.idempotency.clone(),
        }
    }

    /// What the client is told when its time is over or nothing more can be done.
    fn given_up(&self, maybe_applied: bool, last: &Trouble) -> ApiError {
        let (code, message) = match last {
            Trouble::TimedOut | Trouble::Unknown => (Code::DeadlineExceeded, "no answer in time"),
            Trouble::Failed(_) => (Code::Unavailable, "the shard group that holds this data cannot be reached"),
            Trouble::Refused(Hint::Frozen) => {
                (Code::Unavailable, "the tenant is being moved to another shard, and that takes longer than it should")
            }
            Trouble::Refused(_) => (Code::Unavailable, "the shard group that holds this data cannot serve at present"),
        };
        let error = ApiError::new(code, message).retry_after(Duration::from_secs(1));
        if self.write && maybe_applied {
            let message = format!("{message}; it may have taken effect: repeat it with the same idempotency key");
            return ApiError { message, ..error }.outcome_unknown();
        }
        error
    }
}
