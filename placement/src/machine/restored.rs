//! Placement that came back from a backup: closed until its shards have reported, with counters above anything that they
//! know; and tenants whose shard's restored copy an operator has chosen.

use conflux_common::{error::Code, ids::TenantName};
use conflux_proto::{
    internal::{GroupRecord, TenantRecord, TenantState, change},
    log::{AdoptTenant, placement_answer::Result as Answer},
    store::{Closed, TenantRef, TenantTombstone},
};
use conflux_raft::{FatalError, Read, Tx};

use super::{Effect, Stop, groups, holds, invalid, refuse, tenants};
use crate::store::{
    Family, Key,
    rows::{counters, exists, list, load, mark, remove, save},
};

/// Epochs of a tenant that the lost history may have given out.
const EPOCH_GAP: u64 = 1 << 20;
/// The sequence of changes and the ids of moves go on so far above that of the backup: whoever has seen more of the lost history than the
/// backup holds must be told to start over, and never take a new change for one that it has seen.
const GAP: u64 = 1 << 32;

/// Makes the rows of a backup those of a restored placement. Not applied from the log: done once, before the first start.
pub fn prepare(tx: &mut Tx<'_>, restored_ms: u64) -> Result<(), FatalError> {
    // The backup was taken under a hold, which is in it.
    remove(tx, &Key::Hold);
    save(tx, &Key::Closed, &Closed { restored_ms, reported: Vec::new() });
    let (from, to) = Family::Tenant.range();
    for (_, tenant) in list::<TenantRecord>(tx, (&from, &to), usize::MAX)? {
        let last_epoch = tenants::last_epoch(&tenant) + EPOCH_GAP;
        save(tx, &Key::Tenant(tenant.id), &TenantRecord { last_epoch, ..tenant });
    }
    let (from, to) = Family::Change.range();
    let mut frames = Vec::new();
    tx.scan(&from, &to, &mut |key, _| {
        frames.push(key.to_vec());
        std::ops::ControlFlow::Continue(())
    })?;
    for key in frames {
        tx.delete(&key);
    }
    let mut counters = counters(tx)?;
    counters.change_seq += GAP;
    counters.next_move_id = counters.next_move_id.max(1) + GAP;
    counters.change_floor = counters.change_seq;
    save(tx, &Key::Counters, &counters);
    Ok(())
}

/// Whether a report of this group is waited for, though it may tell nothing new.
pub fn awaits(rows: &impl Read, report: &GroupRecord) -> Result<bool, FatalError> {
    let waits = holds::closed(rows)?.is_some_and(|closed| !closed.reported.contains(&report.name));
    Ok(waits || report.highest_tenant_id >= counters(rows)?.next_tenant_id.max(1))
}

/// No id that any shard knows is given out again; and when the last shard has reported, placement opens.
pub(super) fn take_report(tx: &mut Tx<'_>, report: &GroupRecord) -> Result<(), FatalError> {
    let mut counters = counters(tx)?;
    if report.highest_tenant_id >= counters.next_tenant_id.max(1) {
        counters.next_tenant_id = report.highest_tenant_id + 1;
        save(tx, &Key::Counters, &counters);
    }
    let Some(mut closed) = holds::closed(tx)? else { return Ok(()) };
    if !closed.reported.contains(&report.name) {
        closed.reported.push(report.name.clone());
    }
    let all = groups::all(tx)?;
    if all.iter().all(|group| closed.reported.contains(&group.name)) {
        remove(tx, &Key::Closed);
    } else {
        save(tx, &Key::Closed, &closed);
    }
    Ok(())
}

/// Gives the tenant to this shard under an epoch above all that are known: whoever else has it is refused from now on.
pub(super) fn adopt(tx: &mut Tx<'_>, now_ms: u64, adopt: AdoptTenant) -> Result<Effect, Stop> {
    let name = TenantName::new(adopt.name.as_str()).map_err(|e| invalid("name", e.rule))?;
    if adopt.id == 0 || adopt.epoch == 0 || groups::by_name(tx, &adopt.shard)?.is_none() {
        return Err(invalid("tenant", "an id, an epoch, and a shard that has reported to placement"));
    }
    if load::<TenantTombstone>(tx, &Key::Tombstone(adopt.id))?.is_some() {
        let why = format!("tenant {} was deleted after the backup: drop it, and create it under a new id", adopt.id);
        return Err(refuse(Code::FailedPrecondition, why));
    }
    let known = tenants::by_id(tx, adopt.id)?;
    if known.as_ref().is_some_and(|t| t.state() != TenantState::Stable || t.r#move.is_some()) {
        return Err(refuse(
            Code::FailedPrecondition,
            "placement is making, moving or deleting this tenant: let that end first",
        ));
    }
    if known.is_none() && exists(tx, &Key::TenantName(name.folded()))? {
        let why = format!("another tenant is called {name} now: delete that one first, or drop this one");
        return Err(refuse(Code::AlreadyExists, why));
    }
    let mut counters = counters(tx)?;
    counters.next_tenant_id = counters.next_tenant_id.max(adopt.id + 1);
    save(tx, &Key::Counters, &counters);
    let before = known.unwrap_or_else(|| TenantRecord {
        id: adopt.id,
        name: name.to_string(),
        created_ms: now_ms,
        ..TenantRecord::default()
    });
    let epoch = tenants::last_epoch(&before).max(adopt.epoch) + 1;
    let tenant = TenantRecord {
        shard: adopt.shard,
        epoch,
        last_epoch: epoch,
        incarnation: adopt.incarnation.max(before.incarnation).max(1),
        state: TenantState::Stable.into(),
        ..before
    };
    save(tx, &Key::Tenant(tenant.id), &tenant);
    save(tx, &Key::TenantName(tenant.name.to_ascii_lowercase()), &TenantRef { id: tenant.id });
    if tenants::awaits_settings(&tenant) {
        mark(tx, &Key::Pending(tenant.id));
    }
    Ok(Effect::new(Answer::Tenant(tenant.clone()), [change::Change::Tenant(tenant)]))
}

