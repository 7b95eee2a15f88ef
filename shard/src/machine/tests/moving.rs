//! A tenant moves between two machines, while it is written.

use conflux_proto::{
    internal::{ExportRowsRequest, ExportRowsResponse},
    log::{
        BeginImport, Depart, EndMove, ForgetTouched, Freeze, ImportRows, Refusal, Row, Seal, ShardCommand, TakeOver,
        Track, shard_command::Op,
    },
    store,
};
use proptest::prelude::*;

use super::{bench::*, whole};
use crate::{machine::tally::recount, query, store::keys::Key};

const MOVE: u64 = 5;
/// What the move gives the tenant.
const NEW: u64 = 2;

fn track(id: u64) -> Op {
    Op::Track(Track { r#move: id, to: "b".into() })
}

fn freeze(id: u64) -> Op {
    Op::Freeze(Freeze { r#move: id })
}

fn depart(id: u64) -> Op {
    Op::Depart(Depart { r#move: id, to: "b".into(), new_epoch: NEW })
}

fn begin(id: u64) -> Op {
    Op::BeginImport(BeginImport { r#move: id, name: "acme".into() })
}

fn take_over(id: u64) -> Op {
    Op::TakeOver(TakeOver { r#move: id })
}

fn end(id: u64) -> Op {
    Op::EndMove(EndMove { r#move: id })
}

/// The next page after where the destination stands.
fn page(source: &Bench, destination: &Bench, id: u64, max_bytes: u32) -> ExportRowsResponse {
    let row = destination.row();
    let asked = ExportRowsRequest {
        tenant_id: TENANT,
        epoch: 1,
        r#move: id,
        cursor: row.import_cursor,
        whole: row.import_whole,
        seq: row.import_seq,
        max_bytes,
        wait_ms: 0,
    };
    source.state.read(|view| query::export(view, &source.row(), &asked)).unwrap()
}

fn import(destination: &Bench, id: u64, page: &ExportRowsResponse) -> Op {
    let row = destination.row();
    Op::ImportRows(ImportRows {
        r#move: id,
        after_cursor: row.import_cursor,
        after_seq: row.import_seq,
        rows: page.rows.clone(),
        cursor: page.cursor.clone(),
        whole: page.whole,
        seq: page.seq,
    })
}

/// Copies one page; the frozen row where that was the last.
fn copy(source: &Bench, destination: &mut Bench, max_bytes: u32) -> Option<store::Tenant> {
    let page = page(source, destination, MOVE, max_bytes);
    let rows = import(destination, MOVE, &page);
    destination.tenant(NEW, rows).unwrap();
    page.frozen
}

fn sweep_all(bench: &mut Bench, epoch: u64) {
    while bench.tenant(epoch, sweep(3)).unwrap().more {}
}

/// Both ends of a move that has begun.
fn begun() -> (Bench, Bench) {
    let (mut source, mut destination) = (Bench::active(), Bench::new());
    for i in 0..6 {
        source.write_as(keyed(&format!("k{i}"), put(&format!("c{i}"), &format!("x: {i}")))).unwrap();
    }
    source.tenant(1, track(MOVE)).unwrap();
    destination.tenant(NEW, begin(MOVE)).unwrap();
    (source, destination)
}

/// The same with everything copied, frozen and sealed.
fn sealed() -> (Bench, Bench) {
    let (mut source, mut destination) = begun();
    source.tenant(1, freeze(MOVE)).unwrap();
    let frozen = loop {
        if let Some(frozen) = copy(&source, &mut destination, 200) {
            break frozen;
        }
    };
    destination.tenant(NEW, Op::Seal(Seal { r#move: MOVE, tenant: Some(frozen) })).unwrap();
    (source, destination)
}

fn code(refused: Result<impl std::fmt::Debug, Refusal>) -> String {
    refused.unwrap_err().code
}

fn at(epoch: u64, op: Op) -> ShardCommand {
    ShardCommand { epoch, ..command(op) }
}

#[derive(Debug, Clone)]
enum Happens {
    Put(u8, u8),
    Delete(u8),
    Expire,
    Copy(u32),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (0..6u8, any::<u8>()).prop_map(|(name, content)| Happens::Put(name, content)),
        1 => (1..9u8).prop_map(Happens::Delete),
        1 => Just(Happens::Expire),
        3 => (1..2_000u32).prop_map(Happens::Copy),
    ]
}

proptest! {
    // Whatever is written while pages of any size travel: the rows at the end are those of the source, and the tenant goes on
    // with its revisions, its audit chain and its remembered answers.
    #[test]
    fn all_of_a_tenant_travels_while_it_is_written(steps in proptest::collection::vec(happens(), 0..80)) {
        let (mut source, mut destination) = begun();
        for (i, step) in steps.iter().enumerate() {
            source.now_ms += 400;
            match step {
                Happens::Put(name, content) => {
                    let put = put(&format!("c{name}"), &format!("x: {content}"));
                    source.write_as(keyed(&format!("s{i}"), put)).unwrap();
                }
                // It may be gone already.
                Happens::Delete(id) => drop(source.write(delete(u64::from(*id)))),
                Happens::Expire => drop(source.tenant(1, expire(5)).unwrap()),
                Happens::Copy(bytes) => assert!(copy(&source, &mut destination, *bytes).is_none()),
            }
        }
        let last = keyed("last", put("last", "x: 1"));
        let answer = source.write_as(last.clone()).unwrap();
        source.tenant(1, freeze(MOVE)).unwrap();
        let frozen = loop {
            if let Some(frozen) = copy(&source, &mut destination, 700) {
                break frozen;
            }
        };
        destination.tenant(NEW, Op::Seal(Seal { r#move: MOVE, tenant: Some(frozen.clone()) })).unwrap();
        destination.tenant(NEW, take_over(MOVE)).unwrap();
        let moved = destination.row();
        prop_assert_eq!((moved.revision, moved.audit_seq, moved.incarnation), (frozen.revision, frozen.audit_seq, 3));
        let travelling = |bench: &Bench| {
            let travels = |(key, _): &(Vec<u8>, Vec<u8>)| {
                !matches!(Key::decode(key).unwrap(), Key::Tenant { .. } | Key::Touched { .. })
            };
            bench.rows().into_iter().filter(travels).collect::<Vec<_>>()
        };
        prop_assert_eq!(travelling(&source), travelling(&destination));
        whole::check(&destination);
        // The same call again is answered by what travelled; the next one follows on.
        destination.now_ms = source.now_ms;
        prop_assert_eq!(destination.write_as(ShardCommand { epoch: NEW, ..last }).unwrap(), answer);
        destination.write_as(at(NEW, put("after", "x: 1"))).unwrap();
        prop_assert_eq!(destination.row().revision, frozen.revision + 1);

        source.tenant(1, depart(MOVE)).unwrap();
        sweep_all(&mut source, NEW);
        let tombstone = store::Tenant {
            id: TENANT, epoch: NEW, state: "moved".into(), move_id: MOVE, ended_move: MOVE, moved_to: "b".into(),
            ..Default::default()
        };
        prop_assert_eq!(source.row(), tombstone);
        prop_assert_eq!(source.rows().len(), 1, "nothing but the tombstone is left");
    }
}

/// A frozen tenant refuses whatever changes it, with a hint to wait; thawed it goes on where it was.
#[test]
fn a_frozen_tenant_changes_only_by_its_thaw() {
    let (mut source, _) = begun();
    source.tenant(1, freeze(MOVE)).unwrap();
    let frozen = source.rows();
    for op in [put("a", "x: 1"), delete(1), save_draft_of(1)] {
        let refused = source.write_as(keyed("new", op)).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.retry.as_str()), ("UNAVAILABLE", "frozen"));
    }
    assert_eq!(source.tenant(1, expire(5)).unwrap_err().retry, "frozen");
    assert_eq!(source.write_as(keyed("k1", put("c1", "x: 1"))).unwrap_err().retry, "frozen", "no answer from here");
    assert_eq!(source.tenant(1, activate("acme")).unwrap_err().retry, "wrong-epoch");
    assert_eq!(source.rows(), frozen);
    source.tenant(1, end(MOVE)).unwrap();
    assert!(source.write_as(keyed("new", put("a", "x: 1"))).unwrap().created);
    whole::check(&source);
}

fn save_draft_of(config: u64) -> Op {
    super::commands::save_draft(config, 0, "x: 1")
}

/// Late and repeated messages of a move that has ended here have no effect, wherever it ended.
#[test]
fn an_ended_move_has_no_effect_any_more() {
    // Given up before it was heard of.
    let mut destination = Bench::new();
    destination.tenant(NEW, end(MOVE)).unwrap();
    assert_eq!(code(destination.tenant(NEW, begin(MOVE))), "ABORTED");
    assert_eq!(code(destination.tenant(NEW, begin(MOVE - 1))), "ABORTED");
    destination.tenant(NEW + 1, begin(MOVE + 1)).unwrap();
    // At the source.
    let (mut source, _) = begun();
    source.tenant(1, end(MOVE)).unwrap();
    assert_eq!(code(source.tenant(1, freeze(MOVE))), "ABORTED");
    assert_eq!(code(source.tenant(1, track(MOVE))), "ABORTED");
    assert!(source.write(put("a", "x: 1")).is_ok());
    // A later move ends those before it.
    source.tenant(1, track(MOVE + 2)).unwrap();
    assert_eq!(code(source.tenant(1, freeze(MOVE + 1))), "ABORTED");
    assert_eq!(source.tenant(1, end(MOVE + 1)).unwrap().state, "active");
    assert_eq!(source.row().tracked_move, MOVE + 2, "the end of an earlier one changes nothing");
    // Taken over, everything of it comes too late.
    let (_, mut destination) = sealed();
    destination.tenant(NEW, take_over(MOVE)).unwrap();
    for late in [begin(MOVE), end(MOVE), take_over(MOVE)] {
        let before = destination.rows();
        let _ = destination.tenant(NEW, late);
        assert_eq!(destination.rows(), before);
    }
}

/// A page counts only where it follows on; a repeated one, or one of another place, has no effect.
#[test]
fn pages_follow_on_one_another() {
    let (source, mut destination) = begun();
    let first = page(&source, &destination, MOVE, 200);
    let import_first = import(&destination, MOVE, &first);
    destination.tenant(NEW, import_first.clone()).unwrap();
    let before = destination.rows();
    assert_eq!(code(destination.tenant(NEW, import_first)), "ABORTED");
    assert_eq!(destination.rows(), before);
    let Op::ImportRows(mut foreign) = import(&destination, MOVE, &page(&source, &destination, MOVE, 200)) else {
        unreachable!()
    };
    foreign.rows.push(Row { key: Key::Config { tenant: TENANT + 1, config: 1 }.encode().into(), value: None });
    assert_eq!(code(destination.tenant(NEW, Op::ImportRows(foreign.clone()))), "INVALID_ARGUMENT");
    foreign.rows = vec![Row { key: Key::Tenant { tenant: TENANT }.encode().into(), value: None }];
    assert_eq!(code(destination.tenant(NEW, Op::ImportRows(foreign))), "INVALID_ARGUMENT", "who owns it is no row");
    assert_eq!(destination.rows(), before);
}

/// A copy that misses a row, or has one too many, is never served.
#[test]
fn a_copy_that_differs_is_not_sealed() {
    let (mut source, mut destination) = begun();
    source.tenant(1, freeze(MOVE)).unwrap();
    let mut lost = page(&source, &destination, MOVE, u32::MAX);
    lost.rows.remove(2);
    let rows = import(&destination, MOVE, &lost);
    destination.tenant(NEW, rows).unwrap();
    let seal = Op::Seal(Seal { r#move: MOVE, tenant: Some(source.row()) });
    assert_eq!(code(destination.tenant(NEW, seal)), "FAILED_PRECONDITION");
    assert_eq!(destination.row().state, "importing");
    assert_eq!(code(destination.tenant(NEW, take_over(MOVE))), "ABORTED");
}

/// Given up at any point: the source goes on, nothing is left at the destination, and the next move may come.
#[test]
fn a_move_that_is_given_up_leaves_nothing() {
    for copied in 0..4 {
        let (mut source, mut destination) = begun();
        for _ in 0..copied {
            copy(&source, &mut destination, 300);
        }
        source.write(put("meanwhile", "x: 1")).unwrap();
        source.tenant(1, end(MOVE)).unwrap();
        destination.tenant(NEW, end(MOVE)).unwrap();
        if copied > 0 {
            assert_eq!(code(destination.tenant(NEW + 1, begin(MOVE + 1))), "ABORTED", "what is left goes first");
        }
        let epoch = destination.row().epoch;
        sweep_all(&mut destination, epoch);
        assert_eq!((destination.row().rows, destination.rows().len()), (0, 1));
        // Notes of the move are forgotten, those of the next one are kept.
        source.tenant(1, track(MOVE + 1)).unwrap();
        source.write(put("later", "x: 1")).unwrap();
        while source.tenant(1, Op::ForgetTouched(ForgetTouched { max_rows: 2 })).unwrap().more {}
        let noted = source.rows().into_iter().filter_map(|(key, _)| match Key::decode(&key).unwrap() {
            Key::Touched { move_id, .. } => Some(move_id),
            _ => None,
        });
        let noted: std::collections::BTreeSet<u64> = noted.collect();
        assert_eq!(noted, [MOVE + 1].into());
        destination.tenant(NEW + 1, begin(MOVE + 1)).unwrap();
    }
}

/// Only one shard serves at a time, by what each has in its own state.
#[test]
fn nobody_serves_between_freeze_and_take_over() {
    let serves = |bench: &Bench, epoch: u64| {
        let tenant = conflux_common::ids::TenantId(TENANT);
        bench.state.read(|view| query::check_owner(view, tenant, conflux_common::ids::Epoch(epoch))).is_ok()
    };
    let (mut source, mut destination) = sealed();
    assert!(!serves(&source, 1) && !serves(&destination, NEW));
    let refused = destination.write_as(at(NEW, put("a", "x: 1"))).unwrap_err();
    assert_eq!((refused.retry.as_str(), refused.epoch), ("wrong-epoch", 0), "its epoch is not given out yet");
    destination.tenant(NEW, take_over(MOVE)).unwrap();
    assert!(serves(&destination, NEW));
    assert_eq!(code(source.tenant(1, Op::Depart(Depart { r#move: MOVE, to: "b".into(), new_epoch: 1 }))), "ABORTED");
    source.tenant(1, depart(MOVE)).unwrap();
    let refused = source.write(put("a", "x: 1")).unwrap_err();
    assert_eq!((refused.retry.as_str(), refused.epoch), ("wrong-epoch", NEW));
    let counts = source.state.read(|view| recount(view, TENANT));
    assert_eq!((source.row().rows_hash.len(), source.row().rows, source.row().row_bytes), (0, counts.1, counts.2));
    // Nothing of it is looked at twice, and what is left is counted all the time.
    let mut swept = 0;
    while source.row().rows > 0 {
        let more = source.tenant(NEW, sweep(3)).unwrap();
        swept += more.rows;
        let counts = source.state.read(|view| recount(view, TENANT));
        assert_eq!((source.row().rows, source.row().row_bytes), (counts.1, counts.2));
        let first = source
            .rows()
            .into_iter()
            .map(|(key, _)| key)
            .find(|key| !matches!(Key::decode(key).unwrap(), Key::Tenant { .. }));
        assert!(first.is_none_or(|first| first > source.row().sweep_cursor));
    }
    assert!(swept > 6);
}
