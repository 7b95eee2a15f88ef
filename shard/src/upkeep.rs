//! What the leader logs of its own accord: promotions that are due, expiry of answers and events, and the rows of tenants that are being deleted.

use std::{sync::Arc, time::Duration};

use conflux_common::error::ApiError;
use conflux_proto::log::{self, ShardCommand, shard_answer, shard_command::Op};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    propose::propose_shrinking,
    query::{self, Due, DueWork},
    shard::Shard,
};

/// How often the state is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// Tenants at a time.
const TENANTS: usize = 64;
/// Entries for one tenant before the next one's turn.
const ENTRIES: usize = 64;
/// Between two tries of a promotion that is overdue.
const AGAIN: Duration = Duration::from_secs(1);
/// Rows that one entry lets expire: users' writes wait behind it for some milliseconds, and not longer.
const EXPIRED_ROWS: u32 = 500;
/// One entry has so long.
const WITHIN: Duration = Duration::from_secs(10);

/// Runs until the process stops.
pub async fn run(shard: Arc<Shard>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A promotion is promised at least a minute ahead: a round that comes before has seen it.
    let mut next_promotion = None;
    // A tenant that moves away or is deleted may have millions of rows: the next round follows at once.
    let mut unfinished = false;
    loop {
        tokio::select! {
            () = shard.stopping.cancelled() => return,
            () = std::future::ready(()), if unfinished => {}
            () = shard.ownership.going() => {}
            _ = ticks.tick() => {}
            () = reached(&shard, next_promotion) => {}
        }
        (next_promotion, unfinished) = (None, false);
        if shard.node.check_leader().is_err() {
            continue;
        }
        match once(&shard).await {
            Ok(round) => (next_promotion, unfinished) = round,
            Err(error) => tracing::warn!(%error, "upkeep goes on at the next round"),
        }
    }
}

/// Waits for a moment of group time; for ever where there is none. What is overdue was tried just now: it waits for its turn.
async fn reached(shard: &Arc<Shard>, moment_ms: Option<u64>) {
    match moment_ms.map(|at| at.checked_sub(shard.node.group_time_ms())) {
        Some(Some(left)) => sleep(Duration::from_millis(left.max(1))).await,
        Some(None) => sleep(AGAIN).await,
        None => std::future::pending().await,
    }
}

/// Logs what is due at this group time; answers when the next promotion is, and whether there is more to do now.
async fn once(shard: &Arc<Shard>) -> Result<(Option<u64>, bool), ApiError> {
    let (node, now_ms) = (shard.node.clone(), shard.node.group_time_ms());
    let look = move || node.read(|view| query::due(view, now_ms, TENANTS));
    let failed = |e| ApiError::new(conflux_common::error::Code::Internal, format!("looking for work failed: {e}"));
    let due = conflux_common::blocking::spawn_blocking(look).await.map_err(failed)???;
    let mut unfinished = false;
    for tenant in due {
        unfinished |= work(shard, tenant).await?;
    }
    Ok((shard.node.read(|view| query::next_promotion(view))??, unfinished))
}

/// Whether there is more to do for this tenant after its turn.
async fn work(shard: &Arc<Shard>, due: Due) -> Result<bool, ApiError> {
    let op = match due.work {
        DueWork::Sweep => Op::SweepTenant(log::SweepTenant { max_rows: 0 }),
        DueWork::Expire => Op::Expire(log::Expire { max_rows: EXPIRED_ROWS }),
        DueWork::ForgetTouched => Op::ForgetTouched(log::ForgetTouched { max_rows: 0 }),
        DueWork::Promote(promote) => Op::Promote(promote),
    };
    let command = ShardCommand {
        tenant_id: due.tenant.0,
        epoch: due.epoch.0,
        principal: "shard:upkeep".to_owned(),
        op: Some(op),
        ..Default::default()
    };
    for _ in 0..ENTRIES {
        match propose_shrinking(&shard.node, &command, WITHIN).await? {
            shard_answer::Result::Tenant(answer) if answer.more => {}
            _ => return Ok(false),
        }
        if shard.stopping.is_cancelled() {
            return Ok(false);
        }
    }
    Ok(true)
}
