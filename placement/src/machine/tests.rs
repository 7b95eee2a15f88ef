//! The machine on rows in memory. Every command is followed by the invariants.

use conflux_proto::{
    internal::{GroupMember, GroupRecord, KeyRecord, MovePhase, RoleName, RoleRecord, TenantRecord, TenantState},
    log::{
        AdvanceMove, AdvanceTenant, CancelMove, ConfirmSettings, CreateTenant, DeleteTenantRecord, SetQuotas,
        SetShardWeight, StartMove,
    },
    store, v1,
};
use conflux_raft::{Read, view::MemoryState};
use proptest::prelude::*;

use super::*;
use crate::{
    invariants, machine,
    store::{
        Family, Key,
        rows::{counters, exists, list_keys},
    },
};

mod keys_and_roles;
mod moves;
mod repeats;

const NOW: u64 = 1_700_000_000_000;

struct Machine(MemoryState);

impl Machine {
    /// With two shards that have reported.
    fn new() -> Self {
        let mut machine = Self(MemoryState::new());
        machine.ok(Op::ReportGroup(group("shard-a", 1)));
        machine.ok(Op::ReportGroup(group("shard-b", 1)));
        machine
    }

    fn send(&mut self, now_ms: u64, command: PlacementCommand) -> Applied {
        self.0.apply(|tx| {
            let applied = apply(tx, now_ms, command).unwrap();
            invariants::check(tx).unwrap();
            if matches!(applied.answer.result, Some(Answer::Refusal(_))) {
                let left: Vec<_> = tx.touched().filter_map(|(k, _)| Key::decode(k)).map(|k| k.family()).collect();
                let remembered = [Family::Counters, Family::Answer, Family::AnswerExpiry];
                assert!(left.iter().all(|f| remembered.contains(f)), "a refusal wrote {left:?}");
            }
            applied
        })
    }

    fn run(&mut self, op: Op) -> Applied {
        self.send(NOW, PlacementCommand { op: Some(op), ..Default::default() })
    }

    fn ok(&mut self, op: Op) -> Answer {
        match self.run(op).answer.result.unwrap() {
            Answer::Refusal(why) => panic!("refused: {why:?}"),
            answer => answer,
        }
    }

    fn refused(&mut self, op: Op) -> PlacementRefusal {
        match self.run(op).answer.result.unwrap() {
            Answer::Refusal(why) => why,
            answer => panic!("not refused: {answer:?}"),
        }
    }

    fn tenant(&mut self, op: Op) -> TenantRecord {
        match self.ok(op) {
            Answer::Tenant(tenant) => tenant,
            answer => panic!("no tenant: {answer:?}"),
        }
    }

    fn advance(&mut self, tenant: &TenantRecord, from: TenantState, to: TenantState) -> TenantRecord {
        self.tenant(advance(tenant, from, to))
    }

    fn frames(&self) -> Vec<(u64, store::ChangeFrame)> {
        match self.0.read(|view| history::after(view, 0, usize::MAX)).unwrap() {
            history::Stretch::Frames(frames) => frames,
            history::Stretch::Gone => panic!("gone"),
        }
    }
}

fn group(name: &str, log_index: u64) -> GroupRecord {
    let member = |n: u64| GroupMember {
        node_id: n,
        name: format!("{name}-{n}"),
        service_address: format!("127.0.0.1:{n}"),
        voter: true,
    };
    GroupRecord {
        name: name.into(),
        log_index,
        members: vec![member(1), member(2)],
        weight: 100,
        leader: 1,
        ..Default::default()
    }
}

fn create(name: &str) -> Op {
    Op::CreateTenant(CreateTenant { name: name.into(), ..Default::default() })
}

fn delete(name: &str) -> Op {
    Op::DeleteTenant(DeleteTenantRecord { name: name.into() })
}

fn advance(tenant: &TenantRecord, from: TenantState, to: TenantState) -> Op {
    Op::AdvanceTenant(AdvanceTenant { id: tenant.id, epoch: tenant.epoch, from: from.into(), to: to.into() })
}

