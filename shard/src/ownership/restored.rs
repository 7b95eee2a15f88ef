//! Tenants that came from a backup: each is compared with placement before it is served (ADR 4).
//!
//! | placement says | the shard |
//! |---|---|
//! | this shard, this epoch | serves it |
//! | being deleted, a higher epoch | deletes it: placement's reconciler asks for it |
//! | anything else | waits for an operator: serve or drop |

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code},
    ids::{GroupName, TenantId},
};
use conflux_proto::{
    internal::{TenantRecord, TenantState as Placed},
    log::{self, ShardCommand, shard_command::Op},
};
use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    machine::TenantState,
    propose::propose,
    query::{self, TenantRow},
    shard::Shard,
};

/// How often the tenants that are not served are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Look-ups at a time.
const AT_ONCE: usize = 16;
/// Tenants of one round.
const ROUND: usize = 1000;
/// A look-up, or an entry.
const WITHIN: Duration = Duration::from_secs(5);

/// What is to be done about a restored tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is this shard's, and nothing has happened since.
    Serve,
    /// Not served, for this reason.
    Wait(String),
}

/// Pure: placement's record against the restored row.
pub fn compare(record: Option<&TenantRecord>, group: &GroupName, row: &TenantRow) -> Verdict {
    let wait = |why: String| Verdict::Wait(why);
    let Some(record) = record else { return wait("placement does not know it".into()) };
    let (shard, epoch) = (&record.shard, record.epoch);
    match record.state() {
        Placed::Gone => wait(format!("it was deleted at epoch {epoch}")),
        Placed::Deleting => wait(format!("it is being deleted at epoch {epoch}")),
        _ if *shard != group.as_str() => wait(format!("placement gives it to {shard} at epoch {epoch}")),
        _ if epoch > row.epoch => wait(format!("placement has epoch {epoch}: it was elsewhere after the backup")),
        _ if epoch < row.epoch => {
            wait(format!("placement has only epoch {epoch}: it was restored from an older backup"))
        }
        Placed::Creating | Placed::Stable => Verdict::Serve,
        Placed::Unspecified => wait("placement has it in a state that this binary does not know".into()),
    }
}

/// Runs until the process stops. Costs nothing where the group was never restored.
pub async fn run(shard: Arc<Shard>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shard.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let restored = shard.node.status().borrow().restored_ms != 0;
        if !restored || shard.node.check_leader().is_err() {
            continue;
        }
        if let Err(error) = round(&shard).await {
            tracing::warn!(%error, "restored tenants are compared again at the next round");
        }
    }
}

/// Serves those that may be served.
async fn round(shard: &Arc<Shard>) -> Result<(), ApiError> {
    let mut after = 0;
    loop {
        let rows = waiting(shard, after).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.id;
        let compared = futures::stream::iter(rows).map(|row| serve_if_ours(shard, row)).buffer_unordered(AT_ONCE);
        let outcomes: Vec<Result<(), ApiError>> = compared.collect().await;
        outcomes.into_iter().collect::<Result<(), ApiError>>()?;
    }
}

async fn waiting(shard: &Arc<Shard>, after: u64) -> Result<Vec<TenantRow>, ApiError> {
    let node = shard.node.clone();
    let read = move || node.read(|view| query::not_served(view, after, ROUND));
    let failed = |e| ApiError::new(Code::Internal, format!("looking for restored tenants failed: {e}"));
    conflux_common::blocking::spawn_blocking(read).await.map_err(failed)??
}

async fn serve_if_ours(shard: &Arc<Shard>, row: TenantRow) -> Result<(), ApiError> {
    if query::state_of(&row) != Some(TenantState::Active) {
        // A move had frozen it: it thaws first, or departs.
        return Ok(());
    }
    let (record, _) = shard.ownership.placed(TenantId(row.id), Instant::now() + WITHIN).await?;
    match compare(record.as_ref(), shard.ownership.group(), &row) {
        Verdict::Serve => {
            serve_under(shard, &row, row.epoch).await?;
            tracing::info!(tenant = row.id, name = row.name, epoch = row.epoch, "a restored tenant is served again");
            Ok(())
        }
        Verdict::Wait(why) => {
            tracing::debug!(tenant = row.id, name = row.name, why, "a restored tenant is not served");
            Ok(())
        }
    }
}

