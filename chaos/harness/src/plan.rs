//! The schedule of faults: a pure function of the seed, the length and what the federation and the machine allow.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;

use crate::disks::Kept;

/// Which way a cut goes, seen from the one who is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Both,
    /// It hears nothing, and is heard.
    Deaf,
    /// It hears, and nobody hears it.
    Mute,
}

/// At which step of a process all disks lose their power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    Any,
    /// A vote was said to be durable.
    Vote,
    /// Entries were said to be durable.
    Entries,
}

/// What is done to the federation. Members are meant by their number in the group, since names are the federation's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fault {
    /// `kill -9`, and a new process after a time.
    KillMember {
        group: usize,
        member: usize,
        down_ms: u64,
    },
    /// The same to whoever leads then.
    KillLeader {
        group: usize,
        down_ms: u64,
    },
    /// Two of three at once: no majority is left until they are back.
    KillMajority {
        group: usize,
        down_ms: u64,
    },
    /// Every member of every group and every gateway at once.
    KillAll {
        down_ms: u64,
    },
    /// SIGSTOP, and SIGCONT after a time.
    PauseMember {
        group: usize,
        member: usize,
        for_ms: u64,
    },
    /// The same to whoever leads then: it wakes up believing that it still does.
    PauseLeader {
        group: usize,
        for_ms: u64,
    },
    /// `kill -9` of a gateway, and a new process after a time.
    KillGateway {
        gateway: usize,
        down_ms: u64,
    },
    /// SIGSTOP and SIGCONT of a gateway.
    PauseGateway {
        gateway: usize,
        for_ms: u64,
    },
    /// As an operator asks for it.
    TransferLeader {
        group: usize,
    },
    /// To the next shard group; other faults go on meanwhile.
    Move {
        tenant: usize,
    },
    /// Some of the directed links between three members: bit `3 * from + to`, without those to oneself.
    CutLinks {
        group: usize,
        links: u16,
        for_ms: u64,
    },
    /// Between whoever leads then and the others of its group; gateways still reach it.
    CutLeader {
        group: usize,
        way: Way,
        for_ms: u64,
    },
    /// Between a gateway and a shard group.
    CutGateway {
        gateway: usize,
        group: usize,
        way: Way,
        for_ms: u64,
    },
    /// Between a gateway and placement: its routes and keys grow old.
    CutFromPlacement {
        gateway: usize,
        way: Way,
        for_ms: u64,
    },
    /// Between all members of two groups.
    CutGroups {
        one: usize,
        other: usize,
        for_ms: u64,
    },
    /// All links of a group's members.
    SlowLinks {
        group: usize,
        delay_ms: u64,
        jitter_ms: u64,
        for_ms: u64,
    },
    LossyLinks {
        group: usize,
        percent: u32,
        for_ms: u64,
    },
    NarrowLinks {
        group: usize,
        bytes_per_s: u64,
        for_ms: u64,
    },
    /// Every connection between processes, once.
    BreakConnections,
    /// All disks at once, and all processes.
    PowerLoss {
        moment: Moment,
        down_ms: u64,
    },
    /// Almost or quite full.
    FillDisk {
        group: usize,
        member: usize,
        leave_bytes: u64,
        for_ms: u64,
    },
    SlowSync {
        group: usize,
        member: usize,
        delay_ms: u64,
        for_ms: u64,
    },
    /// The process must end; it is started again.
    FailSync {
        group: usize,
        member: usize,
    },
    /// Of a member that is down: then it runs with them for a time, and is wiped and let in anew.
    FlipBits {
        group: usize,
        member: usize,
        kept: Kept,
        bits: u32,
        pick: u64,
        for_ms: u64,
    },
    /// The wall clock of one process jumps, and jumps back.
    JumpClock {
        group: usize,
        member: usize,
        by_s: i64,
        for_ms: u64,
    },
    /// Its disk is lost; it returns under its name by itself.
    WipeMember {
        group: usize,
        member: usize,
    },
    /// A new member takes the place of one that is gone for good.
    ReplaceMember {
        group: usize,
        member: usize,
    },
    /// A fourth member, and away again.
    GrowAndShrink {
        group: usize,
    },
    /// One member after the other, by SIGTERM, as for a new release.
    RollingRestart {
        group: usize,
    },
    /// New certificates for all members while they run; the old ones are revoked.
    RotateCertificates {
        group: usize,
    },
    /// Revokes a stranger's certificate and a member's own while both are in use; the member then gets a new one.
    RevokeCertificates {
        group: usize,
        member: usize,
    },
    /// Takes a backup of everything, flips bits in it, and asks whether it is whole.
    FlipBackup {
        bits: u32,
        pick: u64,
    },
    /// The watchers of a tenant read nothing for a time; then some are cut off and resume.
    SlowReaders {
        tenant: usize,
        for_ms: u64,
    },
}

