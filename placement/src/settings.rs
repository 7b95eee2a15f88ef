//! What a member of placement is told.

use conflux_common::settings::{MemberSettings, Problems, Validate};
use serde::{Deserialize, Serialize};

/// The name of placement's own group: gateways and shards look for it under this one.
pub const GROUP: &str = "placement";

/// The settings of one member: a table `[member]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementSettings {
    /// As of each member of a Raft group; its `group` is `placement`.
    pub member: MemberSettings,
}

impl Validate for PlacementSettings {
    fn validate(&self, problems: &mut Problems) {
        problems.within("member", |problems| {
            self.member.validate(problems);
            problems.require(self.member.group.as_str() == GROUP, "group", "must be `placement`");
        });
    }
}
