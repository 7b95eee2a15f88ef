//! A subscription to a tenant that this replica does not know yet: looked up once, as a request's tenant is.

use std::{sync::Arc, time::Duration};

use conflux_common::ids::{Epoch, TenantId};
use tokio::time::{Instant, timeout};

use crate::{machine::TenantState, query, shard::Shard};

/// The leader's look-up has so long.
const LOOK_UP: Duration = Duration::from_secs(5);
/// A replica that does not lead hears of the tenant in the log, or within this time not at all.
const FOLLOW: Duration = Duration::from_secs(1);

/// Returns once it is worth reading the state again, or no longer worth waiting.
pub(super) async fn await_newcomer(shard: Arc<Shard>, id: TenantId, epoch: Epoch) {
    // Registered before the state is read, so that no change falls in between.
    let mut changes = shard.hub.changes_of(id.0);
    if shard.ownership.look_up(id, epoch, Instant::now() + LOOK_UP).await.is_ok() {
        return;
    }
    if shard.node.check_leader().is_ok() {
        return; // Placement could not be asked, or does not give the tenant to this shard.
    }
    let served = |row: &query::TenantRow| {
        let state = query::state_of(row);
        row.epoch >= epoch.0 && !matches!(state, Some(TenantState::Importing | TenantState::Prepared))
    };
    let known = || matches!(shard.node.read(|view| query::tenant(view, id)), Ok(Ok(Some(row))) if served(&row));
    let waiting = async { while !known() && changes.changed().await.is_ok() {} };
    // Whoever waited in vain is told by the state.
    let _ = timeout(FOLLOW, waiting).await;
}