impl Fault {
    /// Its name in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::KillMember { .. } => "kill a member",
            Fault::KillLeader { .. } => "kill the leader",
            Fault::KillMajority { .. } => "kill a majority",
            Fault::KillAll { .. } => "kill all at once",
            Fault::PauseMember { .. } => "pause a member",
            Fault::PauseLeader { .. } => "pause the leader",
            Fault::KillGateway { .. } => "kill a gateway",
            Fault::PauseGateway { .. } => "pause a gateway",
            Fault::TransferLeader { .. } => "transfer the leader",
            Fault::Move { .. } => "move a tenant",
            Fault::CutLinks { .. } => "cut links in a group",
            Fault::CutLeader { way: Way::Both, .. } => "cut the leader off",
            Fault::CutLeader { way: Way::Deaf, .. } => "make the leader deaf",
            Fault::CutLeader { way: Way::Mute, .. } => "make the leader mute",
            Fault::CutGateway { .. } => "cut a gateway from a shard",
            Fault::CutFromPlacement { .. } => "cut a gateway from placement",
            Fault::CutGroups { .. } => "cut a group from another",
            Fault::SlowLinks { .. } => "slow links",
            Fault::LossyLinks { .. } => "lossy links",
            Fault::NarrowLinks { .. } => "narrow links",
            Fault::BreakConnections => "break all connections",
            Fault::PowerLoss { moment: Moment::Any, .. } => "power loss",
            Fault::PowerLoss { moment: Moment::Vote, .. } => "power loss at a vote",
            Fault::PowerLoss { moment: Moment::Entries, .. } => "power loss at an append",
            Fault::FillDisk { .. } => "full disk",
            Fault::SlowSync { .. } => "slow fsync",
            Fault::FailSync { .. } => "failing fsync",
            Fault::FlipBits { kept: Kept::Log, .. } => "flip bits of a log",
            Fault::FlipBits { kept: Kept::State, .. } => "flip bits of a state",
            Fault::FlipBits { kept: Kept::Snapshot, .. } => "flip bits of a snapshot",
            Fault::JumpClock { .. } => "jump of a clock",
            Fault::WipeMember { .. } => "wipe a member",
            Fault::ReplaceMember { .. } => "replace a member",
            Fault::GrowAndShrink { .. } => "grow and shrink",
            Fault::RollingRestart { .. } => "rolling restart",
            Fault::RotateCertificates { .. } => "rotate certificates",
            Fault::RevokeCertificates { .. } => "revoke certificates in use",
            Fault::FlipBackup { .. } => "flip bits of a backup",
            Fault::SlowReaders { .. } => "slow readers",
        }
    }

    /// How long it lasts by itself; healing and waiting for members comes on top.
    fn lasts_ms(&self) -> u64 {
        match self {
            Fault::KillMember { down_ms: ms, .. }
            | Fault::KillLeader { down_ms: ms, .. }
            | Fault::KillMajority { down_ms: ms, .. }
            | Fault::KillAll { down_ms: ms }
            | Fault::KillGateway { down_ms: ms, .. }
            | Fault::PowerLoss { down_ms: ms, .. }
            | Fault::PauseMember { for_ms: ms, .. }
            | Fault::PauseLeader { for_ms: ms, .. }
            | Fault::PauseGateway { for_ms: ms, .. }
            | Fault::CutLinks { for_ms: ms, .. }
            | Fault::CutLeader { for_ms: ms, .. }
            | Fault::CutGateway { for_ms: ms, .. }
            | Fault::CutFromPlacement { for_ms: ms, .. }
            | Fault::CutGroups { for_ms: ms, .. }
            | Fault::SlowLinks { for_ms: ms, .. }
            | Fault::LossyLinks { for_ms: ms, .. }
            | Fault::NarrowLinks { for_ms: ms, .. }
            | Fault::FillDisk { for_ms: ms, .. }
            | Fault::SlowSync { for_ms: ms, .. }
            | Fault::FlipBits { for_ms: ms, .. }
            | Fault::JumpClock { for_ms: ms, .. }
            | Fault::SlowReaders { for_ms: ms, .. } => *ms,
            _ => 0,
        }
    }
}

/// How long nothing more is done after a fault has ended, so that there is something to be harmed.
pub fn rest_ms(fault: &Fault) -> u64 {
    match fault {
        Fault::KillAll { .. } | Fault::PowerLoss { .. } | Fault::KillMajority { .. } => 5_000,
        _ => 1_200,
    }
}

