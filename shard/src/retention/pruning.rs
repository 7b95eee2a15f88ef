//! What the leader does about retention: finds what is due, archives it where there is an archive, and logs `Prune`.
//!
//! A tenant is looked at when its revision has changed or when a version of it has become too old, not each time: what is due
//! depends on nothing else. What is remembered of the last look is in memory; another leader looks anew.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc, time::Duration};

use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    log::{Prune, ShardCommand, shard_command::Op},
    store,
};
use conflux_raft::{FatalError, Read};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Verdict,
    archive::{Archive, Archived},
};
use crate::{
    machine::TenantState,
    propose::propose,
    query,
    shard::Shard,
    store::{config, content, keys::Key, tenant, version},
};

/// How often it is looked whether something is due.
const EVERY: Duration = Duration::from_secs(5);
/// Configs that one round looks at; the rest has its turn in the next.
const CONFIGS: usize = 20_000;
/// Configs of which versions are given up in one round.
const DUE: usize = 64;
/// Versions of a config that are looked at, oldest first. More than this are not in use (at most 100 rules, and three more).
const VERSIONS: usize = 400;
/// One entry has so long.
const WITHIN: Duration = Duration::from_secs(10);

/// What is remembered of the last look at a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    epoch: u64,
    revision: u64,
    /// When a version becomes too old; none: not by time alone.
    next_ms: Option<u64>,
}

impl Seen {
    fn is_still_true(&self, row: &store::Tenant, now_ms: u64) -> bool {
        self.epoch == row.epoch && self.revision == row.revision && self.next_ms.is_none_or(|at| at > now_ms)
    }
}

/// Versions of a config that are to go.
#[derive(Debug, Clone, PartialEq)]
struct Due {
    tenant: store::Tenant,
    config: store::Config,
    versions: Vec<u64>,
}

/// What a look at the state found.
#[derive(Debug, Default)]
struct Found {
    due: Vec<Due>,
    /// Tenants that were looked at from end to end and of which nothing is due.
    settled: Vec<(u64, Seen)>,
}

/// Runs until the process stops.
pub async fn run(shard: Arc<Shard>, archive: Option<Arc<dyn Archive>>) {
    let mut seen: HashMap<u64, Seen> = HashMap::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shard.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if shard.node.check_leader().is_err() {
            // What others log meanwhile is not noticed here.
            seen.clear();
            continue;
        }
        if let Err(error) = round(&shard, archive.as_deref(), &mut seen).await {
            tracing::warn!(%error, "retention goes on at the next round");
        }
    }
}

async fn round(
    shard: &Arc<Shard>,
    archive: Option<&dyn Archive>,
    seen: &mut HashMap<u64, Seen>,
) -> Result<(), ApiError> {
    let (node, now_ms, known) = (shard.node.clone(), shard.node.group_time_ms(), seen.clone());
    let look = move || node.read(|view| look(view, &known, now_ms));
    let task = conflux_common::blocking::spawn_blocking(look);
    let found = task.await.map_err(|e| internal(format!("looking for what is due failed: {e}")))??;
    let found = found.map_err(|e| internal(e.to_string()))?;
    seen.extend(found.settled);
    for due in found.due {
        if shard.stopping.is_cancelled() {
            return Ok(());
        }
        give_up(shard, archive, due).await?;
    }
    Ok(())
}

fn internal(why: String) -> ApiError {
    ApiError::new(Code::Internal, why)
}

