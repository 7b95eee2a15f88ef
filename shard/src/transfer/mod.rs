//! Tenants that move: what this process does for them while it leads (docs/adr/0003-moves.md).
//!
//! Nothing here decides anything: placement's record does, and each step is an entry of the log. What is kept in memory is how the
//! copy goes, and since when a frozen tenant may have gone on elsewhere.

mod export;
mod import;
mod pace;
mod source;
mod transit;

use std::{collections::HashMap, sync::Arc, time::Duration};

use conflux_common::{ids::TenantId, tls::TlsContext};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

pub use export::export;
pub use transit::{Progress, Transit};

use crate::{machine::TenantState, query, shard::Shard};
use import::Import;

/// How often placement is asked about each tenant that is on its way, whatever it orders.
const EVERY: Duration = Duration::from_millis(500);
/// One look-up and its entry have so long.
const WITHIN: Duration = Duration::from_secs(3);

/// What importing needs beside the shard.
#[derive(Clone)]
pub struct Means {
    /// Own certificate and trust.
    pub tls: TlsContext,
    /// Bytes a second that all imports of this process take together.
    pub bytes_per_second: u64,
}

/// Runs until the process stops.
pub async fn run(shard: Arc<Shard>, means: Means) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pace = Arc::new(pace::Pace::new(means.bytes_per_second));
    let mut imports: HashMap<(TenantId, u64), Running> = HashMap::new();
    let mut follows: HashMap<TenantId, Running> = HashMap::new();
    loop {
        let due = tokio::select! {
            () = shard.stopping.cancelled() => return,
            () = shard.transit.changed() => false,
            _ = ticks.tick() => true,
        };
        imports.retain(|_, running| !running.0.is_finished());
        follows.retain(|_, running| !running.0.is_finished());
        if shard.node.check_leader().is_err() {
            imports.clear();
            follows.clear();
            continue;
        }
        for id in shard.transit.under_way(&shard.node) {
            let Ok(Ok(row)) = shard.node.read(|view| query::tenant(view, id)) else { continue };
            let row = row.unwrap_or_default();
            if !query::state_of(&row).is_some_and(transit::is_under_way) {
                // It arrived while the rows were looked through.
                shard.transit.forget(id);
                continue;
            }
            if query::state_of(&row) == Some(TenantState::Importing) {
                imports.entry((id, row.move_id)).or_insert_with(|| {
                    let import = Import::new(shard.clone(), means.tls.clone(), pace.clone(), id, row.move_id);
                    Running(tokio::spawn(import.run()))
                });
            }
            if due {
                follows.entry(id).or_insert_with(|| {
                    let shard = shard.clone();
                    Running(tokio::spawn(async move {
                        if let Err(error) = shard.ownership.ensure(id, Instant::now() + WITHIN).await {
                            tracing::debug!(tenant = id.0, %error, "placement is asked again");
                        }
                    }))
                });
            }
        }
    }
}

/// A task that ends with its handle.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