async fn serve_under(shard: &Arc<Shard>, row: &TenantRow, epoch: u64) -> Result<(), ApiError> {
    log_op(shard, row, row.epoch, Op::ServeRestored(log::ServeRestored { epoch })).await
}

async fn log_op(shard: &Arc<Shard>, row: &TenantRow, epoch: u64, op: Op) -> Result<(), ApiError> {
    let principal = format!("shard:{}", shard.ownership.group());
    let command = ShardCommand { tenant_id: row.id, epoch, principal, op: Some(op), ..Default::default() };
    propose(&shard.node, &command, WITHIN).await.map(drop)
}

/// The restored row of this id, on the leader.
async fn restored_row(shard: &Arc<Shard>, id: TenantId) -> Result<TenantRow, ApiError> {
    shard.node.read_barrier(WITHIN).await?;
    let row = shard.node.read(|view| query::tenant(view, id))??;
    row.filter(query::waits).ok_or_else(|| {
        ApiError::new(Code::NotFound, format!("this shard has no restored tenant {} that waits for a decision", id.0))
    })
}

/// An operator's decision: this copy is the one. Placement gives it a fresh epoch, so that whoever else has the tenant is
/// refused from now on.
pub async fn serve(shard: &Arc<Shard>, id: TenantId) -> Result<u64, ApiError> {
    let row = restored_row(shard, id).await?;
    let record = shard.ownership.adopt(&row, Instant::now() + WITHIN).await?;
    serve_under(shard, &row, record.epoch).await?;
    tracing::info!(tenant = row.id, name = row.name, epoch = record.epoch, "an operator has a restored tenant served");
    Ok(record.epoch)
}

/// An operator's decision: this copy goes; a tombstone stays.
pub async fn drop_copy(shard: &Arc<Shard>, id: TenantId) -> Result<(), ApiError> {
    let row = restored_row(shard, id).await?;
    // Where placement still counts on this copy, the tenant itself must be deleted, there.
    let (record, _) = shard.ownership.placed(id, Instant::now() + WITHIN).await?;
    if record.is_some_and(|r| r.shard == shard.ownership.group().as_str() && r.state() != Placed::Gone) {
        let why =
            "placement gives the tenant to this shard: delete the tenant (conflux tenant delete), or serve this copy";
        return Err(ApiError::new(Code::FailedPrecondition, why));
    }
    log_op(shard, &row, row.epoch + 1, Op::DeleteTenant(log::DeleteTenant {})).await?;
    tracing::info!(tenant = row.id, name = row.name, "an operator has a restored copy dropped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy that something has happened to since the backup must not be served by itself.
    #[test]
    fn only_what_placement_knows_unchanged_is_served() {
        let group: GroupName = "shard-a".parse().unwrap();
        let row = TenantRow { id: 1, epoch: 3, ..Default::default() };
        let record = |state: Placed, shard: &str, epoch| {
            let mut record = TenantRecord { id: 1, shard: shard.into(), epoch, ..Default::default() };
            record.set_state(state);
            record
        };
        let verdict = |record: TenantRecord| compare(Some(&record), &group, &row);
        assert_eq!(verdict(record(Placed::Stable, "shard-a", 3)), Verdict::Serve);
        for (other, why) in [
            (record(Placed::Stable, "shard-a", 4), "elsewhere after the backup"),
            (record(Placed::Stable, "shard-a", 2), "an older backup"),
            (record(Placed::Stable, "shard-b", 4), "gives it to shard-b"),
            (record(Placed::Stable, "shard-b", 3), "gives it to shard-b"),
            (record(Placed::Deleting, "shard-a", 4), "being deleted"),
            (record(Placed::Gone, "shard-a", 4), "was deleted"),
        ] {
            assert!(matches!(verdict(other), Verdict::Wait(told) if told.contains(why)), "{why}");
        }
        assert_eq!(compare(None, &group, &row), Verdict::Wait("placement does not know it".into()));
    }
}
