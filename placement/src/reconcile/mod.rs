//! Makes the shards follow placement's records, on the leader: a tenant in Creating or Deleting, or one with newer settings, is
//! brought to its shard again and again until the shard says that it follows; then the record advances.
//!
//! Every step may be repeated and may be lost: the shard looks the record up itself, and the record advances by
//! compare-and-set. So a deposed leader that still works does no harm, and a new one begins with what it finds.
//!
//! A tenant that moves is brought to both its shards ([`moves`] decides, `drive` acts, [`progress`] remembers).

mod drive;
pub mod moves;
pub mod progress;
mod shards;
mod turn;

use std::{collections::HashMap, time::Duration};

use conflux_proto::{
    internal::{EnsureTenantResponse, Move, MovePhase, TenantRecord, TenantState},
    log::{AdvanceTenant, ConfirmSettings, PlacementCommand, placement_command::Op},
};
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    machine::{self, groups, tenants},
    service::Service,
    store::{Family, Key, rows::list_keys},
};
pub use shards::{ShardPeers, Shards};
use turn::Turn;

/// Tenants worked on at once.
const AT_ONCE: usize = 8;
/// Tenants looked at in one round; the rest has its turn when these are done or wait.
const ROUND: usize = 1024;
/// One tenant's call to its shard, all members together.
const CALL: Duration = Duration::from_secs(5);
/// For the entry that advances the record.
const PROPOSE: Duration = Duration::from_secs(5);
/// In whose name.
const PRINCIPAL: &str = "placement:reconciler";

/// What is to be done about a tenant that its shard answered for.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The record may advance.
    Advance(TenantState),
    /// The shard has settings of this number.
    Confirm(u64),
    /// The shard is at it.
    Wait,
}

/// Pure: placement's record against the shard's answer.
fn next(record: &TenantRecord, shard: &EnsureTenantResponse) -> Next {
    if shard.epoch != record.epoch {
        return Next::Wait;
    }
    match (record.state(), shard.state.as_str()) {
        (TenantState::Creating, "active") => Next::Advance(TenantState::Stable),
        // Not `absent`: only the shard's tombstone keeps an old activation from taking effect later.
        (TenantState::Deleting, "deleted") => Next::Advance(TenantState::Gone),
        (TenantState::Stable, "active") if shard.settings_seq > record.settings_applied => {
            Next::Confirm(shard.settings_seq)
        }
        _ => Next::Wait,
    }
}

/// How one try for a tenant ended.
enum Ended {
    /// The shard answered.
    Answered,
    /// It did not: pauses grow.
    Silent,
    /// To be looked at again after this pause.
    Again(Duration),
}

