//! Quotas, the audit chain, applications and environments, and what retention gives up.

use conflux_proto::{
    audit::Chain,
    log::{CreateConfig, DeleteScope, Prune, PutScope, ShardCommand, shard_command::Op},
    v1::{Quotas, Retention},
};
use conflux_raft::{App, Read, Tx};
use prost::Message;

use super::bench::*;
use crate::{
    machine::limits,
    query,
    store::{audit, config, keys::Key, scope, tenant, version},
};

fn put_scope(env: &str, description: &str, existing: bool) -> Op {
    Op::PutScope(PutScope { app: "app".into(), env: env.into(), description: description.into(), existing })
}

fn delete_scope(env: &str) -> Op {
    Op::DeleteScope(DeleteScope { app: "app".into(), env: env.into() })
}

fn prune(versions: &[u64]) -> Op {
    Op::Prune(Prune { config_id: 1, versions: versions.to_vec(), archived: true })
}

/// Each quota names itself, room in it is room at once, and a lowered one takes nothing away.
#[test]
fn quotas_hold_for_what_grows() {
    let mut bench = Bench::active();
    let text = "x".repeat(100);
    let refused = |bench: &mut Bench, op| {
        let refusal = bench.write_as(keyed("k", op)).unwrap_err();
        assert_eq!(refusal.code, "RESOURCE_EXHAUSTED", "{refusal:?}");
        (refusal.details[0].field.clone(), refusal.too_large)
    };
    let large = "x".repeat(102_401);
    assert_eq!(refused(&mut bench, put("a", &large)), ("quota.config_bytes".into(), true));
    bench.write(put("a", &large[1..])).unwrap();

    bench.set_quotas(Quotas { versions: 2, total_bytes: 102_550, ..Default::default() });
    bench.write(put("a", &text)).unwrap();
    assert_eq!(refused(&mut bench, put("a", "third")), ("quota.versions".into(), false));
    assert_eq!(refused(&mut bench, put("b", &"y".repeat(51))), ("quota.total_bytes".into(), false));
    // A content that is there already takes no room.
    bench.write(put("b", &text)).unwrap();
    assert_eq!(bench.row().content_bytes, 102_500);
    bench.set_quotas(Quotas { total_bytes: 1, ..Default::default() });
    assert!(bench.fetched("a").is_ok(), "what is above a lowered quota stays");
    bench.write(put("c", &text)).unwrap();
    bench.write(delete(1)).unwrap();
    assert_eq!(bench.row().content_bytes, 100);
    assert_eq!(refused(&mut bench, put("a", &large[1..])), ("quota.total_bytes".into(), false));
    bench.set_quotas(Quotas::default());
    // The refusal was not remembered: the same call under the same key has its one effect now.
    assert!(bench.write_as(keyed("k", put("a", &large[1..]))).unwrap().created);
}

/// Settings that arrive late or twice must not undo newer ones.
#[test]
fn older_settings_are_ignored() {
    let mut bench = Bench::active();
    let with = |settings_seq, configs| {
        let quotas = Some(Quotas { configs, ..Default::default() });
        Op::Activate(conflux_proto::log::Activate { name: "acme".into(), incarnation: 3, quotas, settings_seq })
    };
    bench.tenant(1, with(2, 5)).unwrap();
    bench.tenant(1, with(1, 9)).unwrap();
    assert_eq!((bench.row().settings_seq, bench.row().quotas.unwrap().configs), (2, 5));
    // A new epoch with what placement had before.
    bench.tenant(2, with(1, 9)).unwrap();
    assert_eq!((bench.row().epoch, bench.row().quotas.unwrap().configs), (2, 5));
}

fn check_chain(bench: &Bench) {
    let mut chain = Chain::default();
    let records = bench.audit();
    records.iter().for_each(|r| chain.next(r).unwrap());
    let row = bench.row();
    assert_eq!(chain.end().map(|(seq, hash)| (seq, hash.clone())), Some((row.audit_seq, row.audit_hash)));
}