/// A fault and the earliest time at which it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    pub at_ms: u64,
    #[serde(flatten)]
    pub fault: Fault,
}

/// What there is to be harmed, and what the machine allows.
#[derive(Debug, Clone, Copy)]
pub struct Grounds {
    /// Raft groups, placement among them, as the last one.
    pub groups: usize,
    pub gateways: usize,
    pub tenants: usize,
    /// Whether there are two shard groups to move between.
    pub moves: bool,
    pub means: Means,
}

/// What may be done to the processes of a federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// They are ours: they may be killed, stopped, restarted, and their members changed.
    pub processes: bool,
    /// Their connections go through the relay, and their syncs through failpoints: a debug build.
    pub links: bool,
    /// Each member has a disk of its own.
    pub disks: bool,
    /// libfaketime is there.
    pub clocks: bool,
}

/// However often moves are asked for.
const LEAST_MOVES_MS: u64 = 100;

/// The faults of a run: one track of what is done to processes, links and disks, one of moves, by time. `only`: of the first
/// track those whose kind has one of these words in it; none: all. `moves`: milliseconds between moves; none: 3 to 8 s.
pub fn schedule(seed: u64, seconds: u64, grounds: Grounds, only: &[String], moves: Option<u64>) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let end = seconds * 1000;
    let mut planned = Vec::new();
    let mut at = 3_000;
    // Each kind once before any comes again, so that a short run is not ten times the same.
    let mut bag: BTreeMap<&'static str, Fault> = BTreeMap::new();
    while at < end {
        if bag.is_empty() {
            bag = kinds(&mut rng, grounds);
            bag.retain(|kind, _| only.is_empty() || only.iter().any(|word| kind.contains(word.as_str())));
        }
        let Some(kind) = bag.keys().nth(rng.random_range(0..bag.len().max(1))).copied() else { break };
        let Some(fault) = bag.remove(kind) else { break };
        let lasts = fault.lasts_ms() + rest_ms(&fault);
        planned.push(Planned { at_ms: at, fault });
        at += lasts + rng.random_range(500..3_000);
    }
    let mut at = 4_000;
    while grounds.moves && at < end {
        planned.push(Planned { at_ms: at, fault: Fault::Move { tenant: rng.random_range(0..grounds.tenants) } });
        at += moves.unwrap_or_else(|| rng.random_range(3_000..8_000)).max(LEAST_MOVES_MS);
    }
    planned.sort_by_key(|p| p.at_ms);
    planned
}

/// One fault of each kind that is possible here, by its name.
fn kinds(rng: &mut StdRng, grounds: Grounds) -> BTreeMap<&'static str, Fault> {
    let mut all = vec![Fault::TransferLeader { group: rng.random_range(0..grounds.groups) }];
    all.push(Fault::SlowReaders {
        tenant: rng.random_range(0..grounds.tenants),
        for_ms: rng.random_range(1_000..6_000),
    });
    if grounds.means.processes {
        processes(rng, grounds, &mut all);
        operators(rng, grounds, &mut all);
    }
    if grounds.means.links {
        links(rng, grounds, &mut all);
    }
    if grounds.means.disks {
        disks(rng, grounds, &mut all);
    }
    if grounds.means.clocks {
        let by_s = [-7_200, -90, -3, 3, 90, 7_200, 180_000][rng.random_range(0..7)];
        let (group, member) = member(rng, grounds);
        all.push(Fault::JumpClock { group, member, by_s, for_ms: rng.random_range(2_000..6_000) });
    }
    all.into_iter().map(|fault| (fault.kind(), fault)).collect()
}

fn member(rng: &mut StdRng, grounds: Grounds) -> (usize, usize) {
    (rng.random_range(0..grounds.groups), rng.random_range(0..3))
}

fn processes(rng: &mut StdRng, grounds: Grounds, all: &mut Vec<Fault>) {
    let down = |rng: &mut StdRng| rng.random_range(200..3_000);
    let stopped = |rng: &mut StdRng| rng.random_range(500..5_000);
    let ((group, member), down_ms) = (member(rng, grounds), down(rng));
    all.push(Fault::KillMember { group, member, down_ms });
    let group = rng.random_range(0..grounds.groups);
    all.push(Fault::KillLeader { group, down_ms: down(rng) });
    let group = rng.random_range(0..grounds.groups);
    all.push(Fault::KillMajority { group, down_ms: down(rng) });
    all.push(Fault::KillAll { down_ms: down(rng) });
    let ((group, member), for_ms) = (self::member(rng, grounds), stopped(rng));
    all.push(Fault::PauseMember { group, member, for_ms });
    let group = rng.random_range(0..grounds.groups);
    all.push(Fault::PauseLeader { group, for_ms: stopped(rng) });
    let gateway = rng.random_range(0..grounds.gateways);
    all.push(Fault::KillGateway { gateway, down_ms: down(rng) });
    all.push(Fault::PauseGateway { gateway: rng.random_range(0..grounds.gateways), for_ms: stopped(rng) });
}

