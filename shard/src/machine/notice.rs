//! What an applied command tells this process: the interface between the state machine and the feed.

use conflux_common::ids::{Epoch, Incarnation, Revision, TenantId};
use conflux_proto::internal::FeedEvent;

/// One committed change of what this shard holds. Notices arrive in log order, so those of one tenant by revision.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A tenant has a new revision.
    Revision {
        /// Whose.
        tenant_id: TenantId,
        /// Under which ownership it was committed.
        epoch: Epoch,
        /// The life that the revision belongs to.
        incarnation: Incarnation,
        /// Exactly one more than the one before.
        revision: Revision,
        /// All events of this revision: at least one.
        events: Vec<FeedEvent>,
    },
    /// A tenant came, got another epoch, or went.
    Tenant {
        /// Which.
        tenant_id: TenantId,
        /// What became of it.
        state: TenantState,
        /// The epoch that this shard now has of it.
        epoch: Epoch,
    },
}

/// What this shard is to a tenant. An unknown tenant has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantState {
    /// Serves it.
    Active,
    /// Serves it no more; its rows are going.
    Deleting,
    /// Only the tombstone is left.
    Deleted,
    /// A move copies it to here.
    Importing,
    /// All of it is here; another shard still has it.
    Prepared,
    /// A move has stopped its writes here: another shard is about to have it.
    Frozen,
    /// Another shard has it; its rows are going.
    Moved,
    /// A move to here was given up; what it had copied is going.
    Absent,
}

impl TenantState {
    /// Every state.
    pub const ALL: [TenantState; 8] = [
        TenantState::Active,
        TenantState::Deleting,
        TenantState::Deleted,
        TenantState::Importing,
        TenantState::Prepared,
        TenantState::Frozen,
        TenantState::Moved,
        TenantState::Absent,
    ];

    /// As it is stored and answered.
    pub const fn name(self) -> &'static str {
        match self {
            TenantState::Active => "active",
            TenantState::Deleting => "deleting",
            TenantState::Deleted => "deleted",
            TenantState::Importing => "importing",
            TenantState::Prepared => "prepared",
            TenantState::Frozen => "frozen",
            TenantState::Moved => "moved",
            TenantState::Absent => "absent",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        TenantState::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// Who wants to know what was committed: the feed.
pub trait ChangeSink: Send + Sync + 'static {
    /// Called after the batch is on its way to disk and before the writers are answered, in log order. Must not block.
    fn committed(&self, notices: Vec<Notice>);

    /// A snapshot replaced the whole state: every follower must join anew.
    fn replaced(&self);
}

/// For those who do not follow: tests and tools.
impl ChangeSink for () {
    fn committed(&self, _: Vec<Notice>) {}
    fn replaced(&self) {}
}
