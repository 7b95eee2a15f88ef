//! Explores the whole of the model, and shows of each rule that the model needs it.

use conflux_model::{Moves, Rules, invariants};
use stateright::{Checker, HasDiscoveries, Model};

/// Two moves, one of which may be aborted, one crash, two writes, and every message late, twice or never.
const BOUNDS: Moves = Moves { rules: Rules::ALL, moves: 2, aborts: 1, crashes: 1, writes: 2 };

/// Every state that can be reached: nothing is lost, doubled, misordered or left, and every move ends.
#[test]
fn moves_are_safe_and_end() {
    let checker = BOUNDS.checker().threads(2).spawn_bfs().join();
    println!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// Whether the exploration without a rule finds that this is broken.
fn breaks(rules: Rules, property: &'static str) -> bool {
    let enough = HasDiscoveries::AllOf([property].into());
    let checker = Moves { rules, ..BOUNDS }.checker().threads(2).finish_when(enough).spawn_bfs().join();
    let found = checker.discovery(property);
    println!(
        "{} states: {}",
        checker.unique_state_count(),
        found.as_ref().map_or("nothing".into(), ToString::to_string)
    );
    found.is_some()
}

/// A write that is proposed before the freeze and applied after it would be acknowledged and lost.
#[test]
fn without_the_epoch_check_at_apply_writes_are_lost() {
    assert!(breaks(Rules { epoch_at_apply: false, ..Rules::ALL }, invariants::NOTHING_LOST));
}

/// A late order of a move that is over would stop writes for nothing.
#[test]
fn without_the_look_up_a_late_freeze_stops_writes() {
    assert!(breaks(Rules { look_up_before_freeze: false, ..Rules::ALL }, invariants::NO_NEEDLESS_FREEZE));
}

/// A source that thaws by itself serves beside the destination.
#[test]
fn without_the_thaw_rule_two_shards_serve() {
    let rules = Rules { thaw_by_look_up: false, ..Rules::ALL };
    assert!(breaks(rules, invariants::ONE_OWNER));
    assert!(breaks(rules, invariants::NOTHING_LOST));
}

/// A commit by a deposed reconciler, after the abort, gives away what the source has gone on writing.
#[test]
fn without_the_compare_and_set_an_aborted_move_commits() {
    let rules = Rules { compare_and_set_of_committed: false, ..Rules::ALL };
    assert!(breaks(rules, invariants::ONE_OWNER));
    assert!(breaks(rules, invariants::NOTHING_LOST));
}

/// A row that is deleted while it is copied stays at the destination: the hashes differ, and the move can never commit.
#[test]
fn without_tombstones_a_deletion_keeps_a_move_from_its_end() {
    let possible = |rules| {
        let bounds = Moves { rules, moves: 1, ..BOUNDS };
        bounds.checker().threads(2).spawn_bfs().join().discovery(invariants::DELETED_MEANWHILE).is_some()
    };
    assert!(possible(Rules::ALL));
    assert!(!possible(Rules { tombstones_in_deltas: false, ..Rules::ALL }));
}
