//! Moves in placement's record (docs/adr/0003-moves.md).

use conflux_proto::{
    internal::{Move, MovePhase},
    log::{AdvanceMove, CancelMove, StartMove},
};

use super::*;

fn start(tenant: &str, to: &str) -> Op {
    Op::StartMove(StartMove { tenant: tenant.into(), to: to.into() })
}

pub(super) fn advance_move(m: &Move, from: MovePhase, to: MovePhase) -> Op {
    Op::AdvanceMove(AdvanceMove {
        tenant_id: m.tenant_id,
        r#move: m.id,
        from: from.into(),
        to: to.into(),
        reason: "the disk is full".into(),
        bytes: 1000,
        pause_ms: 40,
    })
}

fn cancel(id: u64) -> Op {
    Op::CancelMove(CancelMove { r#move: id, reason: "by ops".into() })
}

impl Machine {
    /// With a stable tenant `acme` on `shard-a`.
    fn with_acme() -> (Self, TenantRecord) {
        let mut machine = Self::new();
        let create = CreateTenant { name: "acme".into(), shard: "shard-a".into(), ..Default::default() };
        let made = machine.tenant(Op::CreateTenant(create));
        let stable = machine.advance(&made, TenantState::Creating, TenantState::Stable);
        (machine, stable)
    }

    fn a_move(&mut self, op: Op) -> Move {
        match self.ok(op) {
            Answer::Move(m) => m,
            answer => panic!("no move: {answer:?}"),
        }
    }

    fn walk(&mut self, m: &Move, phases: &[MovePhase]) -> Move {
        let mut now = m.clone();
        for to in phases {
            now = self.a_move(advance_move(&now, now.phase(), *to));
        }
        now
    }

    fn record(&self, id: u64) -> TenantRecord {
        self.0.read(|view| tenants::by_id(view, id)).unwrap().unwrap()
    }

    fn pending(&self, id: u64) -> bool {
        self.0.read(|view| exists(view, &Key::Pending(id))).unwrap()
    }
}

use MovePhase::{Aborted, Cleaning, Committed, Done, Freezing, GivenUp, Preparing};

/// The way of a move as everybody sees it: the owner changes in one step, and nothing of the move is left in the record at its end.
#[test]
fn a_tenant_moves() {
    let (mut machine, acme) = Machine::with_acme();
    let command =
        PlacementCommand { principal: "operator:ops".into(), op: Some(start("acme", "shard-b")), ..Default::default() };
    let Some(Answer::Move(m)) = machine.send(NOW, command).answer.result else { panic!("no move") };
    assert_eq!((m.id, m.tenant_id, m.from.as_str(), m.to.as_str()), (1, acme.id, "shard-a", "shard-b"));
    assert_eq!((m.from_epoch, m.to_epoch, m.phase(), m.started_ms), (1, 2, Preparing, NOW));
    assert_eq!(m.principal, "operator:ops");
    assert!(machine.pending(acme.id));
    machine.walk(&m, &[Freezing]);
    let before = machine.record(acme.id);
    assert_eq!((before.shard.as_str(), before.epoch, before.state()), ("shard-a", 1, TenantState::Stable));
    let m = machine.a_move(advance_move(&m, Freezing, Committed));
    assert_eq!((m.bytes, m.pause_ms), (1000, 40));
    let after = machine.record(acme.id);
    assert_eq!((after.shard.as_str(), after.epoch, after.last_epoch), ("shard-b", 2, 2));
    let m = machine.walk(&m, &[Cleaning, Done]);
    assert_eq!((m.phase(), m.ended_ms), (Done, NOW));
    let end = machine.record(acme.id);
    assert_eq!((end.r#move, end.shard.as_str()), (None, "shard-b"));
    assert!(!machine.pending(acme.id));
    assert_eq!(machine.0.read(|view| machine::moves::all(view)).unwrap(), [m]);
    // Each phase went out to whoever follows.
    let (_, last) = machine.frames().pop().unwrap();
    assert!(matches!(&last.changes[0].change, Some(change::Change::Tenant(t)) if t.r#move.is_none()));
}

/// A late or repeated message, of this move or an earlier one, must find nothing that it fits.
#[test]
fn steps_are_compare_and_set() {
    let (mut machine, _) = Machine::with_acme();
    let m = machine.a_move(start("acme", "shard-b"));
    let all = [Preparing, Freezing, Committed, Cleaning, Aborted, Done, GivenUp];
    for from in all {
        for to in all {
            let op = advance_move(&m, from, to);
            let allowed = matches!((from, to), (Preparing, Freezing | Aborted));
            if !allowed {
                assert!(
                    ["ABORTED", "INVALID_ARGUMENT"].contains(&machine.refused(op).code.as_str()),
                    "{from:?} {to:?}"
                );
            }
        }
    }
    let freezing = machine.walk(&m, &[Freezing]);
    assert_eq!(machine.refused(advance_move(&m, Preparing, Freezing)).code, "ABORTED");
    machine.walk(&freezing, &[Aborted]);
    // The reconciler that was deposed amid the freeze has heard that the destination is ready.
    assert_eq!(machine.refused(advance_move(&m, Freezing, Committed)).code, "ABORTED");
    let stranger = Move { id: 9, ..m.clone() };
    assert_eq!(machine.refused(advance_move(&stranger, Aborted, GivenUp)).code, "ABORTED");
    machine.walk(&Move { phase: Aborted.into(), ..m.clone() }, &[GivenUp]);
    let second = machine.a_move(start("acme", "shard-b"));
    assert_eq!(machine.refused(advance_move(&m, Preparing, Freezing)).code, "ABORTED");
    assert_eq!((second.id, second.to_epoch), (2, 3), "an aborted move has burnt its epoch");
}

/// What is deleted after an aborted move must not get the epoch that the move had.
#[test]
fn a_burnt_epoch_is_never_given_again() {
    let (mut machine, acme) = Machine::with_acme();
    let m = machine.a_move(start("acme", "shard-b"));
    let why = machine.refused(delete("acme"));
    assert_eq!(why.code, "FAILED_PRECONDITION");
    assert!(why.message.contains("cancel it"), "{}", why.message);
    let aborted = machine.a_move(cancel(m.id));
    assert_eq!((aborted.phase(), aborted.reason.as_str()), (Aborted, "by ops"));
    assert_eq!(machine.a_move(cancel(m.id)), aborted, "the same again");
    assert_eq!(machine.refused(delete("acme")).code, "FAILED_PRECONDITION");
    machine.walk(&aborted, &[GivenUp]);
    assert_eq!((machine.record(acme.id).epoch, machine.record(acme.id).shard.as_str()), (1, "shard-a"));
    assert_eq!(machine.a_move(cancel(m.id)).phase(), GivenUp);
    let deleting = machine.tenant(delete("acme"));
    assert_eq!((deleting.epoch, deleting.last_epoch), (3, 3));
}

/// An operator hears why, and the same call again begins no second move.
#[test]
fn moves_are_refused_with_the_reason() {
    let (mut machine, _) = Machine::with_acme();
    machine.ok(Op::ReportGroup(group("shard-c", 1)));
    assert_eq!(machine.refused(start("nobody", "shard-b")).code, "NOT_FOUND");
    assert_eq!(machine.refused(start("acme", "shard-z")).field, "to");
    assert!(machine.refused(start("acme", "shard-a")).message.contains("already"));
    let mut learners = group("shard-d", 1);
    learners.members.iter_mut().for_each(|m| m.voter = false);
    machine.ok(Op::ReportGroup(learners));
    assert!(machine.refused(start("acme", "shard-d")).message.contains("voters"));
    machine.ok(create("young"));
    assert!(machine.refused(start("young", "shard-c")).message.contains("created"));
    let m = machine.a_move(start("acme", "shard-b"));
    assert_eq!(machine.a_move(start("acme", "shard-b")), m);
    let other = machine.refused(start("acme", "shard-c"));
    assert!(other.code == "FAILED_PRECONDITION" && other.message.contains("move 1"), "{other:?}");
    assert_eq!(machine.refused(cancel(7)).code, "NOT_FOUND");
    let m = machine.walk(&m, &[Freezing, Committed]);
    assert!(machine.refused(cancel(m.id)).message.contains("moved back"));
    let m = machine.walk(&m, &[Cleaning, Done]);
    assert!(machine.refused(cancel(m.id)).message.contains("moved back"));
    // Back again, which is another move under another epoch.
    let back = machine.a_move(start("acme", "shard-a"));
    assert_eq!((back.id, back.from_epoch, back.to_epoch), (2, 2, 3));
}

/// Quotas that are set while a tenant moves must reach the shard that has it in the end.
#[test]
fn settings_outlast_a_move() {
    let (mut machine, acme) = Machine::with_acme();
    let m = machine.a_move(start("acme", "shard-b"));
    let quotas = Some(v1::Quotas { configs: 5, ..Default::default() });
    machine.ok(Op::SetQuotas(SetQuotas { tenant: "acme".into(), quotas }));
    let confirm = Op::ConfirmSettings(ConfirmSettings { id: acme.id, settings_seq: 1 });
    let m = machine.walk(&m, &[Freezing, Committed, Cleaning]);
    machine.walk(&m, &[Done]);
    assert!(machine.pending(acme.id), "the shard has not confirmed them");
    machine.ok(confirm.clone());
    assert!(!machine.pending(acme.id));
    // Confirmed amid a move, they do not end the reconciler's work.
    machine.ok(Op::SetQuotas(SetQuotas { tenant: "acme".into(), quotas: None }));
    machine.ok(start("acme", "shard-a"));
    machine.ok(Op::ConfirmSettings(ConfirmSettings { id: acme.id, settings_seq: 2 }));
    assert!(machine.pending(acme.id));
}

/// The list of moves is bounded at both ends: the oldest ended are forgotten, and too many at once are refused.
#[test]
fn the_list_of_moves_is_bounded() {
    let (mut machine, _) = Machine::with_acme();
    let last = machine::moves::KEPT as u64 + 3;
    for _ in 0..last {
        let m = machine.a_move(start("acme", "shard-b"));
        machine.walk(&m, &[Aborted, GivenUp]);
    }
    let known = machine.0.read(|view| machine::moves::all(view)).unwrap();
    assert_eq!((known.len(), known[0].id, known[known.len() - 1].id), (machine::moves::KEPT, last, 4));
    for n in 0..machine::moves::MAX_UNDER_WAY {
        let create = CreateTenant { name: format!("t{n}"), shard: "shard-a".into(), ..Default::default() };
        let made = machine.tenant(Op::CreateTenant(create));
        machine.advance(&made, TenantState::Creating, TenantState::Stable);
        machine.ok(start(&made.name, "shard-b"));
    }
    assert_eq!(machine.refused(start("acme", "shard-b")).code, "RESOURCE_EXHAUSTED");
}