fn key(n: u8, tenant: &str, role: &str) -> KeyRecord {
    let id = format!("abcdefghijklmno{}", char::from(b'a' + n));
    KeyRecord {
        id,
        secret_hash: vec![n; 32].into(),
        tenant: tenant.into(),
        roles: vec![role.into()],
        ..Default::default()
    }
}

fn role(tenant: &str, name: &str) -> RoleRecord {
    let grant = conflux_proto::internal::Grant { action: "read".into(), pattern: "shop/*/*".into() };
    RoleRecord { tenant: tenant.into(), name: name.into(), grants: vec![grant] }
}

fn keyed(op: Op, principal: &str, key: &str, body: &str) -> PlacementCommand {
    PlacementCommand {
        principal: principal.into(),
        idempotency_key: key.into(),
        fingerprint: body.to_owned().into(),
        op: Some(op),
        ..Default::default()
    }
}

/// The life of a tenant as an operator sees it, and what is left at its end.
#[test]
fn a_tenant_lives_and_goes() {
    let mut machine = Machine::new();
    let made = machine.tenant(create("Acme"));
    assert_eq!((made.id, made.epoch, made.incarnation, made.state()), (1, 1, 1, TenantState::Creating));
    assert_eq!(made.created_ms, NOW);
    let stable = machine.advance(&made, TenantState::Creating, TenantState::Stable);
    assert_eq!(stable.state(), TenantState::Stable);
    let deleting = machine.tenant(delete("Acme"));
    assert_eq!((deleting.epoch, deleting.state()), (2, TenantState::Deleting));
    // The name is still taken.
    assert_eq!(machine.refused(create("acme")).code, "ALREADY_EXISTS");
    machine.advance(&deleting, TenantState::Deleting, TenantState::Gone);
    let rows = machine.0.read(|view| list_keys(view, (&[Family::Tenant as u8], &[Family::Group as u8]), 99)).unwrap();
    assert_eq!(rows, [Key::Tombstone(1)]);
    let gone = machine.0.read(|view| tenants::by_id_or_gone(view, 1)).unwrap().unwrap();
    assert_eq!((gone.epoch, gone.state()), (2, TenantState::Gone));
    // Free again, under a new id.
    assert_eq!(machine.tenant(create("acme")).id, 2);
}

/// A late message of the reconciler must never undo what happened since.
#[test]
fn advancing_is_a_compare_and_set() {
    let mut machine = Machine::new();
    let made = machine.tenant(create("acme"));
    let deleting = machine.tenant(delete("acme"));
    assert_eq!(machine.refused(advance(&made, TenantState::Creating, TenantState::Stable)).code, "ABORTED");
    assert_eq!(machine.refused(advance(&made, TenantState::Deleting, TenantState::Gone)).code, "ABORTED");
    let wrong = machine.refused(advance(&deleting, TenantState::Deleting, TenantState::Stable));
    assert_eq!(wrong.code, "INVALID_ARGUMENT");
    let other = TenantRecord { id: 99, ..deleting };
    assert_eq!(machine.refused(advance(&other, TenantState::Deleting, TenantState::Gone)).code, "ABORTED");
}

/// Names are checked where they enter the federation, since every part trusts them afterwards.
#[test]
fn names_are_checked() {
    let mut machine = Machine::new();
    for bad in ["", "a b", "admin", "Configs", "../x"] {
        let why = machine.refused(create(bad));
        assert_eq!((why.code.as_str(), why.field.as_str()), ("INVALID_ARGUMENT", "name"), "{bad:?}");
    }
    machine.ok(create("Acme"));
    let why = machine.refused(create("aCME"));
    assert_eq!(why.code, "ALREADY_EXISTS");
    assert!(why.message.contains("case"), "{}", why.message);
    assert_eq!(machine.refused(delete("ACME")).code, "NOT_FOUND");
}

