//! What the gateway says of a call in internal headers, read once by the service that gets it.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::ApiError,
    grant::Principal,
    headers,
    ids::{Epoch, TenantId},
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::principal_header;

/// The longest time that a call may take, and the default where none is given.
pub const MAX_DEADLINE: Duration = Duration::from_secs(30);

/// A call as the gateway passes it on.
#[derive(Debug, Clone, PartialEq)]
pub struct CallContext {
    /// Who asks.
    pub principal: Arc<Principal>,
    /// Whose data; none on operators' calls.
    pub tenant: Option<(TenantId, Epoch)>,
    /// Found again in logs, answers and records.
    pub request_id: String,
    /// What is left of the caller's time.
    pub deadline: Duration,
    /// The key under which a write may be repeated: the client's own or the gateway's.
    pub idempotency: Option<IdempotencyKey>,
}

/// Where a key comes from decides how long it is remembered (DESIGN section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdempotencyKey {
    /// Chosen by the client: 24 hours.
    Client(String),
    /// Given by the gateway: 5 minutes.
    Gateway(String),
}

impl CallContext {
    /// Writes the internal headers.
    pub fn write(&self, out: &mut HeaderMap) {
        if let Some(principal) = principal_header::of(&self.principal) {
            out.insert(headers::PRINCIPAL, principal);
        }
        if let Some((id, epoch)) = self.tenant {
            out.insert(headers::TENANT_ID, id.0.into());
            out.insert(headers::ROUTE_EPOCH, epoch.0.into());
        }
        let left = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
        out.insert(headers::DEADLINE_MS, headers::unrepeated(left.into()));
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                out.insert(HeaderName::from_static(name), headers::unrepeated(value));
            }
        };
        put(headers::REQUEST_ID, &self.request_id);
        match &self.idempotency {
            Some(IdempotencyKey::Client(key)) => put(headers::IDEMPOTENCY_KEY, key),
            Some(IdempotencyKey::Gateway(key)) => put(headers::GATEWAY_KEY, key),
            None => {}
        }
    }

    /// Reads the internal headers; only a broken gateway gets an error here.
    pub fn read(from: &HeaderMap) -> Result<Self, ApiError> {
        let text = |name: &str| from.get(name).and_then(|v| v.to_str().ok());
        let number = |name: &str| -> Result<Option<u64>, ApiError> {
            text(name).map(|v| v.parse().map_err(|_| ApiError::invalid(name, "not a number"))).transpose()
        };
        let principal = principal_header::read(from.get(headers::PRINCIPAL))?;
        let tenant = match (number(headers::TENANT_ID)?, number(headers::ROUTE_EPOCH)?) {
            (Some(id), Some(epoch)) => Some((TenantId(id), Epoch(epoch))),
            _ => None,
        };
        let client_key = text(headers::IDEMPOTENCY_KEY).or_else(|| text(headers::X_IDEMPOTENCY_KEY));
        let idempotency = client_key
            .map(|k| IdempotencyKey::Client(k.to_owned()))
            .or_else(|| text(headers::GATEWAY_KEY).map(|k| IdempotencyKey::Gateway(k.to_owned())));
        let deadline = number(headers::DEADLINE_MS)?.map_or(MAX_DEADLINE, Duration::from_millis).min(MAX_DEADLINE);
        let request_id = text(headers::REQUEST_ID).unwrap_or("").to_owned();
        Ok(Self { principal, tenant, request_id, deadline, idempotency })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let context = CallContext {
            principal: Arc::new(Principal {
                name: "key:abc".into(),
                tenant: Some("acme".parse().unwrap()),
                operator: false,
                grants: vec![],
                directory_seq: 7,
            }),
            tenant: Some((TenantId(3), Epoch(2))),
            request_id: "r".into(),
            deadline: Duration::from_millis(1500),
            idempotency: Some(IdempotencyKey::Gateway("k".into())),
        };
        let mut headers = HeaderMap::new();
        context.write(&mut headers);
        assert_eq!(CallContext::read(&headers).unwrap(), context);
    }

    #[test]
    fn no_principal_is_refused() {
        assert!(CallContext::read(&HeaderMap::new()).is_err());
    }
}
