//! What the leader logs of its own accord: expiry of answers and events, and the rows of tenants that are being deleted.

use std::{sync::Arc, time::Duration};

use conflux_common::error::ApiError;
use conflux_proto::log::{self, ShardCommand, shard_answer, shard_command::Op};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    propose::propose,
    query::{self, Due, DueWork},
    shard::Shard,
};

/// How often the state is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// Tenants at a time.
const TENANTS: usize = 64;
/// Entries for one tenant before the next one's turn.
const ENTRIES: usize = 64;
/// One entry has so long.
const WITHIN: Duration = Duration::from_secs(10);

/// Runs until the process stops.
pub async fn run(shard: Arc<Shard>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shard.stopping.cancelled() => return,
            () = shard.ownership.deleted() => {}
            _ = ticks.tick() => {}
        }
        if shard.node.check_leader().is_err() {
            continue;
        }
        if let Err(error) = once(&shard).await {
            tracing::warn!(%error, "upkeep goes on at the next round");
        }
    }
}

/// Logs what is due at this group time.
async fn once(shard: &Arc<Shard>) -> Result<(), ApiError> {
    let (node, now_ms) = (shard.node.clone(), shard.node.group_time_ms());
    let look = move || node.read(|view| query::due(view, now_ms, TENANTS));
    let failed = |e| ApiError::new(conflux_common::error::Code::Internal, format!("looking for work failed: {e}"));
    let due = tokio::task::spawn_blocking(look).await.map_err(failed)???;
    for tenant in due {
        work(shard, tenant).await?;
    }
    Ok(())
}

async fn work(shard: &Arc<Shard>, due: Due) -> Result<(), ApiError> {
    let op = match due.work {
        DueWork::Sweep => Op::SweepTenant(log::SweepTenant { max_rows: 0 }),
        DueWork::Expire => Op::Expire(log::Expire { max_rows: 0 }),
    };
    let command = ShardCommand {
        tenant_id: due.tenant.0,
        epoch: due.epoch.0,
        principal: "shard:upkeep".to_owned(),
        op: Some(op),
        ..Default::default()
    };
    for _ in 0..ENTRIES {
        match propose(&shard.node, &command, WITHIN).await? {
            shard_answer::Result::Tenant(answer) if answer.more => {}
            _ => break,
        }
        if shard.stopping.is_cancelled() {
            break;
        }
    }
    Ok(())
}
