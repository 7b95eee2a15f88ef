//! What a shard logs when it has looked a tenant up: pure.
//!
//! Placement's record decides; the shard's own state says what is left to do. Whatever the record does not ask for is undone,
//! so that no message need arrive (docs/adr/0003-moves.md).

use conflux_common::ids::{Epoch, GroupName};
use conflux_proto::{
    internal::{Move, MovePhase, TenantRecord, TenantState as Placed},
    log::{self, shard_command::Op},
};

use super::Standing;
use crate::machine::TenantState;

/// What is to be done about a tenant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// The shard's state is what placement's record says.
    Follows,
    /// Placement does not give it to this shard.
    NotHere,
    /// This must be logged under this epoch.
    Log(Epoch, Box<Op>),
}

/// The command's name in logs and failpoints.
pub(super) fn name(op: &Op) -> &'static str {
    match op {
        Op::Activate(_) => "activate",
        Op::DeleteTenant(_) => "delete",
        Op::Track(_) => "track",
        Op::Freeze(_) => "freeze",
        Op::Depart(_) => "depart",
        Op::BeginImport(_) => "begin_import",
        Op::TakeOver(_) => "take_over",
        Op::EndMove(_) => "end_move",
        _ => "other",
    }
}

/// Placement's record against the shard's own state.
pub(super) fn step(record: Option<TenantRecord>, group: &GroupName, own: Standing) -> Step {
    match record {
        Some(record) if record.shard == group.as_str() => owner(record, own),
        record => other(record, group, own),
    }
}