/// Who changed what must be told by one record for each accepted change, and by none for a refused or repeated one.
#[test]
fn each_accepted_change_leaves_one_record() {
    let mut bench = Bench::active();
    let by = ShardCommand { request_id: "r-1".into(), trace_id: "t-1".into(), ..keyed("k", put("a", "x: 1")) };
    bench.write_as(by.clone()).unwrap();
    bench.write_as(by).unwrap();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("a", "x: 2")).unwrap();
    bench.write(releases(1, vec![rule(&[], 1, 0), rule(&[("region", "eu")], 2, 10)])).unwrap();
    assert!(bench.write(delete(9)).is_err());
    bench.write(put_scope("env", "where it runs", true)).unwrap();
    bench.write(delete(1)).unwrap();

    let records = bench.audit();
    let told: Vec<_> = records.iter().map(|r| (r.operation.as_str(), r.target.as_str(), r.revision)).collect();
    assert_eq!(
        told,
        [
            ("put_config", "app/env/a", 1),
            ("put_config", "app/env/a", 2),
            ("set_releases", "app/env/a", 3),
            ("put_scope", "app/env", 4),
            ("delete_config", "app/env/a", 5),
        ]
    );
    let first = &records[0];
    assert_eq!((first.principal.as_str(), first.request_id.as_str(), first.trace_id.as_str()), ("key:a", "r-1", "t-1"));
    assert_eq!((first.config_id.as_str(), first.time_ms), ("c1", bench.now_ms));
    assert!(first.summary.starts_with("created; version 1 (yaml, 4 bytes, sha256:"), "{}", first.summary);
    let rules = "; default: version 2 -> version 1, region=eu: version 2 at priority 10";
    assert!(
        records[2].summary.starts_with("released; version 1 (") && records[2].summary.ends_with(rules),
        "{records:?}"
    );
    assert_eq!(records[4].summary, "deleted; default: version 1 -> none, region=eu: version 2 at priority 10 -> none");
    check_chain(&bench);
}

/// A record that was changed in the database must be found by whoever checks the chain.
#[test]
fn a_tampered_row_is_found() {
    let mut bench = Bench::active();
    for i in 0..5 {
        bench.write(put("a", &format!("x: {i}"))).unwrap();
    }
    let verify = |bench: &Bench| bench.read(|view, row| query::verify_audit(view, row)).unwrap();
    let whole = verify(&bench);
    assert_eq!((whole.broken, whole.records, whole.last), (None, 5, 5));
    bench.state.apply(|tx| {
        let mut row = audit::get(tx, TENANT, 3).unwrap().unwrap();
        row.principal = "key:somebody-else".into();
        tx.put(Key::Audit { tenant: TENANT, seq: 3 }.encode(), row.encode_to_vec());
    });
    assert_eq!(verify(&bench).broken.unwrap().seq, 3);
    // Cutting the newest off shows too: the tenant's row knows where the chain ends.
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("a", "x: 2")).unwrap();
    bench.state.apply(|tx| audit::delete(tx, TENANT, 2));
    assert!(verify(&bench).broken.is_some());
}

/// The chain must not fill the disk: the oldest records go, and what is left still holds.
#[test]
fn old_records_go() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    // As if 100,000 had been written since.
    bench.write(put("a", "x: 2")).unwrap();
    let many = limits::RETAINED_AUDIT + 2;
    bench.state.apply(|tx| {
        let mut row = tenant::get(tx, TENANT).unwrap().unwrap();
        for seq in 3..=many {
            let mut record =
                conflux_proto::store::AuditRecord { seq, previous_hash: row.audit_hash.clone(), ..Default::default() };
            record.hash = conflux_proto::audit::hash(&record);
            row.audit_hash = record.hash.clone();
            audit::put(tx, TENANT, &record);
        }
        row.audit_seq = many;
        tenant::put(tx, &row);
    });
    let due = |bench: &Bench| bench.state.read(|view| query::due(view, bench.now_ms, 10)).unwrap().len();
    assert_eq!(due(&bench), 1);
    assert_eq!(bench.tenant(1, expire(0)).unwrap().rows, 2);
    assert_eq!((due(&bench), bench.row().audit_floor), (0, 2));
    check_chain(&bench);
}

