//! Roles: names for sets of grants. Four are built in for every tenant; a tenant may have its own beside them.

use conflux_common::{
    error::ApiError,
    grant::Action,
    ids::{GroupName, TenantName},
};
use conflux_proto::{
    internal::{Grant, RoleRecord},
    principal::grant_from_wire,
};

/// Grants of one role.
pub const MAX_GRANTS: usize = 100;
/// Own roles of one tenant.
pub const MAX_ROLES: usize = 200;

/// The roles that every tenant has, over `*/*/*`: each has what the one before has.
pub const BUILT_IN: [(&str, &[Action]); 4] = [
    ("reader", &[Action::Read, Action::List]),
    ("writer", &[Action::Read, Action::List, Action::Write]),
    ("publisher", &[Action::Read, Action::List, Action::Write, Action::Publish]),
    ("admin", &Action::ALL),
];

/// Whether a role of this name is built in.
pub fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, _)| *built_in == name)
}

/// The built-in roles as they travel: of no tenant.
pub fn built_in() -> impl Iterator<Item = RoleRecord> {
    BUILT_IN.into_iter().map(|(name, actions)| RoleRecord {
        tenant: String::new(),
        name: name.to_owned(),
        grants: actions
            .iter()
            .map(|action| Grant { action: action.name().to_owned(), pattern: "*/*/*".to_owned() })
            .collect(),
    })
}

/// Checks a role of a tenant as far as it can be checked alone.
pub fn check(role: &RoleRecord) -> Result<(), ApiError> {
    TenantName::new(role.tenant.as_str()).map_err(|e| ApiError::invalid("tenant", e.rule))?;
    GroupName::new(role.name.as_str()).map_err(|e| ApiError::invalid("name", e.rule))?;
    if is_built_in(&role.name) {
        return Err(ApiError::invalid("name", "this role is built in: choose another name"));
    }
    if role.grants.is_empty() || role.grants.len() > MAX_GRANTS {
        return Err(ApiError::invalid("grants", format!("1 to {MAX_GRANTS} grants")));
    }
    for (i, grant) in role.grants.iter().enumerate() {
        grant_from_wire(grant).map_err(|e| ApiError::invalid(format!("grants[{i}]"), e.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use conflux_common::grant::{Principal, Resource};

    use super::*;

    fn holder(name: &str) -> Principal {
        let role = built_in().find(|r| r.name == name).unwrap();
        let grants = role.grants.iter().map(|g| grant_from_wire(g).unwrap()).collect();
        Principal { name: "key:x".into(), tenant: None, operator: false, grants, directory_seq: 0 }
    }

    /// What each built-in role may do is a promise to users.
    #[test]
    fn built_in_roles_grow_step_by_step() {
        let on = Resource::config("shop", "prod", "db.yaml");
        let may =
            |role: &str| -> Vec<Action> { Action::ALL.into_iter().filter(|a| holder(role).may(*a, on)).collect() };
        assert_eq!(may("reader"), [Action::Read, Action::List]);
        assert_eq!(may("writer"), [Action::Read, Action::Write, Action::List]);
        assert_eq!(may("publisher"), [Action::Read, Action::Write, Action::List, Action::Publish]);
        assert_eq!(may("admin"), Action::ALL);
    }

    /// A wrong role names the field at fault, and nobody can replace a built-in one.
    #[test]
    fn wrong_roles_are_refused_by_field() {
        let grant = |action: &str| Grant { action: action.into(), pattern: "shop/*/*".into() };
        let role = |name: &str, grants: Vec<Grant>| RoleRecord { tenant: "acme".into(), name: name.into(), grants };
        assert!(check(&role("ops", vec![grant("read")])).is_ok());
        let field = |role| check(&role).unwrap_err().details[0].field.clone();
        assert_eq!(field(role("admin", vec![grant("read")])), "name");
        assert_eq!(field(role("a b", vec![grant("read")])), "name");
        assert_eq!(field(role("ops", vec![])), "grants");
        assert_eq!(field(role("ops", vec![grant("read"), grant("own")])), "grants[1]");
    }
}
