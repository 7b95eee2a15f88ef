//! What is done to the federation: a pure function of the seed.

use std::fmt;

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::{clients::TENANTS, world::hosts};

/// Faults and load go on for so long, in milliseconds.
pub const HARM_MS: u64 = 12_000;

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// These processes are killed at one moment; what they wrote stays.
    Kill(Vec<String>),
    /// The power of these machines goes at one moment; what they had not synced is lost.
    PowerLoss(Vec<String>),
    /// Nothing passes from the one to the other.
    CutOneWay(String, String),
    /// Nothing passes between them.
    Cut(String, String),
    /// Nothing passes between this member and anybody.
    Isolate(String),
    /// The leader of this group is isolated, whoever it is then.
    IsolateLeader(String),
    /// The leader of this group is cut off from it, and a member that votes then loses its power some milliseconds after.
    PowerLossAtVote(String),
    /// What is sent between them arrives when it ends, all of it.
    Hold(String, String),
    /// A message between any two takes up to so many milliseconds.
    Slow(u64),
    /// The wall clock of this member is so many milliseconds ahead (below zero: behind).
    Clock(String, i64),
    /// A tenant is moved to the other shard.
    Move(usize),
}

impl Fault {
    /// Whether it is one of the network: of those one at a time.
    pub fn is_of_network(&self) -> bool {
        matches!(
            self,
            Fault::CutOneWay(..)
                | Fault::Cut(..)
                | Fault::Isolate(_)
                | Fault::IsolateLeader(_)
                | Fault::PowerLossAtVote(_)
                | Fault::Hold(..)
        )
    }

    fn hosts(&self) -> &[String] {
        match self {
            Fault::Kill(hosts) | Fault::PowerLoss(hosts) => hosts,
            _ => &[],
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(hosts) => write!(f, "kill {}", hosts.join(" ")),
            Fault::PowerLoss(hosts) => write!(f, "power loss of {}", hosts.join(" ")),
            Fault::CutOneWay(from, to) => write!(f, "nothing passes from {from} to {to}"),
            Fault::Cut(a, b) => write!(f, "nothing passes between {a} and {b}"),
            Fault::Isolate(host) => write!(f, "{host} is cut off"),
            Fault::IsolateLeader(group) => write!(f, "the leader of {group} is cut off"),
            Fault::PowerLossAtVote(group) => {
                write!(f, "the leader of {group} is cut off, and a member that votes then loses its power")
            }
            Fault::Hold(a, b) => write!(f, "messages between {a} and {b} are held back"),
            Fault::Slow(ms) => write!(f, "messages take up to {ms} ms"),
            Fault::Clock(host, ms) => write!(f, "the clock of {host} is wrong by {ms} ms"),
            Fault::Move(tenant) => write!(f, "tenant-{tenant} is to move"),
        }
    }
}

/// A fault from when to when, in milliseconds after the federation was ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// It begins.
    pub from_ms: u64,
    /// It ends.
    pub to_ms: u64,
    /// What it is.
    pub fault: Fault,
}

/// A generator for one purpose of this seed: what is drawn for one does not shift what is drawn for another.
pub fn random(seed: u64, purpose: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(purpose))
}

/// Everything that is done, by when it begins.
pub fn plan(seed: u64) -> Vec<Planned> {
    let mut random = random(seed, 1);
    let mut plan: Vec<Planned> = Vec::new();
    let mut at = random.random_range(200..1500);
    while at < HARM_MS {
        let lasts = random.random_range(300..3500);
        let fault = draw(&mut random);
        let overlaps = plan.iter().any(|other| {
            let same = other.fault.is_of_network() && fault.is_of_network()
                || other.fault.hosts().iter().any(|host| fault.hosts().contains(host));
            same && other.to_ms + 200 > at
        });
        if !overlaps {
            plan.push(Planned { from_ms: at, to_ms: (at + lasts).min(HARM_MS), fault });
        }
        at += random.random_range(150..1800);
    }
    plan
}

fn draw(random: &mut SmallRng) -> Fault {
    let group = hosts::GROUPS.choose(random).copied().unwrap_or("shard-a");
    let members = hosts::members(group);
    let mut two = members.choose_multiple(random, 2).cloned();
    let (one, other) = (two.next().unwrap_or_default(), two.next().unwrap_or_default());
    let all = hosts::all();
    let (far, farther) =
        (all.choose(random).cloned().unwrap_or_default(), all.choose(random).cloned().unwrap_or_default());
    match random.random_range(0..28) {
        0..=1 => Fault::Kill(vec![one]),
        2 => Fault::Kill(members),
        3..=5 => Fault::PowerLoss(vec![one]),
        6..=7 => Fault::PowerLoss(vec![one, other]),
        8..=9 => Fault::PowerLoss(members),
        10..=11 => Fault::CutOneWay(one, other),
        12 => Fault::Cut(one, other),
        13 if far != farther => Fault::Cut(far, farther),
        13 | 14 => Fault::Isolate(one),
        15..=17 => Fault::IsolateLeader(group.to_owned()),
        18 => Fault::Hold(one, other),
        19 => Fault::Slow(random.random_range(20..250)),
        20 => Fault::Clock(one, *[-7_200_000, -90_000, -1_500, 1_500, 90_000, 7_200_000].choose(random).unwrap_or(&0)),
        21..=22 => Fault::PowerLossAtVote(group.to_owned()),
        _ => Fault::Move(random.random_range(0..TENANTS)),
    }
}
