//! The schedule of faults: a pure function of the seed, the length and what the federation allows.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;

/// What is done to the federation. Members are meant by their number in the group, since names are the federation's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fault {
    /// `kill -9`, and a new process after a time.
    KillMember { group: usize, member: usize, down_ms: u64 },
    /// The same to whoever leads then.
    KillLeader { group: usize, down_ms: u64 },
    /// Two of three at once: no majority is left until they are back.
    KillMajority { group: usize, down_ms: u64 },
    /// Every member of every group and every gateway at once.
    KillAll { down_ms: u64 },
    /// SIGSTOP, and SIGCONT after a time.
    PauseMember { group: usize, member: usize, for_ms: u64 },
    /// The same to whoever leads then: it wakes up believing that it still does.
    PauseLeader { group: usize, for_ms: u64 },
    /// `kill -9` of a gateway, and a new process after a time.
    KillGateway { gateway: usize, down_ms: u64 },
    /// SIGSTOP and SIGCONT of a gateway.
    PauseGateway { gateway: usize, for_ms: u64 },
    /// As an operator asks for it.
    TransferLeader { group: usize },
    /// To the next shard group; other faults go on meanwhile.
    Move { tenant: usize },
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
        }
    }
}

/// A fault and the earliest time at which it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    pub at_ms: u64,
    #[serde(flatten)]
    pub fault: Fault,
}

/// What there is to be harmed.
#[derive(Debug, Clone, Copy)]
pub struct Grounds {
    /// Raft groups, placement among them.
    pub groups: usize,
    pub gateways: usize,
    pub tenants: usize,
    /// Whether processes may be killed and stopped.
    pub processes: bool,
    /// Whether there are two shard groups to move between.
    pub moves: bool,
}

/// The faults of a run: one track of what is done to processes and leaders, one of moves, by time.
pub fn schedule(seed: u64, seconds: u64, grounds: Grounds) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let end = seconds * 1000;
    let mut planned = Vec::new();
    let mut at = 3_000;
    while at < end {
        let fault = if grounds.processes { harm(&mut rng, grounds) } else { transfer(&mut rng, grounds) };
        let lasts = lasts_ms(&fault);
        planned.push(Planned { at_ms: at, fault });
        at += lasts + rng.random_range(1_500..4_000);
    }
    let mut at = 4_000;
    while grounds.moves && at < end {
        planned.push(Planned { at_ms: at, fault: Fault::Move { tenant: rng.random_range(0..grounds.tenants) } });
        at += rng.random_range(3_000..8_000);
    }
    planned.sort_by_key(|p| p.at_ms);
    planned
}

fn transfer(rng: &mut StdRng, grounds: Grounds) -> Fault {
    Fault::TransferLeader { group: rng.random_range(0..grounds.groups) }
}

fn harm(rng: &mut StdRng, grounds: Grounds) -> Fault {
    let group = rng.random_range(0..grounds.groups);
    let (member, gateway) = (rng.random_range(0..3), rng.random_range(0..grounds.gateways));
    let (down_ms, for_ms) = (rng.random_range(200..3_000), rng.random_range(500..5_000));
    match rng.random_range(0..100) {
        0..12 => Fault::KillMember { group, member, down_ms },
        12..32 => Fault::KillLeader { group, down_ms },
        32..38 => Fault::KillMajority { group, down_ms },
        38..42 => Fault::KillAll { down_ms },
        42..52 => Fault::PauseMember { group, member, for_ms },
        52..72 => Fault::PauseLeader { group, for_ms },
        72..80 => Fault::KillGateway { gateway, down_ms },
        80..86 => Fault::PauseGateway { gateway, for_ms },
        _ => transfer(rng, grounds),
    }
}

fn lasts_ms(fault: &Fault) -> u64 {
    match fault {
        Fault::KillMember { down_ms, .. }
        | Fault::KillLeader { down_ms, .. }
        | Fault::KillMajority { down_ms, .. }
        | Fault::KillAll { down_ms }
        | Fault::KillGateway { down_ms, .. } => *down_ms,
        Fault::PauseMember { for_ms, .. } | Fault::PauseLeader { for_ms, .. } | Fault::PauseGateway { for_ms, .. } => {
            *for_ms
        }
        Fault::TransferLeader { .. } | Fault::Move { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Grounds = Grounds { groups: 3, gateways: 2, tenants: 2, processes: true, moves: true };

    /// A seed found to break something must break it again.
    #[test]
    fn a_seed_gives_one_schedule() {
        assert_eq!(schedule(7, 600, ALL), schedule(7, 600, ALL));
        assert_ne!(schedule(7, 600, ALL), schedule(8, 600, ALL));
        let first: Vec<Planned> = schedule(7, 60, ALL);
        assert!(first.windows(2).all(|w| w[0].at_ms <= w[1].at_ms));
    }

    /// Somebody else's federation is asked for what any operator may ask, and no process of it is touched.
    #[test]
    fn what_runs_already_is_not_killed() {
        let gentle = schedule(7, 600, Grounds { processes: false, ..ALL });
        assert!(gentle.len() > 100);
        assert!(gentle.iter().all(|p| matches!(p.fault, Fault::TransferLeader { .. } | Fault::Move { .. })));
    }

    /// Ten minutes see every kind.
    #[test]
    fn a_long_run_sees_every_kind() {
        let kinds: std::collections::BTreeSet<_> = schedule(1, 1200, ALL).iter().map(|p| p.fault.kind()).collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }
}
