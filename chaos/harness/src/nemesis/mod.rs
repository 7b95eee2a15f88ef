//! Carries the schedule out, heals, and remembers what was done when.

mod backups;
mod certificates;
mod links;
mod moves;
mod operators;
mod storage;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use conflux_tests::{
    Client, Federation,
    federation::runs,
    watch::{Reins, Watcher},
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

pub use self::moves::Moved;
use self::moves::Movers;
use crate::{
    disks::Disks,
    ground::{Ground, ask, tell},
    history::{Clock, Micros},
    plan::{self, Fault, Means, Planned},
    relay::Relay,
};

/// A fault as it came about.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    pub kind: &'static str,
    /// Whom it met, or why it could not be done.
    pub what: String,
    pub landed: bool,
    pub began: Micros,
    pub ended: Micros,
}

/// What it harms with, beside signals.
pub struct Tools {
    pub relay: Option<Relay>,
    pub disks: Option<Disks>,
    /// libfaketime.
    pub clocks: Option<PathBuf>,
    /// Where members note what they promised.
    pub witness: PathBuf,
}

impl Tools {
    /// For a federation that is somebody else's.
    pub fn none() -> Self {
        Self { relay: None, disks: None, clocks: None, witness: PathBuf::new() }
    }
}

/// See the module.
pub struct Nemesis {
    clock: Clock,
    groups: Vec<String>,
    readers: Vec<Vec<Reins>>,
    operators: Vec<Client>,
    federation: Option<Federation>,
    tools: Tools,
    pub done: Arc<Mutex<Vec<Done>>>,
    movers: Movers,
    /// Who ended without being told to.
    pub fallen: Vec<(Micros, String)>,
    /// What an operator asked for with all members up, and did not get.
    pub refused: Vec<(Micros, String)>,
    /// For the names of new members.
    added: usize,
}

impl Nemesis {
    /// `federation`: the one whose processes may be harmed.
    pub fn new(ground: &Ground, federation: Option<Federation>, tools: Tools, clock: Clock) -> Self {
        Self {
            clock,
            groups: ground.groups(),
            readers: ground.tenants.iter().map(|t| t.watchers.iter().map(Watcher::reins).collect()).collect(),
            operators: ground.operators.clone(),
            federation,
            tools,
            done: Arc::default(),
            movers: Movers::new(ground, clock),
            fallen: Vec::new(),
            refused: Vec::new(),
            added: 0,
        }
    }

    /// The federation, to be asked when all is over.
    pub fn federation(&self) -> Option<&Federation> {
        self.federation.as_ref()
    }

    /// What may be done to it.
    pub fn means(&self) -> Means {
        Means {
            processes: self.federation.is_some(),
            links: self.tools.relay.is_some(),
            disks: self.tools.disks.is_some(),
            clocks: self.tools.clocks.is_some(),
        }
    }

    /// Where members note what they promised.
    pub fn witness(&self) -> &Path {
        &self.tools.witness
    }

    /// Gives the federation back, and its disks.
    pub fn into_parts(self) -> (Option<Federation>, Option<Disks>) {
        (self.federation, self.tools.disks)
    }

    /// One fault after the other, each at its time or later; moves beside them, at their times whatever else goes on.
    pub async fn run(&mut self, schedule: &[Planned], until_ms: u64) {
        self.movers.begin(schedule);
        for planned in schedule {
            if matches!(planned.fault, Fault::Move { .. }) {
                continue;
            }
            if self.clock.now() / 1000 >= until_ms {
                break;
            }
            self.clock.sleep_until(planned.at_ms).await;
            self.one(&planned.fault).await;
            tokio::time::sleep(Duration::from_millis(plan::rest_ms(&planned.fault))).await;
        }
        self.clock.sleep_until(until_ms).await;
        self.movers.no_more();
    }

    /// Every move that was begun.
    pub fn moves(&self) -> Vec<Moved> {
        self.movers.moves()
    }

    /// Waits until every move that was begun has ended; how many have not.
    pub async fn moves_end(&mut self, within: Duration) -> usize {
        self.movers.end(within).await
    }

    async fn one(&mut self, fault: &Fault) {
        self.heal();
        let began = self.clock.now();
        let (what, landed) = match self.harm(fault).await {
            Ok(what) => (what, true),
            Err(why) => (format!("not done: {why:#}"), false),
        };
        self.done.lock().push(Done { kind: fault.kind(), what, landed, began, ended: self.clock.now() });
    }

