//! Does what the plan says, and puts everything right at the end.

use std::{collections::BTreeMap, time::Duration};

use conflux_proto::log;
use prost::Message;
use rand::{Rng, rngs::SmallRng};
use turmoil::Sim;

use crate::{
    plan::{Fault, Planned},
    world::{disks, hosts, place, trace},
};

/// The longest that a message takes while nothing is wrong.
pub const USUAL_LATENCY: Duration = Duration::from_millis(4);

/// The one that harms.
pub struct Nemesis {
    plan: Vec<Planned>,
    /// Whether each has begun, and ended.
    begun: Vec<bool>,
    ended: Vec<bool>,
    /// Links that are cut or held, by fault.
    links: BTreeMap<usize, Vec<(String, String)>>,
    /// Whose power goes when they vote, by fault.
    ambushes: BTreeMap<usize, Ambush>,
    random: SmallRng,
    gateways: Vec<String>,
    /// Faults that were done.
    pub done: u64,
    /// Writes that were lost with the power.
    pub lost_writes: u64,
}

impl Nemesis {
    /// With this plan.
    pub fn new(plan: Vec<Planned>, gateways: Vec<String>, random: SmallRng) -> Self {
        let count = plan.len();
        Self {
            plan,
            begun: vec![false; count],
            ended: vec![false; count],
            links: BTreeMap::new(),
            ambushes: BTreeMap::new(),
            random,
            gateways,
            done: 0,
            lost_writes: 0,
        }
    }

    /// Does what is due after so many milliseconds; gives the tenants that are to move.
    pub fn act(&mut self, sim: &mut Sim<'_>, now_ms: u64) -> Vec<usize> {
        let mut moves = Vec::new();
        for at in 0..self.plan.len() {
            let planned = self.plan[at].clone();
            if !self.begun[at] && planned.from_ms <= now_ms {
                self.begun[at] = true;
                self.done += 1;
                trace::note(format_args!("fault {at}: {}", planned.fault));
                match &planned.fault {
                    Fault::Move(tenant) => moves.push(*tenant),
                    fault => self.begin(sim, at, fault),
                }
            }
            self.spring(sim, at, now_ms);
            if self.begun[at] && !self.ended[at] && planned.to_ms <= now_ms {
                self.ended[at] = true;
                self.end(sim, at, &planned.fault);
            }
        }
        moves
    }

    /// Ends all that is under way, and whatever else could be wrong.
    pub fn heal(&mut self, sim: &mut Sim<'_>) {
        for at in 0..self.plan.len() {
            if self.begun[at] && !self.ended[at] {
                self.ended[at] = true;
                let fault = self.plan[at].fault.clone();
                self.end(sim, at, &fault);
            }
        }
        trace::note("everything is healed");
    }

    fn begin(&mut self, sim: &mut Sim<'_>, at: usize, fault: &Fault) {
        match fault {
            Fault::Kill(hosts) => {
                for host in hosts {
                    sim.crash(host.as_str());
                }
            }
            Fault::PowerLoss(hosts) => {
                for host in hosts {
                    sim.crash(host.as_str());
                }
                for host in hosts {
                    self.lose(host);
                }
            }
            Fault::CutOneWay(from, to) => {
                sim.partition_oneway(from.as_str(), to.as_str());
                self.links.insert(at, vec![(from.clone(), to.clone())]);
            }
            Fault::Cut(a, b) => self.cut(sim, at, vec![(a.clone(), b.clone())]),
            Fault::Isolate(host) => {
                let others = hosts::all().into_iter().chain(self.gateways.iter().cloned());
                let links = others.filter(|other| other != host).map(|other| (host.clone(), other)).collect();
                self.cut(sim, at, links);
            }
            Fault::IsolateLeader(group) => self.isolate_leader(sim, at, group),
            Fault::PowerLossAtVote(group) => {
                let votes = hosts::members(group).into_iter().map(|member| (vote(&member), member)).collect();
                self.ambushes.insert(at, Ambush { votes, strike: None, struck: None });
                self.isolate_leader(sim, at, group);
            }
            Fault::Hold(a, b) => {
                sim.hold(a.as_str(), b.as_str());
                self.links.insert(at, vec![(a.clone(), b.clone())]);
            }
            Fault::Slow(ms) => sim.set_max_message_latency(Duration::from_millis(*ms)),
            Fault::Clock(host, ms) => place::set_clock_error(host, *ms),
            Fault::Move(_) => {}
        }
    }

