//! Pages of a tenant's past revisions, from any healthy replica of the group that serves it.

use std::time::Duration;

use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    internal::{HistoryRequest, HistoryResponse, shard_service_client::ShardServiceClient},
    status::from_status,
};
use tokio::{sync::Semaphore, time::timeout};

use super::{cursor::Misfit, hub::Hub};
use crate::upstream::Upstream;

/// Revisions in a page. The shard keeps a page within about a megabyte besides.
const PAGE: u32 = 256;
/// One replica gets so long.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Pages read at once: a gateway that starts anew must not flood the shards with all its watchers' pasts.
const AT_ONCE: usize = 64;
const MAX_PAGE_BYTES: usize = 16 << 20;

/// Reads histories.
pub struct History {
    upstream: Upstream,
    turns: Semaphore,
}

impl History {
    /// Over these connections.
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream, turns: Semaphore::new(AT_ONCE) }
    }

    /// The revisions above `after` up to `to`, or the first of them. Asks each replica once; `fits` says whether an
    /// answer is of use. OUT_OF_RANGE where the history does not go back so far; UNAVAILABLE where nobody could say.
    pub async fn page<T>(
        &self,
        hub: &Hub,
        after: u64,
        to: u64,
        mut fits: impl FnMut(HistoryResponse) -> Result<T, Misfit>,
    ) -> Result<T, ApiError> {
        let _turn = self.turns.acquire().await;
        let route = hub.route();
        let request = HistoryRequest { tenant_id: route.id.0, epoch: route.epoch.0, after, to, limit: PAGE };
        let mut why = String::from("no member is known");
        for peer in self.upstream.by_health(&route.group) {
            let Some(channel) = self.upstream.channel(&route.group, &peer.name) else { continue };
            let mut client = ShardServiceClient::new(channel).max_decoding_message_size(MAX_PAGE_BYTES);
            match timeout(ATTEMPT, client.history(request)).await {
                Ok(Ok(page)) => match fits(page.into_inner()) {
                    Ok(page) => return Ok(page),
                    Err(misfit) => why = format!("{}: {misfit}", peer.name),
                },
                Ok(Err(status)) => {
                    let error = from_status(&status);
                    if error.code == Code::OutOfRange {
                        return Err(error);
                    }
                    why = format!("{}: {error}", peer.name);
                }
                Err(_) => {
                    self.upstream.note_failure(&peer);
                    why = format!("{}: no answer within {ATTEMPT:?}", peer.name);
                }
            }
        }
        tracing::debug!(tenant = %route.id, group = %route.group, after, to, why, "no replica gave the history");
        let text = "the history cannot be read at present: resume later";
        Err(ApiError::new(Code::Unavailable, text).retry_after(Duration::from_millis(500)))
    }
}
