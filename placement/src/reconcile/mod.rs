//! Makes the shards follow placement's records, on the leader: a tenant in Creating or Deleting, or one with newer settings, is
//! brought to its shard again and again until the shard says that it follows; then the record advances.
//!
//! Every step may be repeated and may be lost: the shard looks the record up itself, and the record advances by
//! compare-and-set. So a deposed leader that still works does no harm, and a new one begins with what it finds.

mod shards;
mod turn;

use std::{collections::HashMap, sync::Arc, time::Duration};

use conflux_proto::{
    internal::{EnsureTenantResponse, TenantRecord, TenantState},
    log::{AdvanceTenant, ConfirmSettings, PlacementCommand, placement_command::Op},
};
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    machine::{groups, tenants},
    service::Service,
    store::{Family, Key, rows::list_keys},
};
pub use shards::ShardPeers;
use shards::Shards;
use turn::Turn;

/// Tenants worked on at once.
const AT_ONCE: usize = 8;
/// Tenants looked at in one round; the rest has its turn when these are done or wait.
const ROUND: usize = 1024;
/// One tenant's call to its shard, all members together.
const CALL: Duration = Duration::from_secs(5);
/// For the entry that advances the record.
const PROPOSE: Duration = Duration::from_secs(5);

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

/// Works until the member stops; only while it leads.
pub async fn run(service: Service, peers: ShardPeers) {
    let shards = Arc::new(Shards::new(peers));
    let mut work = Work { service, shards, turns: HashMap::new(), running: JoinSet::new(), tenants: HashMap::new() };
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
    shards: Arc<Shards>,
    turns: HashMap<u64, Turn>,
    running: JoinSet<bool>,
    tenants: HashMap<Id, u64>,
}

impl Work {
    /// Starts what is due; when to look again if nothing happens.
    fn start(&mut self) -> Option<Instant> {
        let (from, to) = Family::Pending.range();
        let pending = match self.service.read(|view| list_keys(view, (&from, &to), ROUND)) {
            Ok(pending) => pending,
            Err(error) => {
                tracing::warn!(%error, "the tenants to reconcile cannot be read");
                return Some(Instant::now() + turn::LONGEST);
            }
        };
        let ids: Vec<u64> =
            pending.iter().filter_map(|k| if let Key::Pending(id) = k { Some(*id) } else { None }).collect();
        metrics::gauge!("conflux_placement_tenants_pending").set(ids.len() as f64);
        self.turns.retain(|id, turn| turn.is_running() || ids.binary_search(id).is_ok());
        let mut again: Option<Instant> = None;
        for id in ids {
            let turn = self.turns.entry(id).or_default();
            if turn.is_running() {
                continue;
            }
            if turn.is_due(Instant::now()) && self.running.len() < AT_ONCE {
                turn.begin();
                let (service, shards) = (self.service.clone(), self.shards.clone());
                let task = self.running.spawn(async move { step(&service, &shards, id).await });
                self.tenants.insert(task.id(), id);
            } else if let Some(due) = turn.due() {
                again = Some(again.map_or(due, |a| a.min(due)));
            }
        }
        // At the limit the end of one wakes us anyway.
        if self.running.len() >= AT_ONCE { None } else { again }
    }

    /// Another one leads: what is running is dropped.
    fn stop(&mut self) -> Option<Instant> {
        self.running.abort_all();
        self.turns.clear();
        None
    }

    fn ended(&mut self, ended: Result<(Id, bool), tokio::task::JoinError>) {
        let (task, progress) = match ended {
            Ok((task, progress)) => (task, progress),
            Err(e) => (e.id(), false),
        };
        let tenant = self.tenants.remove(&task);
        if let Some(turn) = tenant.and_then(|id| self.turns.get_mut(&id)) {
            turn.end(progress, Instant::now());
        }
    }
}

/// One try for one tenant; whether the shard answered.
async fn step(service: &Service, shards: &Shards, id: u64) -> bool {
    let read = service.read(|view| {
        let Some(tenant) = tenants::by_id(view, id)? else { return Ok(None) };
        let group = groups::by_name(view, &tenant.shard)?;
        Ok(Some((tenant, group)))
    });
    let (tenant, group) = match read {
        Ok(Some(found)) => found,
        Ok(None) => return true,
        Err(error) => {
            tracing::warn!(tenant = id, %error, "a tenant cannot be reconciled now");
            return false;
        }
    };
    let Some(group) = group else { return false };
    let answer = match shards.ensure(&group, id, Instant::now() + CALL).await {
        Ok(answer) => answer,
        Err(error) => {
            metrics::counter!("conflux_placement_reconcile_failures_total").increment(1);
            tracing::warn!(tenant = %tenant.name, shard = %tenant.shard, %error, "the shard does not follow yet");
            return false;
        }
    };
    match next(&tenant, &answer) {
        Next::Wait => true,
        Next::Advance(to) => advance(service, &tenant, to).await,
        Next::Confirm(seq) => confirm(service, &tenant, seq).await,
    }
}

async fn advance(service: &Service, tenant: &TenantRecord, to: TenantState) -> bool {
    let step = AdvanceTenant { id: tenant.id, epoch: tenant.epoch, from: tenant.state, to: to.into() };
    let command = PlacementCommand {
        principal: "placement:reconciler".into(),
        op: Some(Op::AdvanceTenant(step)),
        ..Default::default()
    };
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
        principal: "placement:reconciler".into(),
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
