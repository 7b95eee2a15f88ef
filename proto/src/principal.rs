//! The verified principal, as the gateway passes it on.

use conflux_common::{
    grant::{Grant, Principal},
    ids::TenantName,
};

use crate::internal;

/// A message that no gateway of ours would send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid principal: {0}")]
pub struct InvalidPrincipal(String);

/// The grant as it travels.
pub fn grant_to_wire(grant: &Grant) -> internal::Grant {
    internal::Grant { action: grant.action.name().to_owned(), pattern: grant.pattern.to_string() }
}

/// Checks and takes a grant.
pub fn grant_from_wire(wire: &internal::Grant) -> Result<Grant, InvalidPrincipal> {
    let invalid = |e: conflux_common::grant::InvalidGrant| InvalidPrincipal(e.to_string());
    Ok(Grant { action: wire.action.parse().map_err(invalid)?, pattern: wire.pattern.parse().map_err(invalid)? })
}

/// The principal as it travels.
pub fn to_wire(principal: &Principal) -> internal::Principal {
    internal::Principal {
        name: principal.name.clone(),
        tenant: principal.tenant.as_ref().map(|t| t.to_string()).unwrap_or_default(),
        operator: principal.operator,
        grants: principal.grants.iter().map(grant_to_wire).collect(),
        directory_seq: principal.directory_seq,
    }
}

/// Checks and takes a principal.
pub fn from_wire(wire: &internal::Principal) -> Result<Principal, InvalidPrincipal> {
    let tenant = match wire.tenant.as_str() {
        "" => None,
        name => Some(TenantName::new(name).map_err(|e| InvalidPrincipal(e.to_string()))?),
    };
    Ok(Principal {
        name: wire.name.clone(),
        tenant,
        operator: wire.operator,
        grants: wire.grants.iter().map(grant_from_wire).collect::<Result<_, _>>()?,
        directory_seq: wire.directory_seq,
    })
}
