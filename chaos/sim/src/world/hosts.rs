//! The members and how they are told to run. Small timers and small logs, so that much happens in little time.

use std::{net::SocketAddr, path::Path, rc::Rc};

use conflux_common::{
    settings::{FounderSettings, MemberSettings, PlacementAddress, RaftTuning},
    testing::TestCa,
};
use conflux_placement::{PlacementSettings, settings::MoveSettings};
use conflux_shard::ShardSettings;

use super::{disks, place, trace};
use crate::history::History;

/// The federation.
pub const CLUSTER: &str = "sim";
/// The groups and how many members each has.
pub const GROUPS: [&str; 3] = ["placement", "shard-a", "shard-b"];
const MEMBERS: usize = 3;
/// The port of gateways and operators on every member.
pub const SERVICE_PORT: u16 = 7002;
const RAFT_PORT: u16 = 7001;
const METRICS_PORT: u16 = 7003;

/// The members of a group.
pub fn members(group: &str) -> Vec<String> {
    (1..=MEMBERS).map(|n| format!("{group}-{n}")).collect()
}

/// Every member.
pub fn all() -> Vec<String> {
    GROUPS.into_iter().flat_map(members).collect()
}

/// The group of a member.
pub fn group_of(member: &str) -> &str {
    member.rsplit_once('-').map_or(member, |(group, _)| group)
}

fn address(member: &str, port: u16) -> String {
    format!("{member}:{port}")
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

fn member_settings(ca: &TestCa, group: &str, name: &str) -> anyhow::Result<MemberSettings> {
    let role = if group == "placement" { "placement" } else { "shard" };
    let founder = |member: String| -> anyhow::Result<FounderSettings> {
        Ok(FounderSettings {
            raft_address: address(&member, RAFT_PORT),
            service_address: address(&member, SERVICE_PORT),
            member: member.parse()?,
        })
    };
    Ok(MemberSettings {
        cluster: CLUSTER.parse()?,
        group: group.parse()?,
        member: name.parse()?,
        data_dir: disks::of(name),
        raft_listen: everywhere(RAFT_PORT),
        service_listen: everywhere(SERVICE_PORT),
        metrics_listen: everywhere(METRICS_PORT),
        raft_advertise: None,
        service_advertise: None,
        tls: ca.issue(&format!("conflux://{CLUSTER}/{role}/{group}/{name}")),
        founders: members(group).into_iter().map(founder).collect::<anyhow::Result<_>>()?,
        raft: RaftTuning { snapshot_after_bytes: 48 << 10, keep_log_bytes: 16 << 10, ..RaftTuning::default() },
        log: Default::default(),
    })
}

/// A certificate authority and the settings of every member.
pub fn settings(directory: &Path) -> anyhow::Result<(TestCa, Vec<Settings>)> {
    let ca = TestCa::new(directory);
    let placement = || -> anyhow::Result<Vec<PlacementAddress>> {
        let one = |name: String| Ok(PlacementAddress { address: address(&name, SERVICE_PORT), member: name.parse()? });
        members("placement").into_iter().map(one).collect()
    };
    let mut all = Vec::new();
    for group in GROUPS {
        for name in members(group) {
            let member = member_settings(&ca, group, &name)?;
            all.push(match group {
                "placement" => Settings::Placement(PlacementSettings { member, moves: MoveSettings::default() }),
                _ => Settings::Shard(ShardSettings {
                    weight: 100,
                    member,
                    import_bytes_per_second: 32 << 20,
                    archive: None,
                    placement: placement()?,
                }),
            });
        }
    }
    Ok((ca, all))
}

/// Of one member.
#[derive(Clone)]
pub enum Settings {
    /// Of placement.
    Placement(PlacementSettings),
    /// Of a shard.
    Shard(ShardSettings),
}

impl Settings {
    /// The name of the member, and of its host.
    pub fn name(&self) -> String {
        match self {
            Settings::Placement(settings) => settings.member.member.to_string(),
            Settings::Shard(settings) => settings.member.member.to_string(),
        }
    }

    /// Runs the process. It never ends by itself, or that is noted.
    pub async fn run(self, history: Rc<History>) -> turmoil::Result {
        let name = self.name();
        place::enter(&name);
        trace::note("starts");
        let ended = match self {
            Settings::Placement(settings) => {
                conflux_placement::run(settings, std::future::pending()).await.map_err(|e| e.to_string())
            }
            Settings::Shard(settings) => {
                conflux_shard::run(settings, std::future::pending()).await.map_err(|e| e.to_string())
            }
        };
        let why = ended.err().unwrap_or_else(|| "without an error".into());
        trace::note(format_args!("ENDED BY ITSELF: {why}"));
        history.process_ended(&name, &why);
        std::future::pending().await
    }
}