/// The record gives the tenant to this shard.
fn owner(record: TenantRecord, own: Standing) -> Step {
    let epoch = Epoch(record.epoch);
    match (record.state(), own.state) {
        // Whether this copy is the one to serve is for `restored.rs` to say.
        (Placed::Creating | Placed::Stable, Some(TenantState::Active)) if own.restored => Step::NotHere,
        // What was copied for this very epoch is served under it: the move is committed. Its epoch is the move's own, so that
        // no other record can have it.
        (Placed::Stable, Some(TenantState::Prepared)) if own.epoch == epoch => {
            log(epoch, Op::TakeOver(log::TakeOver { r#move: own.move_id }))
        }
        // The record is older than what was logged here: never go back.
        (_, Some(_)) if own.epoch > epoch => Step::Follows,
        (Placed::Stable, Some(TenantState::Frozen)) if own.epoch == epoch => match record.r#move {
            Some(under_way) if is_in(&under_way, own.move_id, &[MovePhase::Preparing, MovePhase::Freezing]) => {
                Step::Follows
            }
            // The one rule by which a tenant thaws.
            _ => log(epoch, end(own.move_id)),
        },
        (Placed::Stable, Some(TenantState::Active)) if own.epoch == epoch => active(record, own),
        (Placed::Creating, None) | (Placed::Creating, Some(TenantState::Active)) => {
            if own.epoch == epoch && own.settings_seq >= record.settings_seq {
                return Step::Follows;
            }
            log(epoch, activate(record))
        }
        (Placed::Deleting, Some(TenantState::Deleting | TenantState::Deleted)) if own.epoch == epoch => Step::Follows,
        (Placed::Deleting, _) => log(epoch, Op::DeleteTenant(log::DeleteTenant {})),
        // Placement says that it is served here, and it is not: a disk was lost, or an old copy came back. To begin anew would
        // be to lose it silently.
        _ => Step::NotHere,
    }
}

/// Served here, under the epoch of the record.
fn active(record: TenantRecord, own: Standing) -> Step {
    let epoch = Epoch(record.epoch);
    if own.settings_seq < record.settings_seq {
        return log(epoch, activate(record));
    }
    let Some(under_way) = record.r#move else {
        // Nobody copies it any more.
        return if own.tracked_move == 0 { Step::Follows } else { log(epoch, end(own.tracked_move)) };
    };
    let id = under_way.id;
    match under_way.phase() {
        _ if id <= own.ended_move => Step::Follows,
        MovePhase::Preparing if own.tracked_move != id => {
            log(epoch, Op::Track(log::Track { r#move: id, to: under_way.to }))
        }
        MovePhase::Freezing if own.tracked_move == id => log(epoch, Op::Freeze(log::Freeze { r#move: id })),
        MovePhase::Aborted => log(epoch, end(id)),
        _ => Step::Follows,
    }
}

/// The record gives the tenant to another shard, or there is none.
fn other(record: Option<TenantRecord>, group: &GroupName, own: Standing) -> Step {
    let under_way = record.as_ref().and_then(|r| r.r#move.clone()).filter(|m| m.to == group.as_str());
    match own.state {
        Some(TenantState::Frozen) => match record {
            Some(record) if record.epoch > own.epoch.0 => {
                let depart = log::Depart { r#move: own.move_id, to: record.shard, new_epoch: record.epoch };
                log(own.epoch, Op::Depart(depart))
            }
            _ => Step::Follows,
        },
        Some(TenantState::Importing | TenantState::Prepared) => match under_way {
            Some(m) if is_in(&m, own.move_id, &[MovePhase::Preparing, MovePhase::Freezing]) => Step::Follows,
            _ => log(own.epoch, end(own.move_id)),
        },
        None | Some(TenantState::Moved | TenantState::Absent) => match under_way.filter(|m| m.id > own.ended_move) {
            Some(m) if m.phase() == MovePhase::Aborted => log(Epoch(m.to_epoch), end(m.id)),
            Some(m) if matches!(m.phase(), MovePhase::Preparing | MovePhase::Freezing) => match own.rows {
                0 => log(Epoch(m.to_epoch), Op::BeginImport(log::BeginImport { r#move: m.id, name: m.tenant })),
                // What is left of an earlier stay goes first.
                _ => Step::Follows,
            },
            _ => Step::NotHere,
        },
        Some(TenantState::Active | TenantState::Deleting | TenantState::Deleted) => Step::NotHere,
    }
}

fn is_in(under_way: &Move, id: u64, phases: &[MovePhase]) -> bool {
    under_way.id == id && phases.contains(&under_way.phase())
}

fn log(epoch: Epoch, op: Op) -> Step {
    Step::Log(epoch, Box::new(op))
}

fn end(id: u64) -> Op {
    Op::EndMove(log::EndMove { r#move: id })
}

fn activate(record: TenantRecord) -> Op {
    Op::Activate(log::Activate {
        name: record.name,
        incarnation: record.incarnation,
        quotas: record.quotas,
        settings_seq: record.settings_seq,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: Placed, epoch: u64) -> Option<TenantRecord> {
        let mut record = TenantRecord {
            id: 1,
            name: "acme".into(),
            incarnation: 1,
            shard: "shard-a".into(),
            epoch,
            ..Default::default()
        };
        record.set_state(state);
        Some(record)
    }

    fn own(state: Option<TenantState>, epoch: u64) -> Standing {
        Standing { state, epoch: Epoch(epoch), ..Default::default() }
    }

    /// The table of ADR 1: each record against each state of the shard.
    #[test]
    fn the_shard_follows_the_record_and_never_goes_back() {
        let group: GroupName = "shard-a".parse().unwrap();
        let activate =
            Box::new(Op::Activate(log::Activate { name: "acme".into(), incarnation: 1, ..Default::default() }));
        let delete = Box::new(Op::DeleteTenant(log::DeleteTenant {}));
        let nothing = own(None, 0);
        let active = own(Some(TenantState::Active), 1);
        assert_eq!(step(record(Placed::Creating, 1), &group, nothing), Step::Log(Epoch(1), activate));
        assert_eq!(step(record(Placed::Creating, 1), &group, active), Step::Follows);
        assert_eq!(step(record(Placed::Stable, 1), &group, active), Step::Follows);
        // A tenant that was served here and is not known any more must not begin anew, empty.
        assert_eq!(step(record(Placed::Stable, 1), &group, nothing), Step::NotHere);
        assert_eq!(step(record(Placed::Stable, 2), &group, active), Step::NotHere);
        let restored = Standing { restored: true, ..active };
        let raised = record(Placed::Stable, 1).map(|r| TenantRecord { settings_seq: 2, ..r });
        assert_eq!(step(raised, &group, restored), Step::NotHere);
        assert_eq!(step(record(Placed::Deleting, 2), &group, active), Step::Log(Epoch(2), delete.clone()));
        assert_eq!(step(record(Placed::Deleting, 2), &group, nothing), Step::Log(Epoch(2), delete));
        for gone in [TenantState::Deleting, TenantState::Deleted] {
            assert_eq!(step(record(Placed::Deleting, 2), &group, own(Some(gone), 2)), Step::Follows);
            assert_eq!(step(record(Placed::Stable, 1), &group, own(Some(gone), 2)), Step::Follows, "an old record");
        }
        let newer = record(Placed::Stable, 1).map(|r| TenantRecord { settings_seq: 2, ..r });
        let settings = Box::new(Op::Activate(log::Activate {
            name: "acme".into(),
            incarnation: 1,
            settings_seq: 2,
            ..Default::default()
        }));
        assert_eq!(step(newer.clone(), &group, active), Step::Log(Epoch(1), settings), "an operator raised a quota");
        assert_eq!(step(newer, &group, Standing { settings_seq: 2, ..active }), Step::Follows);
        assert_eq!(step(record(Placed::Stable, 1), &"shard-b".parse().unwrap(), nothing), Step::NotHere);
        assert_eq!(step(record(Placed::Gone, 2), &group, nothing), Step::NotHere);
        assert_eq!(step(None, &group, nothing), Step::NotHere);
    }

    const A: &str = "shard-a";
    const B: &str = "shard-b";

    /// A record of the tenant while move 5 takes it from A (epoch 1) to B (epoch 3).
    fn moving(phase: MovePhase) -> Option<TenantRecord> {
        let committed = matches!(phase, MovePhase::Committed | MovePhase::Cleaning);
        let mut record = record(Placed::Stable, if committed { 3 } else { 1 })?;
        record.shard = if committed { B.into() } else { A.into() };
        record.r#move = Some(Move {
            id: 5,
            tenant: "acme".into(),
            from: A.into(),
            to: B.into(),
            from_epoch: 1,
            to_epoch: 3,
            phase: phase.into(),
            ..Default::default()
        });
        Some(record)
    }

    const PHASES: [MovePhase; 5] =
        [MovePhase::Preparing, MovePhase::Freezing, MovePhase::Aborted, MovePhase::Committed, MovePhase::Cleaning];

    /// What is logged in each phase of the move, and without it: its name, `-` for nothing.
    fn row(group: &str, own: Standing) -> String {
        let group: GroupName = group.parse().unwrap();
        let said = |record| match step(record, &group, own) {
            Step::Log(_, op) => name(&op),
            Step::Follows => "-",
            Step::NotHere => "not here",
        };
        let phases = PHASES.map(|phase| said(moving(phase)));
        format!("{} | {}", phases.join(", "), said(record(Placed::Stable, 1)))
    }

    /// The tables of ADR 3: what the source does in Preparing, Freezing, Aborted, Committed, Cleaning, and when there is no move.
    #[test]
    fn the_source_follows_the_move() {
        let active = own(Some(TenantState::Active), 1);
        let tracked = Standing { tracked_move: 5, ..active };
        let frozen = Standing { state: Some(TenantState::Frozen), move_id: 5, ..tracked };
        assert_eq!(row(A, active), "track, -, end_move, not here, not here | -");
        assert_eq!(row(A, tracked), "-, freeze, end_move, not here, not here | end_move");
        // The thaw rule: Freezing of this move waits, Stable thaws, a higher epoch departs.
        assert_eq!(row(A, frozen), "-, -, end_move, depart, depart | end_move");
        let ended = Standing { ended_move: 5, ..active };
        assert_eq!(row(A, ended), "-, -, -, not here, not here | -", "late orders of a move that has ended here");
        let moved = Standing { state: Some(TenantState::Moved), ended_move: 5, ..own(None, 3) };
        assert_eq!(row(A, moved), "-, -, -, not here, not here | -", "an old record");
        // Frozen by a move of which placement knows nothing any more, and by one that it has followed by another.
        let other = Standing { move_id: 4, tracked_move: 4, ..frozen };
        assert_eq!(row(A, other), "end_move, end_move, end_move, depart, depart | end_move");
    }

    /// The same for the destination.
    #[test]
    fn the_destination_follows_the_move() {
        let nothing = own(None, 0);
        let importing = Standing { move_id: 5, ..own(Some(TenantState::Importing), 3) };
        let prepared = Standing { state: Some(TenantState::Prepared), ..importing };
        let no_move = "not here";
        assert_eq!(row(B, nothing), format!("begin_import, begin_import, end_move, not here, not here | {no_move}"));
        assert_eq!(row(B, importing), "-, -, end_move, not here, not here | end_move");
        assert_eq!(row(B, prepared), "-, -, end_move, take_over, take_over | end_move");
        // What is left of an earlier stay goes first; an ended move does not come back.
        let moved = Standing { rows: 9, ..own(Some(TenantState::Moved), 1) };
        assert_eq!(row(B, moved), "-, -, end_move, not here, not here | not here");
        let ended = Standing { ended_move: 5, ..own(Some(TenantState::Absent), 0) };
        assert_eq!(row(B, ended), "not here, not here, not here, not here, not here | not here");
        let active = Standing { ended_move: 5, ..own(Some(TenantState::Active), 3) };
        assert_eq!(row(B, active), "not here, not here, not here, -, - | not here");
    }
}
