//! A call of a tenant: where it goes, when it is repeated, and what became of it. The rules are the gateway's.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code, Hint, Outcome},
    grant::{Action, Grant, Principal},
    ids::{Epoch, TenantId},
};
use conflux_proto::{
    context::{CallContext, IdempotencyKey},
    status::from_status,
};
use http::HeaderMap;
use tokio::time::{Instant, timeout};
use tonic::{
    Request, Response, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::Channel,
};

use super::{
    Gateway,
    routes::{Route, pause},
};

/// One try.
const TRY: Duration = Duration::from_millis(1200);

/// What a call wants.
pub struct Wanted {
    /// Whose data.
    pub tenant: usize,
    /// Only the leader answers.
    pub of_leader: bool,
    /// Of a write.
    pub key: Option<String>,
    /// Of a write.
    pub if_match: Option<String>,
    /// How long it is tried.
    pub within: Duration,
}

/// Who answered what.
pub struct Answer<T> {
    /// The answer.
    pub body: T,
    /// The member.
    pub member: String,
    /// No earlier try can have had an effect.
    pub alone: bool,
    /// The try that was answered was sent at this moment.
    pub sent: crate::history::Moment,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failed {
    /// It had no effect.
    Refused(ApiError),
    /// Nobody knows.
    Unknown,
}

fn principal(tenant: &str) -> Result<Principal, ApiError> {
    let everything = |action| -> Result<Grant, ApiError> {
        let pattern = "*/*/*".parse().map_err(|_| ApiError::new(Code::Internal, "a pattern"))?;
        Ok(Grant { action, pattern })
    };
    Ok(Principal {
        name: "key:sim".into(),
        tenant: Some(tenant.parse()?),
        operator: false,
        grants: Action::ALL.into_iter().map(everything).collect::<Result<_, _>>()?,
        directory_seq: 1,
    })
}

impl Gateway {
    fn request<T>(&self, wanted: &Wanted, route: &Route, body: T) -> Result<Request<T>, ApiError> {
        let tenant = self.shared.tenants.borrow()[wanted.tenant].clone();
        let context = CallContext {
            principal: Arc::new(principal(&tenant.name)?),
            tenant: Some((TenantId(tenant.id), Epoch(route.epoch))),
            request_id: "r".into(),
            deadline: TRY,
            idempotency: wanted.key.clone().map(IdempotencyKey::Client),
        };
        let mut headers = HeaderMap::new();
        context.write(&mut headers);
        let mut request = Request::new(body);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        if let Some(etag) = &wanted.if_match {
            let etag = AsciiMetadataValue::try_from(etag).map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
            request.metadata_mut().insert("if-match", etag);
        }
        Ok(request)
    }

    /// Calls until there is an answer, a refusal that counts, or no more time.
    pub async fn call<B: Clone, T>(
        &self,
        wanted: Wanted,
        body: B,
        call: impl AsyncFn(Channel, Request<B>) -> Result<Response<T>, Status>,
    ) -> Result<Answer<T>, Failed> {
        let until = Instant::now() + wanted.within;
        let id = self.shared.tenants.borrow()[wanted.tenant].id;
        let repeatable = wanted.key.is_some() || wanted.if_match.is_none();
        let mut maybe_applied = false;
        while Instant::now() < until {
            let route = match self.routes.known(id) {
                Some(route) => route,
                None => match self.routes.look_up(&self.tls, id).await {
                    Some(route) => route,
                    None => {
                        pause(60).await;
                        continue;
                    }
                },
            };
            let member =
                if wanted.of_leader { self.routes.leader(&route.shard) } else { self.routes.any(&route.shard) };
            let request = self.request(&wanted, &route, body.clone()).map_err(Failed::Refused)?;
            let channel = self.routes.channel(&self.tls, &member).map_err(Failed::Refused)?;
            let sent = self.shared.history.moment();
            self.shared.history.calls.set(self.shared.history.calls.get() + 1);
            let error = match timeout(TRY, call(channel, request)).await {
                Ok(Ok(answer)) => {
                    if wanted.of_leader {
                        self.routes.note_leader(&route.shard, Some(&member));
                    }
                    return Ok(Answer { body: answer.into_inner(), member, alone: !maybe_applied, sent });
                }
                Ok(Err(status)) => from_status(&status),
                Err(_) => ApiError::new(Code::Unavailable, "no answer in time").outcome_unknown(),
            };
            match error.hint {
                Some(Hint::NotLeader(leader)) => {
                    self.routes.note_leader(&route.shard, leader.as_deref());
                    pause(if leader.is_some() { 4 } else { 80 }).await;
                }
                Some(Hint::WrongEpoch(_)) => {
                    self.routes.look_up(&self.tls, id).await;
                    pause(30).await;
                }
                Some(Hint::TryOther | Hint::Frozen | Hint::Recheck) => pause(60).await,
                None if error.outcome == Outcome::Unknown => {
                    self.routes.forget(&member);
                    maybe_applied = true;
                    if !repeatable {
                        return Err(Failed::Unknown);
                    }
                    pause(60).await;
                }
                None if maybe_applied => return Err(Failed::Unknown),
                None if error.retryable() => pause(60).await,
                None => return Err(Failed::Refused(error)),
            }
        }
        if maybe_applied {
            return Err(Failed::Unknown);
        }
        Err(Failed::Refused(ApiError::new(Code::DeadlineExceeded, "nobody took the call")))
    }
}
