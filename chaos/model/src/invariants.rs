//! What must hold at every moment (DESIGN section 4), and what must be possible at all.

use stateright::{Model, Property};

use crate::{
    message::Data,
    placement::Record,
    shard::Owner,
    system::{Moves, System},
};

/// Two shards never serve the tenant at the same time.
pub const ONE_OWNER: &str = "one active owner";
/// What was acknowledged is at the owner, and at whoever serves.
pub const NOTHING_LOST: &str = "no acknowledged write lost";
/// A write repeated under its key has one effect.
pub const ONE_EFFECT: &str = "one effect for each key";
/// Whoever tells watchers has a history with which the owner's begins: one sequence, wherever one is pinned.
pub const EXACT_WATCH: &str = "the watcher sees exactly the sequence";
/// After a move nothing of the tenant is left elsewhere.
pub const NOTHING_LEFT: &str = "nothing left at the source";
/// No write waits for a move that is over.
pub const NO_NEEDLESS_FREEZE: &str = "no freeze without a move";
/// Where nothing can happen any more, the move is over, and every write acknowledged.
pub const ENDS: &str = "a move ends by itself";
/// The tenant got there and back.
pub const THERE_AND_BACK: &str = "two moves commit";
/// An aborted move is followed by one that commits.
pub const AFTER_ABORT: &str = "a move commits after an aborted one";
/// A row that was deleted after it had been copied does not keep a move from its end.
pub const DELETED_MEANWHILE: &str = "a move with a deletion meanwhile commits";

/// All of them.
pub fn all() -> Vec<Property<Moves>> {
    vec![
        Property::always(ONE_OWNER, |_, s: &System| s.shards.iter().filter(|shard| serves(&shard.owner)).count() <= 1),
        Property::always(NOTHING_LOST, |_, s: &System| {
            let has = |data: &Data| (1..=s.acknowledged).all(|write| data.history.contains(&write));
            has(s.owned()) && s.shards.iter().all(|shard| !serves(&shard.owner) || has(&shard.data))
        }),
        Property::always(ONE_EFFECT, |_, s: &System| {
            s.shards.iter().all(|shard| {
                let history = &shard.data.history;
                history.iter().enumerate().all(|(i, write)| !history[..i].contains(write))
            })
        }),
        Property::always(EXACT_WATCH, |_, s: &System| {
            let tells = |owner: &Owner| matches!(owner, Owner::Active { .. } | Owner::Frozen { .. });
            s.shards.iter().all(|shard| !tells(&shard.owner) || s.owned().history.starts_with(&shard.data.history))
        }),
        Property::always(NOTHING_LEFT, |_, s: &System| match s.placement.record {
            Record::Stable { shard, .. } => {
                let other = &s.shards[1 - shard];
                other.data == Data::default() && matches!(other.owner, Owner::Absent | Owner::Moved { .. })
            }
            _ => true,
        }),
        Property::always(NO_NEEDLESS_FREEZE, |_, s: &System| !s.needless_freeze),
        Property::always(ENDS, |model: &Moves, s: &System| settled(model, s) || !model.next_states(s).is_empty()),
        Property::sometimes(THERE_AND_BACK, |_, s: &System| {
            matches!(s.placement.record, Record::Stable { shard: 0, .. })
                && s.placement.moves.len() == 2
                && epoch(s) > 2
        }),
        Property::sometimes(AFTER_ABORT, |model: &Moves, s: &System| {
            matches!(s.placement.record, Record::Stable { shard: 1, .. })
                && s.aborts < model.aborts
                && s.placement.moves.len() == 2
        }),
        Property::sometimes(DELETED_MEANWHILE, |_, s: &System| {
            s.deleted_after_copy && s.placement.moves.len() == 1 && matches!(s.placement.record, Record::Committed(_))
        }),
    ]
}

fn serves(owner: &Owner) -> bool {
    matches!(owner, Owner::Active { .. })
}

fn epoch(s: &System) -> u8 {
    s.placement.owner().1
}

fn settled(model: &Moves, s: &System) -> bool {
    let stable = matches!(s.placement.record, Record::Stable { .. }) && s.placement.moves.len() == model.moves;
    stable && s.acknowledged == model.writes + 1
}
