//! What a shard member is told.

use conflux_common::settings::{MemberSettings, PlacementAddress, Problems, Validate};
use serde::{Deserialize, Serialize};

use crate::retention::archive::ArchiveSettings;

/// The TOML file of `conflux shard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSettings {
    /// Share of new tenants that this shard takes, against the weights of the others. Placement takes it from the first
    /// report; an operator may change it there. 1 to 10000.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// This process: ports, certificate, data directory, group.
    pub member: MemberSettings,
    /// Bytes a second that this member copies when tenants move to its shard, all of them together: 1048576 (1 MiB) and more.
    #[serde(default = "default_import")]
    pub import_bytes_per_second: u64,
    /// Where versions go that retention gives up; absent: nowhere.
    #[serde(default)]
    pub archive: Option<ArchiveSettings>,
    /// The members of placement, any of which is asked.
    pub placement: Vec<PlacementAddress>,
}

fn default_weight() -> u32 {
    100
}

fn default_import() -> u64 {
    32 << 20
}

impl Validate for ShardSettings {
    fn validate(&self, problems: &mut Problems) {
        problems.require((1..=10_000).contains(&self.weight), "weight", format!("{} is not 1 to 10000", self.weight));
        problems.require(
            self.import_bytes_per_second >= 1 << 20,
            "import_bytes_per_second",
            format!("{} is less than 1 MiB (1048576): no tenant would arrive", self.import_bytes_per_second),
        );
        problems.within("member", |problems| {
            self.member.validate(problems);
            let own = self.member.group.as_str() == "placement";
            problems.require(!own, "group", "`placement` is the name of placement's own group");
        });
        if let Some(archive) = &self.archive {
            problems.within("archive", |problems| archive.validate(problems));
        }
        problems.require(!self.placement.is_empty(), "placement", "name at least one member, each a [[placement]]");
        problems.within("placement", |problems| self.placement.validate(problems));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [member]
        cluster = "dev"
        group = "shard-a"
        member = "shard-a-1"
        data_dir = "/data"
        raft_listen = "127.0.0.1:1"
        service_listen = "127.0.0.1:2"
        metrics_listen = "127.0.0.1:3"
        [member.tls]
        cert = "/c"
        key = "/k"
        ca = "/ca"
        [[member.founders]]
        member = "shard-a-1"
        raft_address = "127.0.0.1:1"
        service_address = "127.0.0.1:2"
        [[placement]]
        member = "placement-1"
        address = "127.0.0.1:9"
    "#;

    fn paths(settings: &ShardSettings) -> Vec<String> {
        settings.problems().into_iter().map(|p| p.path).collect()
    }

    /// A file with nothing but what is needed must load, with the default weight.
    #[test]
    fn a_file_without_options_loads() {
        let settings: ShardSettings = toml::from_str(FILE).unwrap();
        assert_eq!((settings.weight, settings.placement.len()), (100, 1));
        assert_eq!(paths(&settings), Vec::<String>::new());
    }

    /// A misspelt or impossible setting must stop the process, not be ignored.
    #[test]
    fn what_cannot_be_is_refused() {
        assert!(toml::from_str::<ShardSettings>(&format!("wieght = 5\n{FILE}")).is_err());
        let mut settings: ShardSettings = toml::from_str(FILE).unwrap();
        settings.weight = 0;
        settings.import_bytes_per_second = 10;
        settings.placement.clear();
        settings.member.data_dir = "relative".into();
        settings.archive = Some(ArchiveSettings::default());
        assert_eq!(
            paths(&settings),
            ["weight", "import_bytes_per_second", "member.data_dir", "archive.directory", "placement"]
        );
    }
}