/// Works until the member stops; only while it leads.
pub async fn run(service: Service) {
    let mut work = Work { service, turns: HashMap::new(), running: JoinSet::new(), tenants: HashMap::new() };
    let mut changes = work.service.node.app().last_change();
    let mut status = work.service.node.status();
    loop {
        changes.borrow_and_update();
        let leads = status.borrow_and_update().state == "leader";
        let again = if leads { work.start() } else { work.stop() };
        let pause = async {
            match again {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work.service.stopping.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            // The status changes with every entry; only winning or losing the lead matters here.
            lead = status.wait_for(|s| (s.state == "leader") != leads) => if lead.is_err() { return },
            Some(ended) = work.running.join_next_with_id() => work.ended(ended),
            () = pause => {}
        }
    }
}

struct Work {
    service: Service,
    turns: HashMap<u64, Turn>,
    running: JoinSet<Ended>,
    tenants: HashMap<Id, u64>,
}

impl Work {
    /// Starts what is due; when to look again if nothing happens.
    fn start(&mut self) -> Option<Instant> {
        let (from, to) = Family::Pending.range();
        let found =
            self.service.read(|view| Ok((list_keys(view, (&from, &to), ROUND)?, machine::moves::under_way(view)?)));
        let (pending, moves) = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the tenants to reconcile cannot be read");
                return Some(Instant::now() + turn::LONGEST);
            }
        };
        let mut ids: Vec<u64> =
            pending.iter().filter_map(|k| if let Key::Pending(id) = k { Some(*id) } else { None }).collect();
        metrics::gauge!("conflux_placement_tenants_pending").set(ids.len() as f64);
        // However long the list is: what moves is always looked at.
        ids.extend(moves.iter().map(|m| m.tenant_id));
        ids.sort_unstable();
        ids.dedup();
        metrics::gauge!("conflux_placement_moves_under_way").set(moves.len() as f64);
        self.turns.retain(|id, turn| turn.is_running() || ids.binary_search(id).is_ok());
        let moving = self.moving(&moves);
        let mut again: Option<Instant> = None;
        for id in ids {
            let pace = moving.get(&id).copied().unwrap_or(Pace::Ordinary);
            let turn = self.turns.entry(id).or_default();
            if turn.is_running() || pace == Pace::Waits {
                continue;
            }
            // Writes wait for what is urgent: it does not queue behind shards that do not answer.
            let free = pace == Pace::Urgent || self.running.len() < AT_ONCE;
            if turn.is_due(Instant::now()) && free {
                turn.begin();
                let service = self.service.clone();
                let task = self.running.spawn(async move { step(&service, id).await });
                self.tenants.insert(task.id(), id);
            } else if let Some(due) = turn.due().filter(|due| free && *due > Instant::now()) {
                again = Some(again.map_or(due, |a| a.min(due)));
            }
        }
        // At the limit the end of one wakes us anyway.
        again
    }

    /// How the tenants that move are dealt with.
    fn moving(&self, moves: &[Move]) -> HashMap<u64, Pace> {
        let in_turn = moves::in_turn(moves, self.service.settings.per_shard);
        self.service.progress.keep(moves);
        let pace = |m: &Move| match m.phase() {
            MovePhase::Preparing if !in_turn.contains(&m.id) => Pace::Waits,
            MovePhase::Preparing | MovePhase::Cleaning => Pace::Ordinary,
            _ => Pace::Urgent,
        };
        let paces: HashMap<u64, Pace> = moves.iter().map(|m| (m.tenant_id, pace(m))).collect();
        for m in moves.iter().filter(|m| paces.get(&m.tenant_id) == Some(&Pace::Waits)) {
            self.service.progress.wait(m.id, Instant::now());
        }
        paces
    }

    /// Another one leads: what is running is dropped.
    fn stop(&mut self) -> Option<Instant> {
        self.running.abort_all();
        self.turns.clear();
        self.service.progress.forget();
        None
    }

    fn ended(&mut self, ended: Result<(Id, Ended), tokio::task::JoinError>) {
        let (task, ended) = match ended {
            Ok((task, ended)) => (task, ended),
            Err(e) => (e.id(), Ended::Silent),
        };
        let tenant = self.tenants.remove(&task);
        if let Some(turn) = tenant.and_then(|id| self.turns.get_mut(&id)) {
            match ended {
                Ended::Answered => turn.end(true, Instant::now()),
                Ended::Silent => turn.end(false, Instant::now()),
                Ended::Again(pause) => turn.end_until(Instant::now() + pause),
            }
        }
    }
}

/// How a tenant is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Ordinary,
    /// Its move waits for others at the same shards.
    Waits,
    Urgent,
}

