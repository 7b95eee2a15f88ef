//! Snapshots and purges, triggered by bytes of log, on every replica by itself (DESIGN section 3).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::MissedTickBehavior;

use crate::{
    app::App,
    error::ProposeError,
    replica::{Member, Replica},
    status::DiskStatus,
};

const EVERY: Duration = Duration::from_secs(1);
/// A snapshot is a checkpoint (hard links); the flush before it is what takes time.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(120);

/// Runs until the replica stops.
pub(crate) async fn run<A: App>(replica: Arc<Replica<A>>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = replica.stop.cancelled() => return,
        }
        watch_disk(&replica);
        let Some(member) = replica.member() else { continue };
        let snapshot = member.raft.data_metrics().borrow_watched().snapshot.map_or(0, |id| id.index);
        if replica.log.bytes_after(snapshot) < replica.settings.raft.snapshot_after_bytes {
            continue;
        }
        if let Err(error) = snapshot_and_purge(&replica, &member).await {
            tracing::warn!(%error, "no snapshot was taken; tried again");
        }
    }
}

/// Below this the reserve file is given up, so that deletes, retention and compaction still have room.
const OUT: f64 = 0.02;
/// Above this the reserve is taken again.
const PLENTY: f64 = 0.15;

fn watch_disk<A: App>(replica: &Replica<A>) {
    let free = match replica.dir.free() {
        Ok(free) => free,
        Err(error) => return tracing::warn!(%error, "cannot tell how full the disk is"),
    };
    let (log_bytes, state_bytes) = (replica.log.bytes(), replica.state.bytes().unwrap_or(0));
    replica.series.sizes(log_bytes, state_bytes, free.fraction);
    let low = free.is_low();
    *replica.disk.lock() = DiskStatus {
        log_bytes,
        state_bytes,
        free_bytes: free.bytes,
        free_percent: (free.fraction * 100.0) as u32,
        refuses_growth: low,
    };
    if replica.disk_low.swap(low, Ordering::Relaxed) != low {
        match low {
            true => tracing::warn!(
                free_bytes = free.bytes,
                "the disk is nearly full: writes that grow the state are refused"
            ),
            false => tracing::info!(free_bytes = free.bytes, "the disk has room again"),
        }
    }
    let reserved = match free.fraction {
        f if f < OUT => replica.dir.release_reserve(),
        f if f > PLENTY => replica.dir.take_reserve(),
        _ => Ok(()),
    };
    if let Err(error) = reserved {
        tracing::warn!(%error, "the reserve file");
    }
}

/// Takes a snapshot now and purges what may be purged.
pub(crate) async fn compact<A: App>(replica: &Replica<A>) -> Result<(), ProposeError> {
    let member = replica.member().ok_or(ProposeError::Stopping)?;
    snapshot_and_purge(replica, &member).await
}

async fn snapshot_and_purge<A: App>(replica: &Replica<A>, member: &Member<A>) -> Result<(), ProposeError> {
    let target = replica.applied();
    let mut data = member.raft.data_metrics();
    let reached = |at: &Option<crate::types::LogId>| at.as_ref().map_or(0, |id| id.index) >= target;
    if target > 0 && !reached(&data.borrow_and_update().snapshot.clone()) {
        replica.state.check_room().map_err(ProposeError::Refused)?;
        member.raft.trigger().snapshot().await.map_err(|_| ProposeError::Stopping)?;
        let deadline = tokio::time::Instant::now() + SNAPSHOT_WITHIN;
        while !reached(&data.borrow_and_update().snapshot.clone()) {
            match tokio::time::timeout_at(deadline, data.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ProposeError::Stopping),
                Err(_) => return Err(ProposeError::Refused("the snapshot takes too long".into())),
            }
        }
    }
    let snapshot = data.borrow_and_update().snapshot.as_ref().map_or(0, |id| id.index);
    if let Some(upto) = replica.log.purge_point(replica.settings.raft.keep_log_bytes, snapshot) {
        member.raft.trigger().purge_log(upto).await.map_err(|_| ProposeError::Stopping)?;
    }
    Ok(())
}