    async fn harm(&mut self, fault: &Fault) -> Result<String> {
        match *fault {
            Fault::KillMember { group, member, down_ms } => {
                let name = self.member(group, member)?;
                self.kill(vec![name], down_ms).await
            }
            Fault::KillLeader { group, down_ms } => {
                let name = self.leader(group).await?;
                self.kill(vec![name], down_ms).await
            }
            Fault::KillMajority { group, down_ms } => {
                let names = vec![self.leader(group).await?, self.follower(group).await?];
                self.kill(names, down_ms).await
            }
            Fault::KillAll { down_ms } => self.kill_all(down_ms).await,
            Fault::PauseMember { group, member, for_ms } => {
                let name = self.member(group, member)?;
                self.pause(&name, for_ms).await
            }
            Fault::PauseLeader { group, for_ms } => {
                let name = self.leader(group).await?;
                self.pause(&name, for_ms).await
            }
            Fault::KillGateway { gateway, down_ms } => {
                let federation = self.owned()?;
                federation.kill_gateway(gateway).await;
                tokio::time::sleep(Duration::from_millis(down_ms)).await;
                federation.start_gateway(gateway);
                Ok(federation.description.gateways[gateway].member.clone())
            }
            Fault::PauseGateway { gateway, for_ms } => {
                let gateway = self.owned()?.description.gateways[gateway].clone();
                stop_and_go(gateway.pid, for_ms).await?;
                Ok(format!("{} for {for_ms} ms", gateway.member))
            }
            Fault::TransferLeader { group } => {
                let (group, from) = (self.groups[group].clone(), self.leader(group).await?);
                tell(&self.operators, &format!("/_cluster/{group}/leader/transfer"), &json!({})).await?;
                Ok(format!("{group}, away from {from}"))
            }
            Fault::Move { .. } => Ok(String::new()),
            Fault::SlowReaders { tenant, for_ms } => self.slow_readers(tenant, for_ms).await,
            Fault::CutLinks { .. }
            | Fault::CutLeader { .. }
            | Fault::CutGateway { .. }
            | Fault::CutFromPlacement { .. }
            | Fault::CutGroups { .. }
            | Fault::SlowLinks { .. }
            | Fault::LossyLinks { .. }
            | Fault::NarrowLinks { .. }
            | Fault::BreakConnections => self.harm_links(fault).await,
            Fault::PowerLoss { .. }
            | Fault::FillDisk { .. }
            | Fault::SlowSync { .. }
            | Fault::FailSync { .. }
            | Fault::FlipBits { .. } => self.harm_disks(fault).await,
            Fault::JumpClock { group, member, by_s, for_ms } => {
                let name = self.member(group, member)?;
                self.jump_clock(&name, by_s, for_ms).await
            }
            Fault::WipeMember { .. }
            | Fault::ReplaceMember { .. }
            | Fault::GrowAndShrink { .. }
            | Fault::RollingRestart { .. }
            | Fault::RotateCertificates { .. }
            | Fault::RevokeCertificates { .. } => self.operate(fault).await,
            Fault::FlipBackup { bits, pick } => self.flip_backup(bits, pick).await,
        }
    }

    /// The watchers of a tenant read nothing for a time. Then every other one is cut off.
    async fn slow_readers(&self, tenant: usize, for_ms: u64) -> Result<String> {
        let readers = self.readers.get(tenant).context("watchers")?;
        readers.iter().for_each(|r| r.hold(true));
        tokio::time::sleep(Duration::from_millis(for_ms)).await;
        readers.iter().step_by(2).for_each(Reins::cut);
        readers.iter().for_each(|r| r.hold(false));
        Ok(format!("{} of tenant {tenant} for {for_ms} ms", readers.len()))
    }

