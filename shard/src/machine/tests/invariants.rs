//! The net under the machine: each planted fault must be seen.

use conflux_proto::store;
use conflux_raft::{App, Read, Tx};
use prost::Message;
use sha2::{Digest, Sha256};

use super::bench::*;
use crate::store::{config, content, keys::Key, leftover, tenant, version};

type Fault = fn(&mut Tx<'_>);

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn tenant_with(tx: &mut Tx<'_>, change: fn(&mut store::Tenant)) {
    let mut row = tenant::get(tx, TENANT).unwrap().unwrap();
    change(&mut row);
    tenant::put(tx, &row);
}

fn config_with(tx: &mut Tx<'_>, change: fn(&mut store::Config)) {
    let mut row = config::get(tx, TENANT, 1).unwrap().unwrap();
    change(&mut row);
    config::put(tx, TENANT, &row, false);
}

#[test]
fn planted_faults_are_seen() {
    let faults: Vec<(&str, Fault)> = vec![
        ("rollback would go back", |tx| config_with(tx, |c| c.previous_default = 9)),
        ("promised to become", |tx| {
            config_with(tx, |c| c.promotion = Some(store::Promotion { version: 9, ..Default::default() }));
        }),
        ("nothing says when its promotion", |tx| {
            config_with(tx, |c| c.promotion = Some(store::Promotion { version: 1, due_ms: 5, ..Default::default() }));
        }),
        ("do not agree", |tx| crate::store::promotion::put(tx, TENANT, 5, 1)),
        ("more drafts", |tx| {
            crate::store::draft::put(tx, TENANT, 1, &store::Draft { number: 1, ..Default::default() });
        }),
        ("never given out", |tx| {
            tenant_with(tx, |t| t.drafts = 1);
            crate::store::draft::put(tx, TENANT, 1, &store::Draft { number: 1, ..Default::default() });
        }),
        ("history", |tx| tenant_with(tx, |t| t.revision += 1)),
        ("history", |tx| tenant_with(tx, |t| t.event_floor += 1)),
        ("history begins", |tx| tenant_with(tx, |t| t.event_floor = 99)),
        ("state that does not exist", |tx| tenant_with(tx, |t| t.state = "odd".into())),
        ("rows are left", |tx| tenant_with(tx, |t| t.state = "deleted".into())),
        ("rule or the latest", |tx| config_with(tx, |c| c.rules[0].version = 9)),
        ("after the latest", |tx| config_with(tx, |c| (c.latest_version, c.rules[0].version) = (1, 1))),
        ("a copy in it", |tx| config_with(tx, |c| c.served[0].size += 1)),
        ("a copy in it", |tx| config_with(tx, |c| c.served[0].number = 1)),
        ("nobody looks any more", |tx| {
            tenant_with(tx, |t| t.forgotten_ms = 5);
            let record = store::IdempotencyRecord { expires_ms: 5, ..Default::default() };
            crate::store::idempotency::put(tx, TENANT, [1; 32], &record);
        }),
        ("never given out", |tx| config_with(tx, |c| c.revision = 9)),
        ("event of its last change", |tx| config_with(tx, |c| c.rules[0].priority = 5)),
        ("name does not lead", |tx| config_with(tx, |c| c.name = "other".into())),
        ("count of configs", |tx| {
            let row = config::get(tx, TENANT, 1).unwrap().unwrap();
            config::delete(tx, TENANT, &row);
        }),
        ("still points at", |tx| version::delete(tx, TENANT, 1, 2)),
        ("content is missing", |tx| {
            let other = store::Version { number: 2, sha256: vec![0; 32].into(), ..Default::default() };
            tx.put(Key::Version { tenant: TENANT, config: 1, number: 2 }.encode(), other.encode_to_vec());
        }),
        ("do not agree", |tx| tx.delete(&Key::Content { tenant: TENANT, sha256: hash("x: 2") }.encode())),
        ("not what its hash says", |tx| {
            let other = store::Content { data: "x: 9".into(), references: 0 };
            tx.put(Key::Content { tenant: TENANT, sha256: hash("x: 2") }.encode(), other.encode_to_vec());
        }),
        ("still there", |tx| leftover::put(tx, TENANT, 1, &store::Leftover::default())),
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

/// What the machine itself writes when contents are shared and released again.
#[test]
fn contents_are_counted() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("b", "x: 1")).unwrap();
    bench.write(add_version(1, "x: 1")).unwrap();
    let count = |bench: &Bench| bench.state.read(|view| content::references(view, TENANT, &hash("x: 1")).unwrap());
    assert_eq!(count(&bench), 3);
    bench.write(delete(1)).unwrap();
    assert_eq!(count(&bench), 1);
    bench.write(delete(2)).unwrap();
    assert_eq!(count(&bench), 0);
    let gone = Key::Content { tenant: TENANT, sha256: hash("x: 1") }.encode();
    assert_eq!(bench.state.read(|view| view.get(&gone).unwrap()), None);
}
