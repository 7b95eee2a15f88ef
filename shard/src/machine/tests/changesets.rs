//! Several writes, all or nothing, under one revision.

use conflux_proto::{
    log::{Refusal, ShardCommand, Step, shard_answer},
    v1::ChangesetResponse,
};

use super::{bench::*, commands::*};
use crate::{machine::Notice, query};

fn apply(bench: &mut Bench, command: ShardCommand) -> Result<ChangesetResponse, Refusal> {
    match bench.apply(&command) {
        shard_answer::Result::Changeset(answer) => Ok(answer),
        shard_answer::Result::Refusal(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn refused(bench: &mut Bench, steps: Vec<Step>) -> (String, String, String) {
    let refusal = apply(bench, command(changeset(steps))).unwrap_err();
    let detail = refusal.details.first().cloned().unwrap_or_default();
    (refusal.code, detail.field, detail.description)
}

fn two() -> Bench {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    bench.write(put("b", "y: 1")).unwrap();
    bench
}

/// Two services that must change together: followers see both changes or none.
#[test]
fn a_changeset_is_one_revision_with_all_its_events() {
    let mut bench = two();
    let steps = vec![
        step_of(conflux_proto::log::shard_command::Op::Publish(publish(1, "x: 2", all()))),
        step_of(put("c", "z: 1")),
        step_of(put("b", "y: 1")),
    ];
    let answer = apply(&mut bench, keyed("k", changeset(steps.clone()))).unwrap();
    assert_eq!(answer.revision, "3.3");
    let made: Vec<(&str, u64, &str)> =
        answer.results.iter().map(|r| (r.config_id.as_str(), r.version, r.etag.as_str())).collect();
    // The last one changed nothing, and says of which revision it is.
    assert_eq!(made, [("c1", 2, "\"3.3\""), ("c3", 1, "\"3.3\""), ("c2", 1, "\"3.2\"")]);
    let Some(Notice::Revision { revision, events, .. }) = bench.notices.last() else { panic!() };
    let told: Vec<String> = events.iter().map(|e| e.event.clone().unwrap().name).collect();
    assert_eq!((revision.0, told), (3, vec!["a".to_owned(), "c".to_owned()]));
    assert_eq!((bench.fetched("a").unwrap().0, bench.fetched("c").unwrap().0), (2, 1));
    // Its lost answer is asked for again.
    assert_eq!(apply(&mut bench, keyed("k", changeset(steps))).unwrap(), answer);
    assert_eq!(bench.row().revision, 3);
    let record = bench.audit().pop().unwrap();
    assert_eq!((record.operation.as_str(), record.target.as_str()), ("apply_changeset", "app/env/a\napp/env/c"));
}

/// Whatever fails, nothing of it is there, and the refusal says which change failed.
#[test]
fn nothing_is_left_of_a_changeset_that_fails() {
    let mut bench = two();
    let rows = bench.rows();
    let good = || step_of(put("c", "z: 1"));
    let (code, field, _) = refused(&mut bench, vec![good(), step_of(rollback(1, 9))]);
    assert_eq!((code.as_str(), field.as_str()), ("INVALID_ARGUMENT", "changes[1].version"));
    let (code, field, _) = refused(&mut bench, vec![good(), step_of(delete(2)), step_of(delete(9))]);
    assert_eq!((code.as_str(), field.as_str()), ("NOT_FOUND", "changes[2]"));
    let stale = Step { if_match: 1, ..step_of(put("b", "y: 2")) };
    let (code, field, _) = refused(&mut bench, vec![good(), stale]);
    assert_eq!((code.as_str(), field.as_str()), ("FAILED_PRECONDITION", "changes[1]"));
    let there = Step { if_absent: true, ..step_of(put("b", "y: 2")) };
    assert_eq!(refused(&mut bench, vec![good(), there]).0, "FAILED_PRECONDITION");
    assert_eq!(refused(&mut bench, vec![Step::default()]).0, "UNIMPLEMENTED");
    for steps in [vec![], vec![good(); 101]] {
        assert_eq!(refused(&mut bench, steps).1, "changes");
    }
    assert_eq!(bench.rows(), rows);
}

/// Two changes of one config would leave it a guess which condition and which answer is meant.
#[test]
fn a_config_is_changed_once() {
    let mut bench = two();
    for steps in [
        vec![step_of(put("a", "x: 2")), step_of(put("b", "y: 2")), step_of(add_version(1, "x: 3"))],
        vec![step_of(delete(1)), step_of(put("b", "y: 2")), step_of(put("a", "x: 3"))],
        vec![step_of(put("new", "1")), step_of(put("b", "y: 2")), step_of(create("new", "2"))],
    ] {
        let (code, field, why) = refused(&mut bench, steps);
        assert_eq!((code.as_str(), field.as_str()), ("INVALID_ARGUMENT", "changes[2]"));
        assert!(why.starts_with("changes[0] is of the same config app/env/"), "{why}");
    }
    assert_eq!(bench.row().revision, 2);
}

/// A watch that follows one config of a changeset must find its event among the others.
#[test]
fn the_history_tells_each_change() {
    let mut bench = two();
    apply(&mut bench, command(changeset(vec![step_of(put("a", "x: 2")), step_of(delete(2))]))).unwrap();
    let history = bench.read(|view, row| query::history(view, row, 2, 0, 0)).unwrap();
    assert_eq!(history.revisions.len(), 1);
    let types: Vec<String> = history.revisions[0].events.iter().map(|e| e.event.clone().unwrap().r#type).collect();
    assert_eq!(types, ["released", "deleted"]);
}