#[cfg(test)]
mod tests {
    use conflux_proto::{
        internal::GroupMember,
        log::{CreateTenant, PlacementCommand, placement_command::Op},
    };
    use conflux_raft::view::MemoryState;

    use super::*;
    use crate::{invariants, machine};

    fn run(state: &mut MemoryState, op: Op) -> Result<Answer, String> {
        let command = PlacementCommand { op: Some(op), ..Default::default() };
        let applied = state.apply(|tx| {
            let applied = machine::apply(tx, 1, command).unwrap();
            invariants::check(tx).unwrap();
            applied
        });
        match applied.answer.result.unwrap() {
            Answer::Refusal(why) => Err(format!("{}: {}", why.code, why.message)),
            answer => Ok(answer),
        }
    }

    fn report(name: &str, highest_tenant_id: u64) -> Op {
        let member = GroupMember { node_id: 1, name: "m".into(), service_address: "h:1".into(), voter: true };
        let name = name.to_owned();
        Op::ReportGroup(GroupRecord {
            name,
            members: vec![member],
            log_index: 1,
            highest_tenant_id,
            ..Default::default()
        })
    }

    fn create(name: &str) -> Op {
        Op::CreateTenant(CreateTenant { name: name.into(), ..Default::default() })
    }

    /// Ids that were given out after the backup are known to the shards only: used again, they would be another tenant's data.
    #[test]
    fn a_restored_placement_opens_above_what_its_shards_know() {
        let mut state = MemoryState::new();
        for shard in ["a", "b"] {
            run(&mut state, report(shard, 0)).unwrap();
        }
        run(&mut state, create("acme")).unwrap();
        let seq = state.read(|v| counters(v)).unwrap().change_seq;
        state.apply(|tx| prepare(tx, 5)).unwrap();
        let after = state.read(|v| counters(v)).unwrap();
        assert!(after.change_seq > seq + 1_000_000 && after.change_floor == after.change_seq);
        let refused = run(&mut state, create("beta")).unwrap_err();
        assert!(refused.contains("waits for its shards to report: a, b"), "{refused}");
        run(&mut state, report("a", 9)).unwrap();
        let refused = run(&mut state, create("beta")).unwrap_err();
        assert!(refused.contains("report: b."), "{refused}");
        run(&mut state, report("b", 3)).unwrap();
        let Answer::Tenant(made) = run(&mut state, create("beta")).unwrap() else { panic!() };
        assert_eq!(made.id, 10);
    }

    /// The chosen copy is served under an epoch that nobody has had.
    #[test]
    fn an_adopted_tenant_gets_a_fresh_epoch() {
        let mut state = MemoryState::new();
        for shard in ["a", "b"] {
            run(&mut state, report(shard, 0)).unwrap();
        }
        let adopt = |id, name: &str, shard: &str, epoch| {
            let (name, shard) = (name.to_owned(), shard.to_owned());
            Op::AdoptTenant(AdoptTenant { id, name, shard, epoch, incarnation: 7 })
        };
        let Answer::Tenant(made) = run(&mut state, adopt(4, "acme", "a", 6)).unwrap() else { panic!() };
        assert_eq!((made.epoch, made.shard.as_str(), made.incarnation), (7, "a", 7));
        let Answer::Tenant(moved) = run(&mut state, adopt(4, "acme", "b", 2)).unwrap() else { panic!() };
        assert_eq!((moved.epoch, moved.shard.as_str()), (8, "b"));
        assert!(run(&mut state, adopt(5, "ACME", "a", 1)).unwrap_err().starts_with("ALREADY_EXISTS"));
        assert!(run(&mut state, adopt(5, "beta", "nowhere", 1)).unwrap_err().starts_with("INVALID_ARGUMENT"));
        let Answer::Tenant(next) = run(&mut state, create("new")).unwrap() else { panic!() };
        assert_eq!(next.id, 5);
    }
}