    /// Its process goes on under a false clock, which jumps and jumps back.
    async fn jump_clock(&mut self, name: &str, by_s: i64, for_ms: u64) -> Result<String> {
        let library = self.tools.clocks.clone().context("no libfaketime")?;
        let federation = self.owned()?;
        let file = federation.directory().join(format!("{name}.clock"));
        std::fs::write(&file, "+0")?;
        let file_name = file.display().to_string();
        let env = [
            ("LD_PRELOAD", library.display().to_string().as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file_name),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        federation.kill(name).await;
        federation.set_env(name, env.into());
        federation.restart(name);
        // From its next start on it has the true one.
        federation.set_env(name, Vec::new());
        let group = federation.member(name).group;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        // A leader's clock matters most.
        self.hand_over(&group, name).await;
        std::fs::write(&file, format!("{by_s:+}"))?;
        tokio::time::sleep(Duration::from_millis(for_ms)).await;
        std::fs::write(&file, "+0")?;
        Ok(format!("{name} by {by_s} s for {for_ms} ms"))
    }

    /// Asks for leadership to go to this member; where that is refused, somebody else leads on.
    async fn hand_over(&self, group: &str, to: &str) {
        let _ = tell(&self.operators, &format!("/_cluster/{group}/leader/transfer"), &json!({ "to": to })).await;
    }

    /// What must not happen, and did.
    fn complain(&mut self, words: String) {
        self.refused.push((self.clock.now(), words));
    }

    fn owned(&mut self) -> Result<&mut Federation> {
        self.federation.as_mut().context("its processes are not ours")
    }

    async fn kill(&mut self, names: Vec<String>, down_ms: u64) -> Result<String> {
        let federation = self.owned()?;
        federation.kill_at_once(&names).await;
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        for name in &names {
            federation.restart(name);
        }
        Ok(format!("{} for {down_ms} ms", names.join(", ")))
    }

    async fn kill_all(&mut self, down_ms: u64) -> Result<String> {
        let federation = self.owned()?;
        let names: Vec<String> = federation.description.members.iter().map(|m| m.member.clone()).collect();
        federation.kill_at_once(&names).await;
        let gateways = federation.description.gateways.len();
        for gateway in 0..gateways {
            federation.kill_gateway(gateway).await;
        }
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        for name in &names {
            federation.restart(name);
        }
        for gateway in 0..gateways {
            federation.start_gateway(gateway);
        }
        Ok(format!("{} members and {gateways} gateways", names.len()))
    }

    async fn pause(&mut self, name: &str, for_ms: u64) -> Result<String> {
        let pid = self.owned()?.member(name).pid;
        stop_and_go(pid, for_ms).await?;
        Ok(format!("{name} for {for_ms} ms"))
    }

    fn member(&self, group: usize, member: usize) -> Result<String> {
        let federation = self.federation.as_ref().context("its processes are not ours")?;
        let members = federation.members(&self.groups[group]);
        ensure!(!members.is_empty(), "{} has no members", self.groups[group]);
        Ok(members[member % members.len()].member.clone())
    }

    async fn leader(&self, group: usize) -> Result<String> {
        let answer = ask(&self.operators, &format!("/_cluster/{}/leader", self.groups[group])).await?;
        Ok(answer["member"].as_str().context("no leader is known")?.to_owned())
    }

    async fn follower(&self, group: usize) -> Result<String> {
        let (leader, federation) = (self.leader(group).await?, self.federation.as_ref().context("not ours")?);
        let other = federation.members(&self.groups[group]).into_iter().find(|m| m.member != leader);
        Ok(other.context("one more member")?.member)
    }

    /// Heals links and disks, and starts every process that ended without being told to, and notes it: none ever should.
    pub fn heal(&mut self) {
        if let Some(relay) = &self.tools.relay {
            relay.heal();
        }
        self.readers.iter().flatten().for_each(|r| r.hold(false));
        let Some(federation) = self.federation.as_mut() else { return };
        let now = self.clock.now();
        let mut fallen = Vec::new();
        let members: Vec<_> = federation.description.members.iter().map(|m| (m.member.clone(), m.pid)).collect();
        for (name, _) in members.into_iter().filter(|(_, pid)| !runs(*pid)) {
            federation.restart(&name);
            fallen.push(name);
        }
        for gateway in 0..federation.description.gateways.len() {
            let known = federation.description.gateways[gateway].clone();
            if !runs(known.pid) {
                federation.start_gateway(gateway);
                fallen.push(known.member);
            }
        }
        self.fallen.extend(fallen.iter().map(|name| (now, name.clone())));
        self.done.lock().extend(fallen.into_iter().map(|what| Done {
            kind: "a process ended by itself",
            what,
            landed: true,
            began: now,
            ended: now,
        }));
    }
}

async fn stop_and_go(pid: i32, for_ms: u64) -> Result<()> {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
    tokio::time::sleep(Duration::from_millis(for_ms)).await;
    Ok(kill(Pid::from_raw(pid), Signal::SIGCONT)?)
}
