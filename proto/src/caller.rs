//! Who is behind a call that arrives on a service port: a gateway speaks for the principal that it verified, an
//! operator's certificate speaks for itself, and nobody else may use the operators' calls.

use std::sync::Arc;

use conflux_common::{
    error::{ApiError, Code},
    grant::Principal,
    headers,
    tls::{PeerId, Role},
};
use http::HeaderMap;

use crate::context::{CallContext, IdempotencyKey, MAX_DEADLINE};

impl CallContext {
    /// The call as it stands to the peer's certificate: internal headers count only from a gateway.
    pub fn of(peer: Option<&PeerId>, from: &HeaderMap) -> Result<Self, ApiError> {
        match peer {
            Some(peer) if peer.role == Role::Gateway => Self::read(from),
            Some(peer) if peer.role == Role::Operator => Ok(direct(peer, from)),
            _ => Err(ApiError::new(Code::PermissionDenied, "only gateways and operators may make this call")),
        }
    }

    /// Refuses whoever is no operator.
    pub fn require_operator(&self) -> Result<(), ApiError> {
        if self.principal.operator {
            return Ok(());
        }
        Err(ApiError::new(Code::PermissionDenied, "this call is for operators: use an operator's key or certificate"))
    }
}

/// An operator's certificate on the service port itself: no header can make it anyone else.
fn direct(peer: &PeerId, from: &HeaderMap) -> CallContext {
    let text = |name: &str| from.get(name).and_then(|v| v.to_str().ok());
    let key = text(headers::IDEMPOTENCY_KEY).or_else(|| text(headers::X_IDEMPOTENCY_KEY));
    CallContext {
        principal: Arc::new(Principal {
            name: format!("operator:{}", peer.member),
            tenant: None,
            operator: true,
            grants: Vec::new(),
            directory_seq: 0,
        }),
        tenant: None,
        request_id: text(headers::REQUEST_ID).unwrap_or("").to_owned(),
        deadline: MAX_DEADLINE,
        idempotency: key.map(|k| IdempotencyKey::Client(k.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(role: Role) -> PeerId {
        PeerId { cluster: "c".parse().unwrap(), role, group: None, member: "m1".parse().unwrap() }
    }

    fn forged() -> HeaderMap {
        let mut headers = HeaderMap::new();
        CallContext {
            principal: Arc::new(Principal {
                name: "key:x".into(),
                tenant: None,
                operator: true,
                grants: vec![],
                directory_seq: 0,
            }),
            tenant: None,
            request_id: "r".into(),
            deadline: MAX_DEADLINE,
            idempotency: None,
        }
        .write(&mut headers);
        headers
    }

    /// Internal headers are a gateway's word: from anyone else they must count for nothing.
    #[test]
    fn only_a_gateway_speaks_for_others() {
        assert_eq!(CallContext::of(Some(&peer(Role::Gateway)), &forged()).unwrap().principal.name, "key:x");
        assert_eq!(CallContext::of(Some(&peer(Role::Operator)), &forged()).unwrap().principal.name, "operator:m1");
        for none in [Some(peer(Role::Shard)), Some(peer(Role::Placement)), None] {
            let refused = CallContext::of(none.as_ref(), &forged()).unwrap_err();
            assert_eq!(refused.code, Code::PermissionDenied);
        }
    }

    /// A tenant's credential must not reach the operators' calls.
    #[test]
    fn operators_only() {
        let mut context = CallContext::of(Some(&peer(Role::Operator)), &HeaderMap::new()).unwrap();
        assert!(context.require_operator().is_ok());
        Arc::make_mut(&mut context.principal).operator = false;
        assert_eq!(context.require_operator().unwrap_err().code, Code::PermissionDenied);
    }
}
