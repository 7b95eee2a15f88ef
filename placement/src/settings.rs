//! What a member of placement is told.

use std::time::Duration;

use conflux_common::settings::{MemberSettings, Problems, Validate};
use serde::{Deserialize, Serialize};

/// The name of placement's own group: gateways and shards look for it under this one.
pub const GROUP: &str = "placement";

/// The settings of one member: a table `[member]`, and one `[moves]` where something in it is not as by default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementSettings {
    /// As of each member of a Raft group; its `group` is `placement`.
    pub member: MemberSettings,
    /// How tenants are moved.
    #[serde(default)]
    pub moves: MoveSettings,
}

/// How the leader moves tenants. The same on all members: whoever leads goes by its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoveSettings {
    /// How long a tenant's writes may wait for the handing over, in milliseconds, 200 to 10,000: past it the move is given up. 1000 by default.
    pub freeze_budget_ms: u64,
    /// Moves that copy from or to one shard at a time, 1 to 64; the others wait for their turn. 2 by default.
    pub per_shard: u32,
    /// A copy that makes no progress for so long is given up, in milliseconds, 1000 to 3,600,000. 15,000 by default.
    pub stall_ms: u64,
}

impl Default for MoveSettings {
    fn default() -> Self {
        Self { freeze_budget_ms: 1000, per_shard: 2, stall_ms: 15_000 }
    }
}

impl MoveSettings {
    /// `freeze_budget_ms`
    pub fn freeze_budget(&self) -> Duration {
        Duration::from_millis(self.freeze_budget_ms)
    }

    /// `stall_ms`
    pub fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_ms)
    }

    /// How long the destination may say that the copy cannot go on: a third of what silence may take.
    pub fn trouble(&self) -> Duration {
        self.stall() / 3
    }
}

impl Validate for PlacementSettings {
    fn validate(&self, problems: &mut Problems) {
        problems.within("member", |problems| {
            self.member.validate(problems);
            problems.require(self.member.group.as_str() == GROUP, "group", "must be `placement`");
        });
        problems.within("moves", |problems| {
            let m = &self.moves;
            problems.require((200..=10_000).contains(&m.freeze_budget_ms), "freeze_budget_ms", "200 to 10000");
            problems.require((1..=64).contains(&m.per_shard), "per_shard", "1 to 64");
            problems.require((1000..=3_600_000).contains(&m.stall_ms), "stall_ms", "1000 to 3600000");
        });
    }
}