/// Looks at the tenants of which something may be due, as far as the bounds of a round go.
fn look(rows: &dyn Read, seen: &HashMap<u64, Seen>, now_ms: u64) -> Result<Found, FatalError> {
    let mut found = Found::default();
    let mut left = CONFIGS;
    tenant::each(rows, |row| {
        let active = query::state_of(&row) == Some(TenantState::Active) && row.restored_ms == 0;
        if !active || seen.get(&row.id).is_some_and(|s| s.is_still_true(&row, now_ms)) {
            return Ok(ControlFlow::Continue(()));
        }
        let before = found.due.len();
        let mut next_ms: Option<u64> = None;
        config::each(rows, row.id, |config| {
            left = left.saturating_sub(1);
            if let Some(verdict) = judge(rows, &row, &config, now_ms)? {
                next_ms = next_ms.into_iter().chain(verdict.next_ms).min();
                if !verdict.due.is_empty() {
                    found.due.push(Due { tenant: row.clone(), config, versions: verdict.due });
                }
            }
            Ok(if found.due.len() < DUE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if found.due.len() == before {
            found.settled.push((row.id, Seen { epoch: row.epoch, revision: row.revision, next_ms }));
        }
        Ok(if left > 0 && found.due.len() < DUE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(found)
}

/// What is due of this config; none where nothing can be.
fn judge(
    rows: &dyn Read,
    tenant: &store::Tenant,
    config: &store::Config,
    now_ms: u64,
) -> Result<Option<Verdict>, FatalError> {
    let Some(retention) = &config.retention else { return Ok(None) };
    let within = retention.max_versions == 0 || config.versions <= u64::from(retention.max_versions);
    if within && retention.max_age_days == 0 {
        return Ok(None);
    }
    let mut versions = Vec::new();
    version::each(rows, tenant.id, config.id, |version| {
        versions.push((version.number, version.created_ms));
        Ok(if versions.len() < VERSIONS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(Some(super::judge(config, &versions, now_ms)))
}

/// Archives the versions, each as a whole before the next, then gives them up in one entry.
async fn give_up(shard: &Arc<Shard>, archive: Option<&dyn Archive>, due: Due) -> Result<(), ApiError> {
    if let Some(archive) = archive {
        for number in &due.versions {
            let Some(version) =
                shard.node.read(|view| read(view, &due, *number))?.map_err(|e| internal(e.to_string()))?
            else {
                continue;
            };
            archive.keep(&version).await.map_err(|e| {
                metrics::counter!("conflux_shard_archive_failures_total").increment(1);
                ApiError::new(Code::Unavailable, format!("{e}: nothing is given up until it does"))
            })?;
        }
    }
    let count = due.versions.len() as u64;
    let command = ShardCommand {
        tenant_id: due.tenant.id,
        epoch: due.tenant.epoch,
        principal: "shard:upkeep".to_owned(),
        op: Some(Op::Prune(Prune { config_id: due.config.id, versions: due.versions, archived: archive.is_some() })),
        ..Default::default()
    };
    propose(&shard.node, &command, WITHIN).await?;
    metrics::counter!("conflux_shard_pruned_versions_total").increment(count);
    Ok(())
}

/// The version with its content; none: it is gone.
fn read(rows: &dyn Read, due: &Due, number: u64) -> Result<Option<Archived>, FatalError> {
    let tenant = due.tenant.id;
    let Some(version) = version::get(rows, tenant, due.config.id, number)? else { return Ok(None) };
    let lost = || {
        FatalError(format!("the content of {:?} is missing", Key::Version { tenant, config: due.config.id, number }))
    };
    let content = content::get(rows, tenant, &version.sha256)?.ok_or_else(lost)?;
    let names = (due.tenant.name.clone(), tenant, due.tenant.incarnation);
    Ok(Some(Archived { tenant: names, config: due.config.clone(), version, content }))
}

#[cfg(test)]
mod tests {
    use conflux_proto::{
        log::{CreateConfig, shard_command::Op},
        v1::Retention,
    };

    use super::*;
    use crate::machine::tests::bench::{Bench, TENANT, create, put};

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn with(max_versions: u32, max_age_days: u32) -> Op {
        let Op::CreateConfig(op) = create("a", "x: 0") else { panic!() };
        Op::CreateConfig(CreateConfig { retention: Some(Retention { max_versions, max_age_days }), ..op })
    }

    fn look_at(bench: &Bench, seen: &HashMap<u64, Seen>) -> Found {
        bench.state.read(|view| look(view, seen, bench.now_ms)).unwrap()
    }

    /// A tenant in which nothing changes is not read again, until time itself makes something due.
    #[test]
    fn a_tenant_is_looked_at_when_something_may_be_due() {
        let mut bench = Bench::active();
        bench.write(with(0, 2)).unwrap();
        for i in 1..4 {
            bench.now_ms += DAY_MS / 4;
            bench.write(put("a", &format!("x: {i}"))).unwrap();
        }
        let mut seen = HashMap::new();
        let found = look_at(&bench, &seen);
        assert!(found.due.is_empty());
        seen.extend(found.settled);
        assert_eq!(seen[&TENANT].next_ms, Some(1_000_000 + 2 * DAY_MS));
        assert!(look_at(&bench, &seen).settled.is_empty(), "nothing has changed");
        bench.now_ms = 1_000_000 + 2 * DAY_MS;
        let due = look_at(&bench, &seen).due;
        assert_eq!(due.iter().map(|d| d.versions.clone()).collect::<Vec<_>>(), [vec![1]]);
        // Whoever gave nothing up finds it again.
        assert_eq!(look_at(&bench, &seen).due, due);
        let prune = Op::Prune(Prune { config_id: 1, versions: vec![1], archived: false });
        bench.write(prune).unwrap();
        let found = look_at(&bench, &seen);
        assert!(found.due.is_empty());
        assert_eq!(found.settled.len(), 1);
        // A change is looked at.
        seen.extend(found.settled);
        bench.write(put("b", "y: 1")).unwrap();
        assert_eq!(look_at(&bench, &seen).settled.len(), 1);
    }

    /// By count, without reading the versions of those that have few.
    #[test]
    fn what_is_beyond_the_count_is_due() {
        let mut bench = Bench::active();
        bench.write(with(2, 0)).unwrap();
        for i in 1..6 {
            bench.write(put("a", &format!("x: {i}"))).unwrap();
        }
        let due = look_at(&bench, &HashMap::new()).due;
        assert_eq!((due.len(), due[0].versions.clone()), (1, vec![1, 2, 3, 4]));
        let version = bench.state.read(|view| read(view, &due[0], 2)).unwrap().unwrap();
        assert_eq!((version.name().as_str(), &version.content[..]), ("acme-7/3/c1/2", &b"x: 1"[..]));
    }
}
