//! Keeps the memory of use to the tenants that are served here: one that goes or moves leaves nothing.

use std::{sync::Arc, time::Duration};

use conflux_common::error::{ApiError, Code};
use tokio::time::{MissedTickBehavior, interval};

use crate::{query, shard::Shard};

/// How often the tenants are compared.
const EVERY: Duration = Duration::from_secs(10);

/// Runs until the process stops, on every member.
pub async fn run(shard: Arc<Shard>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shard.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = once(&shard).await {
            tracing::warn!(%error, "what is known of the use of tenants is compared again later");
        }
    }
}

async fn once(shard: &Arc<Shard>) -> Result<(), ApiError> {
    let shard = shard.clone();
    let compare = move || {
        let here = shard.node.read(|view| query::active(view))??;
        shard.usage.keep(&here);
        Ok(())
    };
    let task = conflux_common::blocking::spawn_blocking(compare);
    task.await.map_err(|e| ApiError::new(Code::Internal, format!("the comparison failed: {e}")))?
}
