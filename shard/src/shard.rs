//! What every call of this process works with: the node, the feed, the look-ups. One, shared.

use std::sync::{Arc, OnceLock};

use conflux_common::error::{ApiError, Hint};
use conflux_raft::RaftNode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    feed::Hub,
    machine::{ChangeSink, Machine, Notice},
    ownership::Ownership,
    retention::archive::Archive,
    transfer::Transit,
    usage::Usage,
};

/// The node of a shard group.
pub type Node = RaftNode<Machine>;

/// Kibibytes of request bodies that are read or being worked on at a time. A gateway bounds its own; there are many.
const BODY_KIB: usize = 256 << 10;

/// Who is told what is committed.
#[derive(Clone, Default)]
pub struct Told {
    /// For those who watch.
    pub hub: Arc<Hub>,
    /// For moves.
    pub transit: Arc<Transit>,
}

impl ChangeSink for Told {
    fn committed(&self, notices: Vec<Notice>) {
        self.transit.committed(&notices);
        self.hub.committed(notices);
    }

    fn replaced(&self) {
        self.transit.replaced();
        self.hub.replaced();
    }
}

/// A replica of a shard group, as its calls see it.
pub struct Shard {
    /// The replicated state.
    pub node: Node,
    /// Its changes.
    pub hub: Arc<Hub>,
    /// Whose tenants are here.
    pub ownership: Ownership,
    /// Which are on their way.
    pub transit: Arc<Transit>,
    /// What clients fetched lately.
    pub usage: Usage,
    /// Where versions are that retention gave up; empty: nowhere.
    pub archive: OnceLock<Arc<dyn Archive>>,
    /// Cancelled when the process is to stop: streams end then.
    pub stopping: CancellationToken,
    bodies: Arc<Semaphore>,
}

impl Shard {
    /// Puts the parts together.
    pub fn new(node: Node, told: Told, ownership: Ownership, stopping: CancellationToken) -> Arc<Self> {
        let bodies = Arc::new(Semaphore::new(BODY_KIB));
        let Told { hub, transit } = told;
        transit.attach(node.clone());
        Arc::new(Self {
            node,
            hub,
            ownership,
            transit,
            usage: Usage::default(),
            archive: OnceLock::new(),
            stopping,
            bodies,
        })
    }

    /// Room for a body of so many bytes while the permit lives; refused, not waited for, where there is none.
    pub fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let full = |_| ApiError::elsewhere(Hint::TryOther, "too many request bodies are being read on this replica");
        self.bodies.clone().try_acquire_many_owned(kib).map_err(full)
    }
}