/// Placement obeys weights and an operator's explicit choice, and refuses rather than guesses.
#[test]
fn tenants_are_placed() {
    let mut machine = Machine(MemoryState::new());
    assert_eq!(machine.refused(create("t0")).code, "UNAVAILABLE");
    machine.ok(Op::ReportGroup(group("shard-a", 1)));
    machine.ok(Op::ReportGroup(group("shard-b", 1)));
    let set = |weight| Op::SetShardWeight(SetShardWeight { shard: "shard-a".into(), weight });
    machine.ok(set(0));
    for n in 0..20 {
        assert_eq!(machine.tenant(create(&format!("t{n}"))).shard, "shard-b");
    }
    let chosen = Op::CreateTenant(CreateTenant { name: "here".into(), shard: "shard-a".into(), ..Default::default() });
    assert_eq!(machine.tenant(chosen).shard, "shard-a");
    let nowhere = Op::CreateTenant(CreateTenant { name: "x".into(), shard: "shard-z".into(), ..Default::default() });
    assert_eq!(machine.refused(nowhere).field, "shard");
    machine.ok(set(100));
    let shards: Vec<_> = (0..40).map(|n| machine.tenant(create(&format!("u{n}"))).shard).collect();
    assert!(shards.iter().any(|s| s == "shard-a") && shards.iter().any(|s| s == "shard-b"));
}

/// Reports come late, twice and from deposed leaders; an operator's weight survives them all.
#[test]
fn newer_reports_win() {
    let mut machine = Machine::new();
    let known = |machine: &Machine| machine.0.read(|view| groups::by_name(view, "shard-a")).unwrap().unwrap();
    assert_eq!(known(&machine).weight, 100);
    machine.ok(Op::ReportGroup(GroupRecord { weight: 0, ..group("shard-c", 1) }));
    let weight = machine.0.read(|view| groups::by_name(view, "shard-c")).unwrap().unwrap().weight;
    assert_eq!(weight, groups::DEFAULT_WEIGHT);
    machine.ok(Op::SetShardWeight(SetShardWeight { shard: "shard-a".into(), weight: 3 }));
    let newer = GroupRecord { leader: 2, ..group("shard-a", 9) };
    assert!(machine.run(Op::ReportGroup(newer.clone())).seq.is_some());
    assert_eq!((known(&machine).leader, known(&machine).weight), (2, 3));
    for old in [group("shard-a", 8), newer.clone()] {
        assert_eq!(machine.run(Op::ReportGroup(old)).seq, None);
    }
    assert_eq!(known(&machine).leader, 2);
    machine.ok(Op::ReportGroup(GroupRecord { term: 5, leader: 1, ..newer.clone() }));
    machine.ok(Op::ReportGroup(GroupRecord { term: 4, leader: 2, ..newer }));
    assert_eq!(known(&machine).leader, 1);
    assert_eq!(machine.refused(Op::ReportGroup(group("placement", 1))).field, "group.name");
    let unknown = Op::SetShardWeight(SetShardWeight { shard: "nope".into(), weight: 3 });
    assert_eq!(machine.refused(unknown).code, "NOT_FOUND");
}

/// A shard that was removed must not come back by the next report of a member that still runs; nor take tenants with it.
#[test]
fn a_shard_is_removed_when_it_is_empty_and_stays_away() {
    let born = |birth: &str, index: u64| GroupRecord { founding: birth.into(), ..group("shard-b", index) };
    let mut machine = Machine::new();
    machine.ok(Op::ReportGroup(born("0a", 5)));
    let on_b = Op::CreateTenant(CreateTenant { name: "acme".into(), shard: "shard-b".into(), ..Default::default() });
    let tenant = machine.tenant(on_b);
    let why = machine.refused(Op::RemoveShard("shard-b".into()));
    assert_eq!(why.code, "FAILED_PRECONDITION");
    assert!(why.message.contains("1 tenant is still on shard-b"), "{}", why.message);
    machine.advance(&tenant, TenantState::Creating, TenantState::Stable);
    let tenant = machine.tenant(delete("acme"));
    machine.refused(Op::RemoveShard("shard-b".into()));
    machine.advance(&tenant, TenantState::Deleting, TenantState::Gone);
    machine.ok(Op::RemoveShard("shard-b".into()));
    let known = |machine: &Machine| machine.0.read(|view| groups::by_name(view, "shard-b")).unwrap();
    assert_eq!(known(&machine), None);
    assert_eq!(machine.refused(Op::RemoveShard("shard-b".into())).code, "NOT_FOUND");
    // Also of a later membership, and of a release that does not say its founding.
    for late in [born("0a", 9), born("", 9)] {
        assert_eq!(machine.refused(Op::ReportGroup(late)).code, "FAILED_PRECONDITION");
    }
    let (_, frame) = machine.frames().pop().unwrap();
    assert!(frame.changes.iter().any(|c| c.change == Some(change::Change::GroupGone("shard-b".into()))));
    // A group that was founded anew begins with small indexes.
    machine.ok(Op::ReportGroup(born("0b", 1)));
    assert_eq!(known(&machine).unwrap().log_index, 1);
}