/// One try for one tenant.
async fn step(service: &Service, id: u64) -> Ended {
    let read = service.read(|view| {
        let Some(tenant) = tenants::by_id(view, id)? else { return Ok(None) };
        let group = groups::by_name(view, &tenant.shard)?;
        Ok(Some((tenant, group)))
    });
    let (tenant, group) = match read {
        Ok(Some(found)) => found,
        Ok(None) => return Ended::Answered,
        Err(error) => {
            tracing::warn!(tenant = id, %error, "a tenant cannot be reconciled now");
            return Ended::Silent;
        }
    };
    if tenant.r#move.is_some() {
        return drive::drive(service, id).await;
    }
    let Some(group) = group else { return Ended::Silent };
    match service.shards.ensure(&group, id, Instant::now() + CALL).await {
        Ok(answer) => settle(service, &tenant, &answer).await,
        Err(error) => {
            metrics::counter!("conflux_placement_reconcile_failures_total").increment(1);
            tracing::warn!(tenant = %tenant.name, shard = %tenant.shard, %error, "the shard does not follow yet");
            Ended::Silent
        }
    }
}

/// Takes over what the tenant's owner said of it.
async fn settle(service: &Service, tenant: &TenantRecord, answer: &EnsureTenantResponse) -> Ended {
    let done = match next(tenant, answer) {
        Next::Wait => true,
        Next::Advance(to) => advance(service, tenant, to).await,
        Next::Confirm(seq) => confirm(service, tenant, seq).await,
    };
    if done { Ended::Answered } else { Ended::Silent }
}

async fn advance(service: &Service, tenant: &TenantRecord, to: TenantState) -> bool {
    let step = AdvanceTenant { id: tenant.id, epoch: tenant.epoch, from: tenant.state, to: to.into() };
    let command =
        PlacementCommand { principal: PRINCIPAL.into(), op: Some(Op::AdvanceTenant(step)), ..Default::default() };
    match service.propose(&command, Instant::now() + PROPOSE).await {
        Ok(_) => {
            tracing::info!(tenant = %tenant.name, id = tenant.id, shard = %tenant.shard, ?to, "a tenant has advanced");
            true
        }
        Err(error) => {
            tracing::warn!(tenant = %tenant.name, %error, "a tenant's record does not advance yet");
            false
        }
    }
}

/// Records that the shard has the settings up to this number.
async fn confirm(service: &Service, tenant: &TenantRecord, settings_seq: u64) -> bool {
    let command = PlacementCommand {
        principal: PRINCIPAL.into(),
        op: Some(Op::ConfirmSettings(ConfirmSettings { id: tenant.id, settings_seq })),
        ..Default::default()
    };
    match service.propose(&command, Instant::now() + PROPOSE).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(tenant = %tenant.name, %error, "a tenant's settings are not confirmed yet");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record advances only on the shard's word for this very epoch; anything else is asked again.
    #[test]
    fn advances_on_the_shards_word_only() {
        let record = |state: TenantState| TenantRecord { epoch: 2, state: state.into(), ..Default::default() };
        let said = |state: &str, epoch| EnsureTenantResponse { state: state.into(), epoch, ..Default::default() };
        let creating = record(TenantState::Creating);
        assert_eq!(next(&creating, &said("active", 2)), Next::Advance(TenantState::Stable));
        for other in [said("active", 1), said("active", 3), said("absent", 0), said("deleted", 2), said("new", 2)] {
            assert_eq!(next(&creating, &other), Next::Wait, "{other:?}");
        }
        let deleting = record(TenantState::Deleting);
        assert_eq!(next(&deleting, &said("deleted", 2)), Next::Advance(TenantState::Gone));
        for other in [said("deleting", 2), said("deleted", 1), said("absent", 0), said("absent", 2), said("active", 2)]
        {
            assert_eq!(next(&deleting, &other), Next::Wait, "{other:?}");
        }
        assert_eq!(next(&record(TenantState::Stable), &said("active", 2)), Next::Wait);
        let raised = TenantRecord { settings_seq: 3, settings_applied: 1, ..record(TenantState::Stable) };
        let has = |settings_seq| EnsureTenantResponse { settings_seq, ..said("active", 2) };
        assert_eq!(next(&raised, &has(1)), Next::Wait, "the shard has not heard of it");
        assert_eq!(next(&raised, &has(3)), Next::Confirm(3));
    }
}
