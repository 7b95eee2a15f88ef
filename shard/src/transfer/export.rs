//! Serving the rows of a tenant that moves away.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code, Hint},
    ids::TenantId,
    tls::PeerId,
};
use conflux_proto::internal::{ExportRowsRequest, ExportRowsResponse};
use tokio::time::{Instant, timeout_at};

use crate::{
    query::{self, TenantRow},
    shard::Shard,
};

/// Bytes of rows in an answer at most.
const MAX_BYTES: u32 = 4 << 20;
/// An answer is waited for at most so long.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// For the look-up by which this shard learns of the move.
const LOOK_UP: Duration = Duration::from_secs(3);

/// What the state says to a question.
enum Seen {
    Page(Box<ExportRowsResponse>),
    /// This replica does not know of the move.
    Unknown,
}

/// The next page. Only the shard that the tenant is to go to may ask; where there is nothing new it waits a moment for it.
pub async fn export(
    shard: &Arc<Shard>,
    peer: &PeerId,
    mut asked: ExportRowsRequest,
) -> Result<ExportRowsResponse, ApiError> {
    asked.max_bytes = asked.max_bytes.clamp(1, MAX_BYTES);
    let until = Instant::now() + Duration::from_millis(asked.wait_ms.into()).min(MAX_WAIT);
    let mut looked_up = false;
    loop {
        // Registered before the state is read, so that no change falls in between.
        let mut changes = shard.hub.changes_of(asked.tenant_id);
        match look(shard, peer, &asked).await? {
            Seen::Page(page) => {
                let news = !page.rows.is_empty() || page.frozen.is_some() || page.whole != asked.whole;
                if news || !matches!(timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
                    return Ok(*page);
                }
            }
            Seen::Unknown if looked_up => {
                let text = "this replica does not know of the move (yet)";
                return Err(ApiError::elsewhere(Hint::TryOther, text));
            }
            Seen::Unknown => {
                shard.ownership.ensure(TenantId(asked.tenant_id), Instant::now() + LOOK_UP).await?;
                looked_up = true;
            }
        }
    }
}

async fn look(shard: &Arc<Shard>, peer: &PeerId, asked: &ExportRowsRequest) -> Result<Seen, ApiError> {
    let (node, asked, peer) = (shard.node.clone(), asked.clone(), peer.clone());
    let read = move || {
        node.read(|view| {
            let row = query::tenant(view, TenantId(asked.tenant_id))?.unwrap_or_default();
            if !query::is_tracked(&row, &asked) {
                return Ok(Seen::Unknown);
            }
            admit(&row, &peer)?;
            query::export(view, &row, &asked).map(|page| Seen::Page(Box::new(page)))
        })
    };
    let task = conflux_common::blocking::spawn_blocking(read);
    task.await.map_err(|e| ApiError::new(Code::Internal, format!("the read failed: {e}")))??
}

/// A shard that has been broken into must not read tenants that nobody moves to it.
fn admit(row: &TenantRow, peer: &PeerId) -> Result<(), ApiError> {
    if peer.group.as_ref().is_some_and(|group| group.as_str() == row.moved_to) {
        return Ok(());
    }
    Err(ApiError::new(Code::PermissionDenied, "the tenant is not moved to this shard"))
}