/// Streams resume by sequence: it must be dense, and what changes nothing must not count.
#[test]
fn changes_are_dense() {
    let mut machine = Machine::new();
    machine.ok(create("acme"));
    assert_eq!(machine.run(create("acme")).seq, None);
    assert_eq!(machine.run(Op::ReportGroup(group("shard-a", 1))).seq, None);
    machine.ok(delete("acme"));
    assert_eq!(machine.run(delete("acme")).seq, None);
    let seqs: Vec<u64> = machine.frames().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
}

/// A bounded history must say that it lost something, never skip over it.
#[test]
fn the_history_is_bounded_and_says_so() {
    let mut state = MemoryState::new();
    for n in 1..=10 {
        let seq = state.apply(|tx| {
            let seq = history::append_keeping(tx, vec![], 3).unwrap();
            invariants::check(tx).unwrap();
            seq
        });
        assert_eq!(seq, n);
    }
    let after = |n| state.read(|view| history::after(view, n, 2)).unwrap();
    assert_eq!(after(6), history::Stretch::Gone);
    assert_eq!(after(11), history::Stretch::Gone);
    let seqs = |stretch| match stretch {
        history::Stretch::Frames(frames) => frames.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(),
        history::Stretch::Gone => panic!("gone"),
    };
    assert_eq!(seqs(after(7)), [8, 9]);
    assert_eq!(seqs(after(10)), [0; 0]);
}

