//! The simulation must find what it is there to find: each of these known bugs (common/src/planted.rs), within so many seeds, by the
//! invariant that is about it. Without any of them the same seeds are clean.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

/// Status and what was printed.
fn run(seeds: &str, plant: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conflux-sim"));
    command.args(["run", "--seeds", seeds, "--jobs", "2"]);
    if let Some(bug) = plant {
        command.args(["--plant", bug]);
    }
    let ran = command.output().expect("run conflux-sim");
    (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// Found within so many seeds, by one of these invariants.
fn is_found(bug: &str, within: u64, by: &[&str]) {
    let (status, text) = run(&format!("1..{within}"), Some(bug));
    assert_eq!(status, Some(1), "{bug} was not found: {text}");
    let found = by.iter().any(|invariant| text.contains(&format!("VIOLATED {invariant}: ")));
    assert!(found, "{bug} was not found by {by:?}: {text}");
}

/// What is said of the bugs must not be said of Conflux as it is.
#[test]
fn without_a_bug_all_is_clean() {
    let (status, text) = run("1..12", None);
    assert_eq!(status, Some(0), "{text}");
}

/// An entry that was acknowledged before it was on disk is lost with the power.
#[test]
fn an_unsynced_append_is_found() {
    is_found("unsynced_append", 60, &["durable promises", "processes live"]);
}

/// A vote that was forgotten could be given twice.
#[test]
fn an_unsynced_vote_is_found() {
    is_found("unsynced_vote", 60, &["durable promises", "processes live"]);
}

/// A shard that takes writes of a tenant that it has handed over.
#[test]
fn an_unchecked_epoch_is_found() {
    is_found(
        "unchecked_epoch",
        200,
        &["acknowledged writes", "linearizability", "one owner", "convergence of replicas"],
    );
}

/// A leader that answers without asking its quorum may have been deposed.
#[test]
fn an_unconfirmed_read_is_found() {
    is_found("unconfirmed_read", 60, &["linearizability"]);
}

/// A write that is done again under its key.
#[test]
fn a_forgotten_key_is_found() {
    is_found("forgotten_keys", 20, &["idempotency", "writes without effect"]);
}

/// A stale read that says it is of this moment.
#[test]
fn an_untold_age_is_found() {
    is_found("untold_age", 20, &["honest age"]);
}
