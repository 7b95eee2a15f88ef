//! Known good and bad histories.

use super::*;

fn call(ask: Ask, told: Told, began: u64, ended: u64) -> Call {
    Call { client: 0, tenant: 0, register: "r".into(), ask, told, began, ended, sent: 1, part: 0 }
}

const DONE: Told = Told::Wrote { revision: 1, version: 1 };

fn put(value: u64, began: u64, ended: u64) -> Call {
    call(Ask::Put { value }, DONE, began, ended)
}

fn swap(expected: u64, value: u64, told: Told, began: u64, ended: u64) -> Call {
    call(Ask::Swap { expected, value }, told, began, ended)
}

fn read(value: u64, began: u64, ended: u64) -> Call {
    call(Ask::Read, Told::Saw { value, revision: 1, age_ms: 0 }, began, ended)
}

fn open(value: u64, began: u64) -> Call {
    call(Ask::Put { value }, Told::Open, began, began)
}

/// One after the other, and overlapping calls in whichever order makes them right.
#[test]
fn good_histories_have_an_order() {
    assert_eq!(check(&[]), Verdict::Linearizable);
    assert_eq!(
        check(&[read(ABSENT, 0, 1), put(1, 2, 3), read(1, 4, 5), put(2, 6, 7), read(2, 8, 9)]),
        Verdict::Linearizable
    );
    // The second put is answered last but was done first.
    assert_eq!(
        check(&[put(1, 0, 10), put(2, 1, 11), read(2, 2, 3), read(1, 4, 5), read(1, 12, 13)]),
        Verdict::Linearizable
    );
    assert_eq!(
        check(&[put(1, 0, 1), swap(1, 2, DONE, 2, 8), swap(1, 3, Told::Refused, 3, 9), read(2, 10, 11)]),
        Verdict::Linearizable
    );
}

/// A read must not go back behind what was acknowledged, or behind what another read has seen.
#[test]
fn old_values_are_found() {
    assert_eq!(check(&[put(1, 0, 1), put(2, 2, 3), read(1, 4, 5)]), Verdict::Violation);
    assert_eq!(check(&[put(1, 0, 1), put(2, 2, 20), read(2, 3, 4), read(1, 5, 6)]), Verdict::Violation);
    assert_eq!(check(&[put(1, 0, 1), read(ABSENT, 2, 3)]), Verdict::Violation);
    assert_eq!(check(&[read(7, 0, 1)]), Verdict::Violation, "nobody wrote it");
}

/// Of two swaps over one value one wins; a swap that should have won must not be refused.
#[test]
fn swaps_exclude_each_other() {
    assert_eq!(check(&[put(1, 0, 1), swap(1, 2, DONE, 2, 9), swap(1, 3, DONE, 3, 8)]), Verdict::Violation);
    assert_eq!(check(&[put(1, 0, 1), swap(1, 2, Told::Refused, 2, 3), read(1, 4, 5)]), Verdict::Violation);
    let lost = [put(1, 0, 1), swap(1, 2, DONE, 2, 3), put(3, 4, 5), read(2, 6, 7)];
    assert_eq!(check(&lost), Verdict::Violation);
}

/// An open write may happen late or never, but not before it began, and not twice.
#[test]
fn open_writes_may_happen_at_any_later_time() {
    assert_eq!(check(&[put(1, 0, 1), open(2, 2), read(1, 4, 5), read(2, 6, 7)]), Verdict::Linearizable);
    assert_eq!(check(&[put(1, 0, 1), open(2, 2), read(1, 4, 5)]), Verdict::Linearizable);
    assert_eq!(check(&[put(1, 0, 1), read(2, 2, 3), open(2, 4)]), Verdict::Violation);
    let twice = [open(2, 0), read(2, 1, 2), put(3, 3, 4), read(3, 5, 6), read(2, 7, 8)];
    assert_eq!(check(&twice), Verdict::Violation);
    let pending_swap = [put(1, 0, 1), swap(1, 2, Told::Open, 2, 2), put(3, 3, 4), read(2, 5, 6)];
    assert_eq!(check(&pending_swap), Verdict::Violation, "its value was over when the put was acknowledged");
    let with_order = [put(1, 0, 1), swap(1, 2, Told::Open, 2, 2), put(3, 3, 9), read(2, 5, 6), read(3, 10, 11)];
    assert_eq!(check(&with_order), Verdict::Linearizable);
}

/// Many open writes and a long history: memoization keeps the search short.
#[test]
fn a_long_history_with_open_writes_is_decided() {
    let mut calls: Vec<Call> = (0..12).map(|n| open(10_000 + n, n)).collect();
    for n in 0..400 {
        let at = 100 + n * 10;
        calls.push(put(n + 1, at, at + 12));
        calls.push(read(n + 1, at + 13, at + 14));
    }
    // Overlaps by two: put n+1 begins before put n has ended.
    assert_ne!(check(&calls), Verdict::Undecided);
    calls.push(read(1, 9_000, 9_001));
    assert_eq!(check(&calls[12..]), Verdict::Violation);
}

/// What is shown of a violation is what is wrong, not the hundred calls around it.
#[test]
fn the_smallest_history_is_small() {
    let mut calls: Vec<Call> =
        (0..50).flat_map(|n| [put(n + 1, n * 10, n * 10 + 1), read(n + 1, n * 10 + 2, n * 10 + 3)]).collect();
    calls.push(read(30, 900, 901));
    let small = smallest(&calls);
    assert_eq!(check(&small), Verdict::Violation);
    assert!(small.len() <= 3, "{small:?}");
    assert!(small.iter().any(|c| c.began == 900));
}