/// People find an application by its configs, and may prepare or describe one before there are any.
#[test]
fn scopes_are_made_counted_and_deleted_when_empty() {
    let mut bench = Bench::active();
    let members = |bench: &Bench, env: Option<&str>| {
        bench.state.read(|view| scope::get(view, TENANT, "app", env)).unwrap().map(|row| row.members)
    };
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("b", "x: 1")).unwrap();
    assert_eq!((members(&bench, None), members(&bench, Some("env"))), (Some(1), Some(2)));
    assert_eq!(bench.write(put_scope("env", "", false)).unwrap_err().code, "ALREADY_EXISTS");
    assert_eq!(bench.write(put_scope("other", "x", true)).unwrap_err().code, "NOT_FOUND");
    assert!(bench.write(put_scope("other", "for tests", false)).unwrap().created);
    let revision = bench.row().revision;
    bench.write(put_scope("other", "for tests", true)).unwrap();
    assert_eq!(bench.row().revision, revision, "the same description is no change");
    assert_eq!((members(&bench, None), bench.row().scopes), (Some(2), 3));
    for full in ["", "env"] {
        assert_eq!(bench.write(delete_scope(full)).unwrap_err().code, "FAILED_PRECONDITION");
    }
    bench.write(delete(1)).unwrap();
    bench.write(delete(2)).unwrap();
    assert_eq!(members(&bench, Some("env")), Some(0), "the last config leaves it");
    bench.write(delete_scope("env")).unwrap();
    bench.write(delete_scope("other")).unwrap();
    bench.write(delete_scope("")).unwrap();
    assert_eq!((members(&bench, None), bench.row().scopes), (None, 0));
    assert_eq!(bench.write(delete_scope("")).unwrap_err().code, "NOT_FOUND");
    let kinds: Vec<String> = bench.history().into_iter().filter(|k| k.starts_with("scope")).collect();
    assert_eq!(kinds, ["scope_created", "scope_deleted", "scope_deleted", "scope_deleted"]);
    assert_eq!(bench.write(put_scope("a/b", "", false)).unwrap_err().code, "INVALID_ARGUMENT");
}

/// Making and deleting configs in ever new applications must not fill the disk with empty ones.
#[test]
fn scopes_have_a_bound() {
    let mut bench = Bench::active();
    bench.state.apply(|tx| {
        let row = tenant::get(tx, TENANT).unwrap().unwrap();
        tenant::put(tx, &conflux_proto::store::Tenant { scopes: limits::MAX_SCOPES, ..row });
    });
    assert_eq!(bench.write(put("a", "x: 1")).unwrap_err().details[0].field, "quota.scopes");
}

/// Whatever the leader thought was due: what a rule, the latest or a rollback needs stays.
#[test]
fn pruning_spares_what_is_in_use() {
    let mut bench = Bench::active();
    for i in 1..=6 {
        bench.write(put("a", &format!("x: {i}"))).unwrap();
    }
    bench.write(releases(1, vec![rule(&[], 4, 0), rule(&[("region", "eu")], 2, 10)])).unwrap();
    bench.state.apply(|tx| {
        let mut row = config::get(tx, TENANT, 1).unwrap().unwrap();
        row.previous_default = 5;
        config::put(tx, TENANT, &row, false);
    });
    let before = bench.row();
    bench.write(prune(&[1, 2, 3, 4, 5, 6, 7])).unwrap();
    let left: Vec<u64> =
        (1..=7).filter(|n| bench.state.read(|view| version::get(view, TENANT, 1, *n)).unwrap().is_some()).collect();
    assert_eq!(left, [2, 4, 5, 6]);
    let after = bench.row();
    assert_eq!((after.revision, after.versions), (before.revision, 4), "nobody is served anything else");
    assert_eq!(after.content_bytes, 4 * 4);
    let config = bench.read(|view, row| query::config_by_name(view, row, "app", "env", "a")).unwrap();
    assert_eq!((config.versions, config.latest_version), (4, 6));
    let last = bench.audit().pop().unwrap();
    assert_eq!(
        (last.operation.as_str(), last.summary.as_str()),
        ("prune", "pruned; versions 1, 3 (8 bytes), archived")
    );
    // Nothing left to give up: no record.
    bench.write(prune(&[1, 3, 9])).unwrap();
    assert_eq!(bench.row(), after);
    // The number of a pruned version is not given out again.
    assert_eq!(bench.write(put("a", "x: 7")).unwrap().version, 7);
}

