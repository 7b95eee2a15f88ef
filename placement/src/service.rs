//! The handle that everything in a running member shares: the node, and what all calls do with it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    internal::TenantRecord,
    log::{
        PlacementAnswer, PlacementCommand, PlacementRefusal, placement_answer::Result as Answer, placement_command::Op,
    },
};
use conflux_raft::{FatalError, RaftNode, ReadError, View};
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    Placement,
    loads::Loads,
    machine::tenants,
    reconcile::{Shards, progress::Progress},
    settings::MoveSettings,
};

/// A member's own node.
pub type Node = RaftNode<Placement>;

/// A cheap handle.
#[derive(Clone)]
pub struct Service {
    /// The node.
    pub node: Node,
    /// The process stops: streams end.
    pub stopping: CancellationToken,
    /// How tenants are moved.
    pub settings: MoveSettings,
    /// What the leader remembers of the moves under way.
    pub progress: Arc<Progress>,
    /// Calls to shards.
    pub shards: Arc<Shards>,
    /// What shards said of their tenants' loads.
    pub loads: Arc<Loads>,
}

/// What is left until then; at least a moment, so that a late call gets a proper answer.
pub(crate) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

impl Service {
    /// Replicates a command; a refusal is an error that had no effect.
    pub async fn propose(&self, command: &PlacementCommand, until: Instant) -> Result<Answer, ApiError> {
        let (bytes, within) = (Bytes::from(command.encode_to_vec()), left(until));
        let committed = if grows(command) {
            self.node.propose(bytes, within).await?
        } else {
            self.node.propose_shrinking(bytes, within).await?
        };
        let answer = PlacementAnswer::decode(committed.answer)
            .map_err(|e| ApiError::new(Code::Internal, format!("an answer that cannot be read: {e}")))?;
        match answer.result {
            Some(Answer::Refusal(why)) => Err(refusal(why)),
            Some(answer) => Ok(answer),
            None => Err(ApiError::new(Code::Internal, "an answer of a newer release").outcome_unknown()),
        }
    }

    /// The replicated level: what every member can apply.
    pub fn level(&self) -> u32 {
        self.node.status().borrow().level
    }

    /// Reads what is applied here.
    pub fn read<R>(&self, f: impl FnOnce(&View<'_>) -> Result<R, FatalError>) -> Result<R, ApiError> {
        Ok(self.node.read(f)?.map_err(ReadError::Fatal)?)
    }

    /// Reads after a barrier: everything that was committed before the call is seen. Leader only.
    pub async fn read_linearizable<R>(
        &self,
        until: Instant,
        f: impl FnOnce(&View<'_>) -> Result<R, FatalError>,
    ) -> Result<R, ApiError> {
        self.node.read_barrier(left(until)).await?;
        self.read(f)
    }

    /// The tenant as soon as it is as wanted, else as it is then.
    pub async fn wait_for_tenant(
        &self,
        id: u64,
        until: Instant,
        wanted: impl Fn(&TenantRecord) -> bool,
    ) -> Result<Option<TenantRecord>, ApiError> {
        let mut changes = self.node.app().last_change();
        loop {
            // Marked as seen before the look: a change in between wakes us.
            changes.borrow_and_update();
            let tenant = self.read(|view| tenants::by_id_or_gone(view, id))?;
            if tenant.as_ref().is_none_or(&wanted) {
                return Ok(tenant);
            }
            tokio::select! {
                () = self.stopping.cancelled() => return Ok(tenant),
                changed = timeout_at(until, changes.changed()) => if changed.is_err() { return Ok(tenant) },
            }
        }
    }
}

/// Whether it is refused while the disk is nearly full. What takes away goes on, and so do reports: without them gateways
/// would not find the shards' members.
fn grows(command: &PlacementCommand) -> bool {
    matches!(command.op, Some(Op::CreateTenant(_) | Op::PutKey(_) | Op::PutRole(_)))
}

/// What the machine refused, as everybody sees it.
fn refusal(why: PlacementRefusal) -> ApiError {
    let code = Code::from_name(&why.code).unwrap_or(Code::Internal);
    let error = match why.field.as_str() {
        "" => ApiError::new(code, why.message),
        field => ApiError { code, ..ApiError::invalid(field, why.message) },
    };
    if code.retryable() { error.retry_after(Duration::from_secs(1)) } else { error }
}