fn operators(rng: &mut StdRng, grounds: Grounds, all: &mut Vec<Fault>) {
    let (group, member) = member(rng, grounds);
    all.push(Fault::WipeMember { group, member });
    let (group, member) = self::member(rng, grounds);
    all.push(Fault::ReplaceMember { group, member });
    all.push(Fault::GrowAndShrink { group: rng.random_range(0..grounds.groups) });
    all.push(Fault::RollingRestart { group: rng.random_range(0..grounds.groups) });
    all.push(Fault::RotateCertificates { group: rng.random_range(0..grounds.groups) });
    let (group, member) = self::member(rng, grounds);
    all.push(Fault::RevokeCertificates { group, member });
    all.push(Fault::FlipBackup { bits: rng.random_range(1..9), pick: rng.random() });
}

/// The directed links of three members, as bits of [`Fault::CutLinks`].
const LINKS: u16 = 0b011_101_110;

fn links(rng: &mut StdRng, grounds: Grounds, all: &mut Vec<Fault>) {
    let for_ms = |rng: &mut StdRng| rng.random_range(1_000..7_000);
    let group = |rng: &mut StdRng| rng.random_range(0..grounds.groups);
    let mut cut = rng.random_range(1..512) & LINKS;
    if cut == 0 {
        cut = LINKS;
    }
    all.push(Fault::CutLinks { group: group(rng), links: cut, for_ms: for_ms(rng) });
    for way in [Way::Both, Way::Deaf, Way::Mute] {
        all.push(Fault::CutLeader { group: group(rng), way, for_ms: for_ms(rng) });
    }
    let way = [Way::Both, Way::Deaf, Way::Mute][rng.random_range(0..3)];
    let (gateway, shard) = (rng.random_range(0..grounds.gateways), rng.random_range(0..grounds.groups - 1));
    all.push(Fault::CutGateway { gateway, group: shard, way, for_ms: for_ms(rng) });
    let gateway = rng.random_range(0..grounds.gateways);
    all.push(Fault::CutFromPlacement { gateway, way, for_ms: for_ms(rng) });
    let one = group(rng);
    let other = (one + rng.random_range(1..grounds.groups.max(2))) % grounds.groups;
    all.push(Fault::CutGroups { one, other, for_ms: for_ms(rng) });
    let (delay_ms, jitter_ms) = (rng.random_range(5..150), rng.random_range(0..100));
    all.push(Fault::SlowLinks { group: group(rng), delay_ms, jitter_ms, for_ms: for_ms(rng) });
    all.push(Fault::LossyLinks { group: group(rng), percent: rng.random_range(1..30), for_ms: for_ms(rng) });
    let bytes_per_s = rng.random_range(10..200) << 10;
    all.push(Fault::NarrowLinks { group: group(rng), bytes_per_s, for_ms: for_ms(rng) });
    all.push(Fault::BreakConnections);
    let ((group, member), delay_ms) = (member(rng, grounds), rng.random_range(20..800));
    all.push(Fault::SlowSync { group, member, delay_ms, for_ms: for_ms(rng) });
    let (group, member) = self::member(rng, grounds);
    all.push(Fault::FailSync { group, member });
}

fn disks(rng: &mut StdRng, grounds: Grounds, all: &mut Vec<Fault>) {
    for moment in [Moment::Any, Moment::Vote, Moment::Entries] {
        all.push(Fault::PowerLoss { moment, down_ms: rng.random_range(200..1_500) });
    }
    let (group, member) = member(rng, grounds);
    let leave_bytes = [0, 40 << 20][rng.random_range(0..2)];
    all.push(Fault::FillDisk { group, member, leave_bytes, for_ms: rng.random_range(1_500..5_000) });
    for kept in [Kept::Log, Kept::State, Kept::Snapshot] {
        let (group, member) = self::member(rng, grounds);
        let (bits, pick, for_ms) = (rng.random_range(1..9), rng.random(), rng.random_range(2_000..5_000));
        all.push(Fault::FlipBits { group, member, kept, bits, pick, for_ms });
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