/// A retention that cannot be meant is refused; one that asks for nothing is none.
#[test]
fn a_retention_is_kept_with_its_config() {
    let mut bench = Bench::active();
    let with = |name: &str, max_versions| {
        let Op::CreateConfig(op) = create(name, "x: 1") else { panic!() };
        Op::CreateConfig(CreateConfig { retention: Some(Retention { max_versions, max_age_days: 0 }), ..op })
    };
    bench.write(with("a", 3)).unwrap();
    bench.write(with("b", 0)).unwrap();
    let kept = |name| bench.read(|view, row| query::config_by_name(view, row, "app", "env", name)).unwrap().retention;
    assert_eq!((kept("a").unwrap().max_versions, kept("b")), (3, None));
    let refused = bench.write(with("c", u32::MAX)).unwrap_err();
    assert_eq!(refused.details[0].field, "retention.max_versions");
}

/// The net under it: counts that do not agree stop the process.
#[test]
fn planted_faults_are_seen() {
    type Fault = fn(&mut Tx<'_>);
    let faults: [(&str, Fault); 7] = [
        ("does not end with the tenant's hash", |tx| tenant_with(tx, |t| t.audit_hash = vec![1; 32].into())),
        ("exactly the records above its floor", |tx| tenant_with(tx, |t| t.audit_seq += 1)),
        ("exactly the records above its floor", |tx| tenant_with(tx, |t| t.audit_floor += 1)),
        ("count of content bytes", |tx| tenant_with(tx, |t| t.content_bytes += 1)),
        ("does not count its configs", |tx| scope_with(tx, Some("env"))),
        ("does not count its environments", |tx| scope_with(tx, None)),
        ("count of versions", |tx| {
            let mut row = config::get(tx, TENANT, 1).unwrap().unwrap();
            row.versions += 1;
            config::put(tx, TENANT, &row, false);
        }),
    ];
    for (expected, fault) in faults {
        let mut bench = Bench::active();
        bench.write(put("a", "x: 1")).unwrap();
        bench.write(put("a", "x: 2")).unwrap();
        let machine = &bench.machine;
        let found = bench.state.apply(|tx| {
            fault(tx);
            machine.check(tx)
        });
        let found = found.expect_err(expected);
        assert!(found.contains(expected), "{expected:?}: {found}");
    }
}

fn tenant_with(tx: &mut Tx<'_>, change: fn(&mut conflux_proto::store::Tenant)) {
    let mut row = tenant::get(tx, TENANT).unwrap().unwrap();
    change(&mut row);
    tenant::put(tx, &row);
}

fn scope_with(tx: &mut Tx<'_>, env: Option<&str>) {
    let mut row = scope::get(tx, TENANT, "app", env).unwrap().unwrap();
    row.members += 1;
    scope::put(tx, TENANT, "app", env, &row);
}

/// Nothing of a deleted tenant stays, its audit and its scopes neither.
#[test]
fn a_deleted_tenants_records_go() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.tenant(2, delete_tenant()).unwrap();
    while bench.tenant(2, sweep(0)).unwrap().more {}
    assert_eq!(bench.rows().len(), 1);
    let rest = bench.state.read(|view| view.get(&Key::Tenant { tenant: TENANT }.encode())).unwrap().unwrap();
    let row = conflux_proto::store::Tenant::decode(rest.as_slice()).unwrap();
    assert_eq!((row.audit_seq, row.scopes), (0, 0));
}
