//! Ownership: who is served here, under which epoch.

use conflux_common::{
    error::Hint,
    ids::{Epoch, TenantId},
};
use conflux_proto::log::ShardCommand;

use super::bench::*;
use crate::{
    machine::{Notice, TenantState, limits},
    query,
};

/// Attack 26: a request that was routed by an old map must have no effect and say so.
#[test]
fn another_epoch_has_no_effect_and_is_not_remembered() {
    let mut bench = Bench::active();
    let rows = bench.rows();
    for epoch in [0, 2, u64::MAX] {
        let refusal = bench.write_as(ShardCommand { epoch, ..keyed("k", put("a", "x: 1")) }).unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.retry.as_str(), refusal.epoch), ("UNAVAILABLE", "wrong-epoch", 1));
    }
    let unknown = bench.write_as(ShardCommand { tenant_id: 99, ..keyed("k", put("a", "x: 1")) }).unwrap_err();
    assert_eq!((unknown.retry.as_str(), unknown.epoch), ("wrong-epoch", 0));
    assert_eq!(bench.rows(), rows);
    assert!(bench.write_as(keyed("k", put("a", "x: 1"))).unwrap().created);
    let read = bench.state.read(|view| query::check_owner(view, TenantId(TENANT), Epoch(2))).unwrap_err();
    assert_eq!(read.hint, Some(Hint::WrongEpoch(1)));
}

#[test]
fn an_epoch_only_rises() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    assert_eq!(bench.tenant(1, activate("acme")).unwrap().epoch, 1);
    assert_eq!(bench.tenant(4, activate("acme")).unwrap().epoch, 4);
    assert_eq!(bench.tenant(3, activate("acme")).unwrap_err().epoch, 4);
    assert_eq!((bench.row().epoch, bench.row().revision), (4, 1), "the tenant's data stays");
    assert!(bench.write(put("a", "x: 2")).is_err());
    assert!(bench.tenant(0, activate("acme")).is_err());
    assert!(bench.tenant(9, activate("not/a name")).is_err());
}

/// A deleted tenant is not served from the first entry on, and leaves its tombstone alone.
#[test]
fn a_deleted_tenant_leaves_only_its_tombstone() {
    let mut bench = Bench::active();
    let other = ShardCommand { tenant_id: TENANT + 1, ..command(activate("other")) };
    bench.apply(&other);
    bench.write_as(ShardCommand { tenant_id: TENANT + 1, ..command(put("a", "x: 1")) }).unwrap();
    for i in 0..20 {
        bench.write_as(keyed(&format!("k{i}"), put(&format!("c{i}"), &format!("x: {i}")))).unwrap();
    }
    assert_eq!(bench.tenant(1, delete_tenant()).unwrap_err().retry, "wrong-epoch", "the same epoch is a stale order");
    assert_eq!(bench.tenant(2, delete_tenant()).unwrap().state, "deleting");
    assert_eq!(bench.write_as(keyed("k1", put("c1", "x: 1"))).unwrap_err().retry, "wrong-epoch");
    assert!(bench.state.read(|view| query::check_owner(view, TenantId(TENANT), Epoch(2))).is_err());
    assert!(bench.tenant(3, activate("acme")).is_err());
    let due = bench.state.read(|view| query::due(view, bench.now_ms, 10)).unwrap();
    assert_eq!(due, [query::Due { tenant: TenantId(TENANT), epoch: Epoch(2), work: query::DueWork::Sweep }]);

    let mut entries = 0;
    loop {
        let answer = bench.tenant(2, sweep(10)).unwrap();
        assert!(answer.rows <= 10);
        entries += 1;
        if !answer.more {
            assert_eq!(answer.state, "deleted");
            break;
        }
    }
    assert!(entries > 10);
    assert_eq!(
        bench.row(),
        conflux_proto::store::Tenant { id: TENANT, epoch: 2, state: "deleted".into(), ..Default::default() }
    );
    for epoch in [1, 2, 3, 100] {
        assert!(bench.tenant(epoch, activate("acme")).is_err(), "an id is never used again");
    }
    assert_eq!(bench.tenant(2, delete_tenant()).unwrap().state, "deleted");
    let told = Notice::Tenant { tenant_id: TenantId(TENANT), state: TenantState::Deleted, epoch: Epoch(2) };
    assert_eq!(bench.notices.last(), Some(&told));
    // The neighbour has lost nothing: tenant, config, name, version, content, count, event, audit record, application,
    // environment.
    assert_eq!(bench.rows().len(), 1 + 10);
}

/// An Activate that is still under way must not make a tenant that is being deleted.
#[test]
fn a_deletion_may_come_before_the_tenant() {
    let mut bench = Bench::new();
    assert_eq!(bench.tenant(2, delete_tenant()).unwrap().state, "deleted");
    assert!(bench.tenant(1, activate("acme")).is_err());
}

/// The history is bounded, and says where it begins.
#[test]
fn old_events_go_and_the_floor_rises() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(add_version(1, "x: 2")).unwrap();
    for i in 0..limits::RETAINED_EVENTS + 3 {
        bench.write(releases(1, vec![rule(&[], 1 + i % 2, 0), rule(&[("n", &i.to_string())], 1, 1)])).unwrap();
    }
    let revision = bench.row().revision;
    assert_eq!(bench.tenant(1, expire(0)).unwrap().rows, 5);
    assert_eq!(bench.row().event_floor, revision - limits::RETAINED_EVENTS);
    let below = bench.read(|view, row| query::history(view, row, row.event_floor - 1, 0, 0)).unwrap_err();
    assert_eq!((below.code.http_status(), below.details[0].description.as_str()), (410, "3.5"));
    let page = bench.read(|view, row| query::history(view, row, row.event_floor, 0, 10)).unwrap();
    assert_eq!(page.revisions.iter().map(|r| r.revision).collect::<Vec<_>>(), (6..16).collect::<Vec<_>>());
    assert!(bench.read(|view, row| query::history(view, row, row.revision, 0, 0)).unwrap().revisions.is_empty());
}
