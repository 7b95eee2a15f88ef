//! What the gateway says of a call in internal headers, read once by the service that gets it.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use conflux_common::{
    error::ApiError,
    grant::Principal,
    headers,
    ids::{Epoch, TenantId},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;

use crate::{internal, principal};

/// The longest time that a call may take, and the default where none is given.
pub const MAX_DEADLINE: Duration = Duration::from_secs(30);

/// A call as the gateway passes it on.
#[derive(Debug, Clone, PartialEq)]
pub struct CallContext {
    /// Who asks.
    pub principal: Principal,
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
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                out.insert(HeaderName::from_static(name), value);
            }
        };
        put(headers::PRINCIPAL, &URL_SAFE_NO_PAD.encode(principal::to_wire(&self.principal).encode_to_vec()));
        if let Some((id, epoch)) = self.tenant {
            put(headers::TENANT_ID, &id.to_string());
            put(headers::ROUTE_EPOCH, &epoch.to_string());
        }
        put(headers::REQUEST_ID, &self.request_id);
        put(headers::DEADLINE_MS, &self.deadline.as_millis().to_string());
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
        let wire = text(headers::PRINCIPAL)
            .and_then(|v| URL_SAFE_NO_PAD.decode(v).ok())
            .and_then(|v| internal::Principal::decode(v.as_slice()).ok())
            .ok_or_else(|| ApiError::invalid(headers::PRINCIPAL, "missing or unreadable"))?;
        let principal =
            principal::from_wire(&wire).map_err(|e| ApiError::invalid(headers::PRINCIPAL, e.to_string()))?;
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
            principal: Principal {
                name: "key:abc".into(),
                tenant: Some("acme".parse().unwrap()),
                operator: false,
                grants: vec![],
                directory_seq: 7,
            },
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
