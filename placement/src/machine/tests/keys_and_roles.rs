//! Keys and roles, and what becomes of them with their tenant.

use super::*;

/// A key must not outlive its tenant: the next holder of the name would be open to it.
#[test]
fn credentials_go_with_their_tenant() {
    let mut machine = Machine::new();
    machine.ok(create("acme"));
    machine.ok(Op::PutRole(role("acme", "ops")));
    machine.ok(Op::PutKey(key(0, "acme", "ops")));
    machine.ok(Op::PutKey(key(1, "acme", "reader")));
    let deleting = machine.tenant(delete("acme"));
    let (_, frame) = machine.frames().pop().unwrap();
    let gone = frame.changes.iter().filter(|c| matches!(c.change, Some(change::Change::KeyGone(_)))).count();
    assert_eq!((gone, frame.changes.len()), (2, 4), "tenant, two keys and a role in one frame");
    assert_eq!(machine.refused(Op::PutKey(key(2, "acme", "reader"))).field, "tenant");
    machine.advance(&deleting, TenantState::Deleting, TenantState::Gone);
    machine.ok(create("acme"));
    assert!(machine.0.read(|view| credentials::keys_of(view, "acme")).unwrap().is_empty());
    assert_eq!(machine.refused(Op::RevokeKey(key(0, "acme", "ops").id)).code, "NOT_FOUND");
}

/// Keys and roles refer to each other and to tenants: nothing may dangle.
#[test]
fn keys_and_roles_hold_together() {
    let mut machine = Machine::new();
    machine.ok(create("acme"));
    machine.ok(create("globex"));
    machine.ok(Op::PutRole(role("acme", "ops")));
    assert_eq!(machine.refused(Op::PutKey(key(0, "globex", "ops"))).field, "roles[0]");
    assert_eq!(machine.refused(Op::PutKey(key(0, "nobody", "reader"))).field, "tenant");
    machine.ok(Op::PutKey(key(0, "acme", "ops")));
    assert_eq!(machine.refused(Op::PutKey(key(0, "acme", "ops"))).code, "ALREADY_EXISTS");
    let ops = Op::DeleteRole(RoleName { tenant: "acme".into(), name: "ops".into() });
    let why = machine.refused(ops.clone());
    assert_eq!(why.code, "FAILED_PRECONDITION");
    assert!(why.message.contains("in use"), "{}", why.message);
    machine.ok(Op::RevokeKey(key(0, "acme", "ops").id));
    machine.ok(ops.clone());
    assert_eq!(machine.refused(ops).code, "NOT_FOUND");
    let built_in = Op::DeleteRole(RoleName { tenant: String::new(), name: "reader".into() });
    assert_eq!(machine.refused(built_in).code, "NOT_FOUND");
    let operator = KeyRecord { operator: true, roles: vec![], tenant: String::new(), ..key(3, "", "") };
    machine.ok(Op::PutKey(operator));
}
