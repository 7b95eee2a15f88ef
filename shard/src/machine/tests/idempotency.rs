//! One effect and one answer for each key.

use conflux_proto::log::ShardCommand;

use super::bench::*;
use crate::query;

/// A write whose answer was lost is sent again.
#[test]
fn the_same_call_gets_the_same_answer_and_no_second_effect() {
    let mut bench = Bench::active();
    let first = bench.apply(&keyed("k", put("a", "x: 1")));
    bench.write(put("a", "x: 2")).unwrap();
    bench.now_ms += 999;
    assert_eq!(bench.apply(&keyed("k", put("a", "x: 1"))), first);
    assert_eq!(bench.row().revision, 2);
    assert_eq!(bench.fetched("a").unwrap().0, 2);
    assert_eq!(bench.notices.len(), 3, "a replay tells nobody");
}

/// A condition that the first time itself has made fail.
#[test]
fn a_replay_comes_before_the_condition() {
    let mut bench = Bench::active();
    let conditional = ShardCommand { if_absent: true, ..keyed("k", put("a", "x: 1")) };
    let first = bench.apply(&conditional);
    assert_eq!(bench.apply(&conditional), first);
    let gone = bench.apply(&keyed("d", delete(1)));
    assert_eq!(bench.apply(&keyed("d", delete(1))), gone);
}

/// A refusal that a repetition cannot cure is the one answer of its key too.
#[test]
fn final_refusals_are_remembered() {
    let mut bench = Bench::active();
    let refused = bench.write_as(keyed("k", delete(1))).unwrap_err();
    assert_eq!(refused.code, "NOT_FOUND");
    bench.write(put("a", "x: 1")).unwrap();
    assert_eq!(bench.write_as(keyed("k", delete(1))).unwrap_err(), refused);
    assert!(bench.fetched("a").is_ok());
}

/// Attack 25: a key with another body is a conflict; another's key is another key.
#[test]
fn keys_are_of_one_principal_one_operation_and_one_body() {
    let mut bench = Bench::active();
    bench.write_as(keyed("k", put("a", "x: 1"))).unwrap();
    assert_eq!(bench.write_as(keyed("k", put("a", "x: 2"))).unwrap_err().code, "ABORTED");
    assert_eq!(bench.row().revision, 1);
    let other = ShardCommand { principal: "key:b".into(), ..keyed("k", put("a", "x: 2")) };
    assert_eq!(bench.write_as(other).unwrap().version, 2);
    assert_eq!(bench.write_as(keyed("k", add_version(1, "x: 3"))).unwrap().version, 3);
    let tenant = ShardCommand { tenant_id: 8, ..command(activate("other")) };
    bench.apply(&tenant);
    let elsewhere = ShardCommand { tenant_id: 8, ..keyed("k", put("a", "x: 9")) };
    assert_eq!(bench.write_as(elsewhere).unwrap().version, 1);
}

/// Keys are forgotten by group time, so that they do not fill the disk.
#[test]
fn keys_expire() {
    let mut bench = Bench::active();
    bench.write_as(keyed("k", put("a", "x: 1"))).unwrap();
    bench.write_as(keyed("l", put("a", "x: 2"))).unwrap();
    let due = |bench: &Bench| bench.state.read(|view| query::due(view, bench.now_ms, 10)).unwrap().len();
    assert_eq!(due(&bench), 0);
    bench.tenant(1, expire(0)).unwrap();
    assert_eq!(bench.row().idempotency_records, 2);
    bench.now_ms += 1_000;
    assert_eq!(due(&bench), 1);
    // Expired but not removed: as if it were not there.
    assert_eq!(bench.write_as(keyed("k", put("a", "x: 3"))).unwrap().version, 3);
    assert_eq!(bench.row().idempotency_records, 2);
    assert_eq!(bench.tenant(1, expire(0)).unwrap().rows, 1);
    assert_eq!(bench.row().idempotency_records, 1);
    bench.now_ms += 1_000;
    let answer = bench.tenant(1, expire(1)).unwrap();
    assert_eq!((answer.rows, answer.more), (1, true));
    assert!(!bench.tenant(1, expire(1)).unwrap().more);
    assert_eq!((bench.row().idempotency_records, due(&bench)), (0, 0));
}

/// The next look begins where the last one ended, but not before others that expire in the same millisecond; a member of an older
/// release knows of no such mark.
#[test]
fn what_has_expired_is_not_looked_at_again() {
    let mut bench = Bench::active();
    for (key, content) in [("k", "x: 1"), ("l", "x: 2"), ("m", "x: 3")] {
        bench.write_as(keyed(key, put("a", content))).unwrap();
    }
    bench.now_ms += 2_000;
    bench.level = 1;
    assert_eq!(bench.tenant(1, expire(1)).unwrap().rows, 1);
    assert_eq!(bench.row().forgotten_ms, 0);
    bench.level = 2;
    assert_eq!(bench.tenant(1, expire(1)).unwrap().rows, 1);
    let mark = bench.row().forgotten_ms;
    assert!(0 < mark && mark < bench.now_ms);
    assert_eq!(bench.tenant(1, expire(0)).unwrap().rows, 1);
    assert_eq!((bench.row().idempotency_records, bench.row().forgotten_ms), (0, bench.now_ms));
    bench.write_as(keyed("k", put("a", "x: 4"))).unwrap();
    bench.now_ms += 2_000;
    assert_eq!(bench.tenant(1, expire(0)).unwrap().rows, 1);
}

#[test]
fn absurd_keys_are_refused() {
    let mut bench = Bench::active();
    for bad in ["", &"k".repeat(256)] {
        assert_eq!(bench.write_as(keyed(bad, put("a", "x: 1"))).unwrap_err().code, "INVALID_ARGUMENT");
    }
    assert_eq!(bench.row().revision, 0);
}