    fn isolate_leader(&mut self, sim: &Sim<'_>, at: usize, group: &str) {
        let leader = leader(group);
        let others = hosts::members(group).into_iter().filter(|other| *other != leader);
        let links = others.map(|other| (leader.clone(), other)).collect();
        trace::note(format_args!("the leader of {group} is {leader}"));
        self.cut(sim, at, links);
    }

    fn lose(&mut self, host: &str) {
        let lost = disks::power_loss(host, &mut self.random);
        self.lost_writes += lost as u64;
        trace::note(format_args!("{host} loses {lost} writes"));
    }

    /// Looks whether somebody has voted, and takes the power of whoever has some milliseconds later.
    fn spring(&mut self, sim: &mut Sim<'_>, at: usize, now_ms: u64) {
        let Some(ambush) = self.ambushes.get_mut(&at).filter(|ambush| ambush.struck.is_none()) else { return };
        if ambush.strike.is_none() {
            let voted = ambush.votes.iter().find(|(before, member)| vote(member) != *before);
            ambush.strike = voted.map(|(_, member)| (now_ms + self.random.random_range(1..14), member.clone()));
        }
        if let Some((_, member)) = ambush.strike.take_if(|(when, _)| *when <= now_ms) {
            ambush.struck = Some(member.clone());
            trace::note(format_args!("{member} has voted"));
            sim.crash(member.as_str());
            self.lose(&member);
        }
    }

    fn cut(&mut self, sim: &Sim<'_>, at: usize, links: Vec<(String, String)>) {
        for (a, b) in &links {
            sim.partition(a.as_str(), b.as_str());
        }
        self.links.insert(at, links);
    }

    fn end(&mut self, sim: &mut Sim<'_>, at: usize, fault: &Fault) {
        if !matches!(fault, Fault::Move(_)) {
            trace::note(format_args!("fault {at} ends"));
        }
        match fault {
            Fault::Kill(hosts) | Fault::PowerLoss(hosts) => {
                for host in hosts {
                    sim.bounce(host.as_str());
                }
            }
            Fault::Slow(_) => sim.set_max_message_latency(USUAL_LATENCY),
            Fault::Clock(host, _) => place::set_clock_error(host, 0),
            Fault::Hold(..) => {
                for (a, b) in self.links.remove(&at).unwrap_or_default() {
                    sim.release(a.as_str(), b.as_str());
                }
            }
            Fault::CutOneWay(..) => {
                for (from, to) in self.links.remove(&at).unwrap_or_default() {
                    sim.repair_oneway(from.as_str(), to.as_str());
                }
            }
            Fault::Cut(..) | Fault::Isolate(_) | Fault::IsolateLeader(_) | Fault::PowerLossAtVote(_) => {
                if let Some(struck) = self.ambushes.remove(&at).and_then(|ambush| ambush.struck) {
                    sim.bounce(struck.as_str());
                }
                for (a, b) in self.links.remove(&at).unwrap_or_default() {
                    sim.repair(a.as_str(), b.as_str());
                }
            }
            Fault::Move(_) => {}
        }
    }
}

/// Waits for a vote.
struct Ambush {
    /// What every member had voted when it began.
    votes: Vec<(Option<log::Vote>, String)>,
    /// Somebody has voted: when its power goes.
    strike: Option<(u64, String)>,
    /// Whose power is gone.
    struck: Option<String>,
}

/// The last vote that a member wrote, synced or not.
fn vote(member: &str) -> Option<log::Vote> {
    let log = rocksdb::simulation::contents(&disks::of(member).join("log"))?;
    log::Vote::decode(log.get("meta", b"vote")?).ok()
}

/// Whoever the members of a group gave the highest vote that a quorum gave: node ids of founders are in the order of their names.
fn leader(group: &str) -> String {
    let members = hosts::members(group);
    let votes = members.iter().filter_map(|member| vote(member));
    let highest = votes.filter(|vote| vote.committed).max_by_key(|vote| vote.term);
    let at = highest.and_then(|vote| usize::try_from(vote.node).ok()).and_then(|node| node.checked_sub(1));
    at.and_then(|at| members.get(at)).unwrap_or(&members[0]).clone()
}
