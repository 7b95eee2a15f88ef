//! What every call of this process works with: the node, the feed, the look-ups. One, shared.

use std::sync::Arc;

use conflux_common::error::{ApiError, Hint};
use conflux_raft::RaftNode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{feed::Hub, machine::Machine, ownership::Ownership, usage::Usage};

/// The node of a shard group.
pub type Node = RaftNode<Machine>;

/// Kibibytes of request bodies that are read or being worked on at a time. A gateway bounds its own; there are many.
const BODY_KIB: usize = 256 << 10;

/// A replica of a shard group, as its calls see it.
pub struct Shard {
    /// The replicated state.
    pub node: Node,
    /// Its changes.
    pub hub: Arc<Hub>,
    /// Whose tenants are here.
    pub ownership: Ownership,
    /// What clients fetched lately.
    pub usage: Usage,
    /// Cancelled when the process is to stop: streams end then.
    pub stopping: CancellationToken,
    bodies: Arc<Semaphore>,
}

impl Shard {
    /// Puts the parts together.
    pub fn new(node: Node, hub: Arc<Hub>, ownership: Ownership, stopping: CancellationToken) -> Arc<Self> {
        let bodies = Arc::new(Semaphore::new(BODY_KIB));
        Arc::new(Self { node, hub, ownership, usage: Usage::default(), stopping, bodies })
    }

    /// Room for a body of so many bytes while the permit lives; refused, not waited for, where there is none.
    pub fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let full = |_| ApiError::elsewhere(Hint::TryOther, "too many request bodies are being read on this replica");
        self.bodies.clone().try_acquire_many_owned(kib).map_err(full)
    }
}
