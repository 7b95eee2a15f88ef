//! API keys as records: bound to one tenant and its roles, or an operator's. Never the secret, only its hash.

use conflux_common::{api_key, error::ApiError, ids::TenantName};
use conflux_proto::internal::KeyRecord;

/// Keys of one tenant, and operators' keys.
pub const MAX_KEYS: usize = 1000;
/// Roles of one key.
pub const MAX_ROLES: usize = 20;
/// Characters of a description, of keys and tenants.
pub const MAX_DESCRIPTION: usize = 1024;

/// Checks a new key as far as it can be checked alone. `now_ms` is group time.
pub fn check(key: &KeyRecord, now_ms: u64) -> Result<(), ApiError> {
    if !api_key::is_key_id(&key.id) || key.secret_hash.len() != 32 {
        return Err(ApiError::invalid("id", "made by the service"));
    }
    if key.operator {
        if !key.tenant.is_empty() {
            return Err(ApiError::invalid("tenant", "an operator's key has no tenant"));
        }
        if !key.roles.is_empty() {
            return Err(ApiError::invalid("roles", "an operator's key has no roles: it may do all that operators may"));
        }
    } else {
        TenantName::new(key.tenant.as_str()).map_err(|e| ApiError::invalid("tenant", e.rule))?;
        if key.roles.is_empty() || key.roles.len() > MAX_ROLES {
            return Err(ApiError::invalid("roles", format!("1 to {MAX_ROLES} roles")));
        }
        if let Some(i) = (1..key.roles.len()).find(|i| key.roles[..*i].contains(&key.roles[*i])) {
            return Err(ApiError::invalid(format!("roles[{i}]"), "given twice"));
        }
    }
    if key.expires_ms != 0 && key.expires_ms <= now_ms {
        return Err(ApiError::invalid("expires_ms", format!("is past: it is {now_ms} now")));
    }
    check_description(&key.description)
}

/// Checks the free text that an operator keeps with a tenant or key.
pub fn check_description(text: &str) -> Result<(), ApiError> {
    if text.chars().count() > MAX_DESCRIPTION {
        return Err(ApiError::invalid("description", format!("at most {MAX_DESCRIPTION} characters")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyRecord {
        KeyRecord {
            id: "abcdefghijkl2345".into(),
            secret_hash: vec![1; 32].into(),
            tenant: "acme".into(),
            operator: false,
            roles: vec!["reader".into()],
            description: String::new(),
            created_ms: 0,
            expires_ms: 0,
        }
    }

    /// An operator reads which field to mend.
    #[test]
    fn wrong_keys_are_refused_by_field() {
        assert!(check(&key(), 5).is_ok());
        assert!(check(&KeyRecord { operator: true, tenant: "".into(), roles: vec![], ..key() }, 5).is_ok());
        let field = |key| check(&key, 5).unwrap_err().details[0].field.clone();
        assert_eq!(field(KeyRecord { operator: true, ..key() }), "tenant");
        assert_eq!(field(KeyRecord { operator: true, tenant: "".into(), ..key() }), "roles");
        assert_eq!(field(KeyRecord { tenant: "".into(), ..key() }), "tenant");
        assert_eq!(field(KeyRecord { roles: vec![], ..key() }), "roles");
        assert_eq!(field(KeyRecord { roles: vec!["a".into(), "a".into()], ..key() }), "roles[1]");
        assert_eq!(field(KeyRecord { expires_ms: 5, ..key() }), "expires_ms");
        assert_eq!(field(KeyRecord { description: "x".repeat(1025), ..key() }), "description");
    }
}
