//! A call on the data API as the gateway vouches for it: read once at the port, then trusted.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code},
    grant::{Action, Principal, Resource},
    ids::{Epoch, TenantId, TenantName},
};
use conflux_proto::context::{CallContext, IdempotencyKey};
use http::HeaderMap;
use tokio::time::Instant;

use crate::query::TenantRow;

/// Who asks, about which tenant, and until when.
#[derive(Debug, Clone)]
pub struct Call {
    /// As the gateway verified it.
    pub principal: Arc<Principal>,
    /// The tenant that the gateway resolved.
    pub tenant: TenantId,
    /// The epoch that the gateway believes in.
    pub epoch: Epoch,
    /// The tenant's name in the path, where the path has one.
    pub named: Option<TenantName>,
    /// Found again in logs, answers and records.
    pub request_id: String,
    /// Of the W3C `traceparent`; empty: not traced.
    pub trace_id: String,
    /// The key under which a write may be repeated.
    pub idempotency: Option<IdempotencyKey>,
    /// When the caller stops waiting.
    pub until: Instant,
}

impl Call {
    /// Reads the internal headers of a call that arrived at `arrived`.
    pub fn read(headers: &HeaderMap, request_id: &str, arrived: Instant) -> Result<Self, ApiError> {
        let context = CallContext::read(headers)?;
        let missing = || ApiError::invalid(conflux_common::headers::TENANT_ID, "missing: this call is of one tenant");
        let (tenant, epoch) = context.tenant.ok_or_else(missing)?;
        Ok(Self {
            principal: context.principal,
            tenant,
            epoch,
            named: None,
            request_id: request_id.to_owned(),
            trace_id: trace_id(headers),
            idempotency: context.idempotency,
            until: arrived + context.deadline,
        })
    }

    /// What is left of the caller's time; DEADLINE_EXCEEDED where nothing is.
    pub fn left(&self) -> Result<Duration, ApiError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ApiError::new(Code::DeadlineExceeded, "the deadline of the call has passed"));
        }
        Ok(left)
    }

    /// The tenant's record must be of the tenant that the path names, and the credential must cover it.
    pub fn check_tenant(&self, row: &TenantRow) -> Result<(), ApiError> {
        let covered = self.principal.tenant.as_ref().is_some_and(|t| t.as_str() == row.name);
        if !covered {
            return Err(ApiError::new(Code::PermissionDenied, "the credential does not cover this tenant"));
        }
        match &self.named {
            Some(named) if named.as_str() != row.name => {
                Err(ApiError::new(Code::NotFound, "the tenant in the path does not exist"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may do this with this config.
    pub fn may(&self, action: Action, app: &str, env: &str, name: &str) -> bool {
        self.principal.may(action, Resource::config(app, env, name))
    }

    /// PERMISSION_DENIED unless the caller may do all of these with this config.
    pub fn require(&self, actions: &[Action], app: &str, env: &str, name: &str) -> Result<(), ApiError> {
        match actions.iter().find(|action| !self.may(**action, app, env, name)) {
            None => Ok(()),
            Some(action) => Err(ApiError::new(
                Code::PermissionDenied,
                format!("{} may not {action} {app}/{env}/{name}: ask for a role with that grant", self.principal.name),
            )),
        }
    }

    /// Whether the caller may know that this config exists.
    pub fn sees(&self, app: &str, env: &str, name: &str) -> bool {
        Action::ALL.into_iter().any(|action| self.may(action, app, env, name))
    }
}

/// The trace id of `traceparent: 00-<trace id>-<span id>-<flags>`.
fn trace_id(headers: &HeaderMap) -> String {
    let text = headers.get("traceparent").and_then(|v| v.to_str().ok()).unwrap_or("");
    let id = text.split('-').nth(1).unwrap_or("");
    let valid = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if valid { id.to_owned() } else { String::new() }
}

#[cfg(test)]
pub(crate) mod tests {
    use conflux_common::grant::Grant;

    use super::*;

    pub(crate) fn principal(tenant: Option<&str>, grants: &[(&str, &str)]) -> Arc<Principal> {
        let grant = |(action, pattern): &(&str, &str)| Grant {
            action: action.parse().unwrap(),
            pattern: pattern.parse().unwrap(),
        };
        Arc::new(Principal {
            name: "key:test".into(),
            tenant: tenant.map(|t| t.parse().unwrap()),
            operator: tenant.is_none(),
            grants: grants.iter().map(grant).collect(),
            directory_seq: 1,
        })
    }

    fn call(tenant: Option<&str>) -> Call {
        Call {
            principal: principal(tenant, &[("read", "shop/*/*")]),
            tenant: TenantId(1),
            epoch: Epoch(1),
            named: None,
            request_id: "r".into(),
            trace_id: String::new(),
            idempotency: None,
            until: Instant::now() + Duration::from_secs(5),
        }
    }

    /// The id in the header decides whose rows are read: it must not be another tenant's than the credential's or the path's.
    #[test]
    fn the_record_must_be_of_the_credentials_and_the_paths_tenant() {
        let row = TenantRow { name: "acme".into(), ..Default::default() };
        assert!(call(Some("acme")).check_tenant(&row).is_ok());
        assert_eq!(call(Some("other")).check_tenant(&row).unwrap_err().code, Code::PermissionDenied);
        assert_eq!(call(None).check_tenant(&row).unwrap_err().code, Code::PermissionDenied, "operators read no data");
        let named = Call { named: Some("other".parse().unwrap()), ..call(Some("acme")) };
        assert_eq!(named.check_tenant(&row).unwrap_err().code, Code::NotFound);
    }

    /// What one may not do is refused with the missing action, so that people know what to ask for.
    #[test]
    fn a_missing_grant_is_named() {
        let call = call(Some("acme"));
        assert!(call.require(&[Action::Read], "shop", "prod", "a").is_ok());
        let refused = call.require(&[Action::Read, Action::Publish], "shop", "prod", "a").unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied);
        assert!(refused.message.contains("publish"), "{refused}");
        assert!(!call.sees("bank", "prod", "a"));
    }

    /// A broken trace header must not travel into records.
    #[test]
    fn only_a_well_formed_trace_id_is_taken() {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
        assert_eq!(trace_id(&headers), "4bf92f3577b34da6a3ce929d0e0e4736");
        headers.insert("traceparent", "00-xx-00f067aa0ba902b7-01".parse().unwrap());
        assert_eq!(trace_id(&headers), "");
    }
}