fn any_op() -> impl Strategy<Value = Op> {
    let name = || "[aAbB]{1,2}";
    let state = || {
        prop_oneof![
            Just(TenantState::Creating),
            Just(TenantState::Stable),
            Just(TenantState::Deleting),
            Just(TenantState::Gone)
        ]
    };
    let phase = || (1_i32..8).prop_map(|n| MovePhase::try_from(n).unwrap());
    prop_oneof![
        name().prop_map(|n| create(&n)),
        name().prop_map(|n| delete(&n)),
        (1_u64..6, 1_u64..3, state(), state()).prop_map(|(id, epoch, from, to)| Op::AdvanceTenant(AdvanceTenant {
            id,
            epoch,
            from: from.into(),
            to: to.into()
        })),
        (0_u8..8, name()).prop_map(|(n, tenant)| Op::PutKey(key(n, &tenant, "reader"))),
        (0_u8..8, name()).prop_map(|(n, tenant)| Op::PutKey(key(n, &tenant, "ops"))),
        (0_u8..8).prop_map(|n| Op::RevokeKey(key(n, "", "").id)),
        name().prop_map(|tenant| Op::PutRole(role(&tenant, "ops"))),
        name().prop_map(|tenant| Op::DeleteRole(RoleName { tenant, name: "ops".into() })),
        (0_u64..4).prop_map(|index| Op::ReportGroup(group("shard-a", index))),
        (name(), 0_u8..3).prop_map(|(tenant, to)| {
            let to = ["shard-a", "shard-b", "shard-c"][usize::from(to)].into();
            Op::StartMove(StartMove { tenant, to })
        }),
        (1_u64..6, 1_u64..4, phase(), phase()).prop_map(|(tenant_id, id, from, to)| Op::AdvanceMove(AdvanceMove {
            tenant_id,
            r#move: id,
            from: from.into(),
            to: to.into(),
            ..Default::default()
        })),
        (1_u64..4).prop_map(|id| Op::CancelMove(CancelMove { r#move: id, ..Default::default() })),
        (0_u64..4, 0_u64..3).prop_map(|(index, birth)| {
            Op::ReportGroup(GroupRecord { founding: birth.to_string(), ..group("shard-b", index) })
        }),
        Just(Op::RemoveShard("shard-b".into())),
        (0_u32..3).prop_map(|weight| Op::SetShardWeight(SetShardWeight { shard: "shard-b".into(), weight })),
    ]
}

proptest! {
    /// Whatever comes in whatever order: the invariants hold, refusals write nothing, and two replicas agree.
    #[test]
    fn any_order_keeps_the_invariants(ops in prop::collection::vec((any_op(), 0_u8..4), 1..80)) {
        let (mut one, mut two) = (Machine::new(), Machine::new());
        for (step, (op, key)) in ops.into_iter().enumerate() {
            let now = NOW + step as u64 * (answers::DAY_MS / 10);
            let body = format!("{op:?}");
            let key = if key == 0 { String::new() } else { format!("k{key}") };
            let command = keyed(op, "p", &key, &body);
            let (a, b) = (one.send(now, command.clone()), two.send(now, command));
            prop_assert_eq!(a.answer, b.answer);
            prop_assert_eq!(a.seq, b.seq);
        }
        prop_assert_eq!(one.frames(), two.frames());
    }
}

/// An operator's quota reaches the shard however often the leaders change: the tenant is worked on until it is confirmed.
#[test]
fn quotas_wait_for_their_shard() {
    let mut machine = Machine::new();
    let tenant = machine.tenant(create("acme"));
    let tenant = machine.advance(&tenant, TenantState::Creating, TenantState::Stable);
    let pending = |machine: &Machine| machine.0.read(|view| exists(view, &Key::Pending(tenant.id))).unwrap();
    assert!(!pending(&machine));
    let set = |configs| {
        let quotas = Some(v1::Quotas { configs, ..Default::default() });
        Op::SetQuotas(SetQuotas { tenant: "acme".into(), quotas })
    };
    let confirm = |settings_seq| Op::ConfirmSettings(ConfirmSettings { id: tenant.id, settings_seq });
    assert_eq!(machine.tenant(set(5)).settings_seq, 1);
    assert!(pending(&machine));
    assert_eq!(machine.tenant(set(5)).settings_seq, 1, "the same again is no news");
    assert_eq!(machine.tenant(set(7)).settings_seq, 2);
    assert_eq!(machine.tenant(confirm(1)).settings_applied, 1);
    assert!(pending(&machine), "the shard has the older ones only");
    assert_eq!(machine.tenant(confirm(9)).settings_applied, 2, "never beyond what was made");
    assert!(!pending(&machine));
    let too_many = Op::SetQuotas(SetQuotas {
        tenant: "acme".into(),
        quotas: Some(v1::Quotas { config_bytes: 2 << 20, ..Default::default() }),
    });
    assert_eq!(machine.refused(too_many).field, "config_bytes");
    let unknown = Op::SetQuotas(SetQuotas { tenant: "nobody".into(), quotas: None });
    assert_eq!(machine.refused(unknown).code, "NOT_FOUND");
    // Set before the shard has taken the tenant: both are waited for.
    let other = machine.tenant(create("other"));
    machine.tenant(Op::SetQuotas(SetQuotas {
        tenant: "other".into(),
        quotas: Some(v1::Quotas { configs: 1, ..Default::default() }),
    }));
    machine.advance(&other, TenantState::Creating, TenantState::Stable);
    let waits = |machine: &Machine| machine.0.read(|view| exists(view, &Key::Pending(other.id))).unwrap();
    assert!(waits(&machine));
    machine.tenant(Op::ConfirmSettings(ConfirmSettings { id: other.id, settings_seq: 1 }));
    assert!(!waits(&machine));
}
