//! Past events, for who joins a watch or comes back to it.

use std::ops::ControlFlow;

use conflux_common::error::{ApiError, Code};
use conflux_proto::{internal, store};
use conflux_raft::Read;

use super::{TenantRow, failed, mark};
use crate::store::event as row;

/// An answer holds about so many bytes of events at most, so that it stays below the bound of a message.
const MAX_BYTES: usize = 1 << 20;

/// The revisions above `after` up to `to` (0: the present one), at most `limit` of them (0: 1000). Fewer may come: ask
/// again after the last one, until it has reached the revision that the answer names. OUT_OF_RANGE where `after` is below the
/// retained history, with the floor in the details.
pub fn history(
    rows: &dyn Read,
    tenant: &TenantRow,
    after: u64,
    to: u64,
    limit: u32,
) -> Result<internal::HistoryResponse, ApiError> {
    if after < tenant.event_floor {
        return Err(compacted(tenant));
    }
    let limit = if limit == 0 { super::MAX_PAGE } else { (limit as usize).min(super::MAX_PAGE) };
    let to = if to == 0 { tenant.revision } else { to.min(tenant.revision) };
    let mut revisions = Vec::new();
    let mut bytes = 0;
    row::each(rows, tenant.id, after, to, |revision, stored, size| {
        bytes += size;
        if !revisions.is_empty() && bytes > MAX_BYTES {
            return Ok(ControlFlow::Break(()));
        }
        let events = stored.events.into_iter().map(feed_event).collect();
        revisions.push(internal::FeedRevision { revision, incarnation: tenant.incarnation, events });
        Ok(if revisions.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .map_err(failed)?;
    Ok(internal::HistoryResponse {
        revisions,
        floor: tenant.event_floor,
        incarnation: tenant.incarnation,
        revision: tenant.revision,
    })
}

/// OUT_OF_RANGE: the history does not go back so far.
fn compacted(tenant: &TenantRow) -> ApiError {
    let floor = mark(tenant, tenant.event_floor);
    ApiError::new(
        Code::OutOfRange,
        format!("COMPACTED: the history begins after {floor}; read anew and watch from there"),
    )
    .with_detail("floor", floor.to_string())
}

/// A stored event as it travels.
pub(crate) fn feed_event(stored: store::StoredEvent) -> internal::FeedEvent {
    internal::FeedEvent { event: stored.event, rules_before: stored.rules_before, rules_after: stored.rules_after }
}
