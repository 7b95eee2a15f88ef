//! Ill disks, and lost power.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use conflux_tests::federation::runs;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::Nemesis;
use crate::{
    disks,
    ground::tell,
    plan::{Fault, Moment},
};

/// How long a process may take to pass the place at which the power goes.
const PASSES_WITHIN: Duration = Duration::from_secs(4);

impl Nemesis {
    pub(super) async fn harm_disks(&mut self, fault: &Fault) -> Result<String> {
        match *fault {
            Fault::PowerLoss { moment, down_ms } => self.lose_power(moment, down_ms).await,
            Fault::FillDisk { group, member, leave_bytes, for_ms } => {
                let name = self.member(group, member)?;
                let disks = self.tools.disks.as_ref().context("members have no disks of their own")?;
                let filled = disks.fill(&name, leave_bytes);
                if filled.is_ok() {
                    tokio::time::sleep(Duration::from_millis(for_ms)).await;
                }
                disks.empty(&name);
                let filled = filled?;
                let ended = self.start_if_ended(&name).await;
                Ok(format!("{name}: {} MiB taken, {leave_bytes} bytes left, for {for_ms} ms{ended}", filled >> 20))
            }
            Fault::SlowSync { group, member, delay_ms, for_ms } => {
                let name = self.member(group, member)?;
                let file = self.ailment(&name)?;
                std::fs::write(&file, format!("delay {delay_ms}"))?;
                tokio::time::sleep(Duration::from_millis(for_ms)).await;
                let _ = std::fs::remove_file(file);
                Ok(format!("{name}: {delay_ms} ms each, for {for_ms} ms"))
            }
            Fault::FailSync { group, member } => {
                let name = self.member(group, member)?;
                let (file, pid) = (self.ailment(&name)?, self.owned()?.member(&name).pid);
                std::fs::write(&file, "fail")?;
                let start = tokio::time::Instant::now();
                while runs(pid) && start.elapsed() < Duration::from_secs(10) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let _ = std::fs::remove_file(file);
                if runs(pid) {
                    self.complain(format!("{name} went on for 10 s though its log could not be synced"));
                }
                let ended = self.start_if_ended(&name).await;
                Ok(format!("{name}{ended}"))
            }
            Fault::FlipBits { group, member, kept, bits, pick, for_ms } => {
                let name = self.member(group, member)?;
                self.whole(group).await?;
                let federation = self.owned()?;
                // In order, so that its floor says how long its log was: of the last second before a kill it does not know.
                federation.stop(&name).await;
                let flipped = disks::flip(&federation.member(&name).data_dir, kept, bits, pick);
                federation.restart(&name);
                let flipped = flipped?;
                tokio::time::sleep(Duration::from_millis(for_ms)).await;
                let noticed = if runs(self.owned()?.member(&name).pid) { "it went on" } else { "it ended" };
                // An operator whose disk is bad takes another one.
                self.wipe(group, &name).await?;
                Ok(format!("{name}: {flipped}; {noticed}"))
            }
            _ => bail!("not of disks"),
        }
    }

    /// Where its disk is told what to suffer.
    fn ailment(&mut self, name: &str) -> Result<std::path::PathBuf> {
        let federation = self.owned()?;
        Ok(federation.failpoints().join(format!("disk.log_sync@{}", federation.member(name).pid)))
    }

    /// Whoever was harmed so may end; nobody else may.
    async fn start_if_ended(&mut self, name: &str) -> &'static str {
        let Some(federation) = self.federation.as_mut() else { return "" };
        if runs(federation.member(name).pid) {
            return "";
        }
        federation.kill(name).await;
        federation.restart(name);
        "; it ended, and was started again"
    }

    async fn lose_power(&mut self, moment: Moment, down_ms: u64) -> Result<String> {
        let place = match moment {
            Moment::Any => None,
            Moment::Vote => Some("raft.vote_kept"),
            Moment::Entries => Some("raft.entries_kept"),
        };
        if let Some(place) = place {
            self.owned()?.arm(place);
            if moment == Moment::Vote {
                // Whoever follows asks for votes.
                let group = &self.groups[0];
                let _ = tell(&self.operators, &format!("/_cluster/{group}/leader/transfer"), &json!({})).await;
            }
            let start = tokio::time::Instant::now();
            while self.owned()?.is_armed(place) && start.elapsed() < PASSES_WITHIN {
                tokio::task::yield_now().await;
            }
        }
        let disks = self.tools.disks.as_ref().context("members have no disks of their own")?;
        // Nobody may say anything after the power has gone: the kernel calls a sync that was under way then a success.
        let federation = self.federation.as_ref().context("its processes are not ours")?;
        let pids = federation.description.members.iter().map(|m| m.pid);
        stand_still(pids.chain(federation.description.gateways.iter().map(|g| g.pid))).await;
        disks.lose_power()?;
        let federation = self.federation.as_mut().context("its processes are not ours")?;
        let passed = place.is_none_or(|place| !federation.is_armed(place));
        place.into_iter().for_each(|place| federation.disarm(place));
        let names: Vec<String> = federation.description.members.iter().map(|m| m.member.clone()).collect();
        federation.kill_at_once(&names).await;
        let gateways = federation.description.gateways.len();
        for gateway in 0..gateways {
            federation.kill_gateway(gateway).await;
        }
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        disks.regain_power()?;
        names.iter().for_each(|name| federation.restart(name));
        (0..gateways).for_each(|gateway| federation.start_gateway(gateway));
        let at = if passed { "" } else { ", though nobody had passed the place" };
        Ok(format!("{} disks{at}", names.len()))
    }

    /// Kills a member, empties its disk and waits until it votes under a new id.
    pub(super) async fn wipe(&mut self, group: usize, name: &str) -> Result<()> {
        let before = self.node_id(group, name).await;
        let witness = self.tools.witness.clone();
        let federation = self.owned()?;
        federation.kill(name).await;
        let data = federation.member(name).data_dir;
        disks::wipe(&data)?;
        forget(&witness, &data);
        federation.name_founders(name)?;
        federation.restart(name);
        let start = tokio::time::Instant::now();
        while start.elapsed() < super::operators::CHANGES_WITHIN {
            let now = self.node_id(group, name).await;
            if now.is_some() && now != before {
                self.whole(group).await?;
                // What a snapshot gave it shows best while it leads.
                self.hand_over(&self.groups[group], name).await;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.complain(format!("{name} was wiped and did not vote again"));
        bail!("{name} did not vote again")
    }
}

/// SIGSTOP for all of them; returns once no thread of theirs runs.
async fn stand_still(pids: impl Iterator<Item = i32> + Clone) {
    for pid in pids.clone() {
        // One that is gone is still enough.
        let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
    }
    let start = tokio::time::Instant::now();
    while pids.clone().any(moves) && start.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether a thread of the process is neither stopped nor dead.
fn moves(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()).any(|stat| {
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        !matches!(state, Some('T' | 't' | 'Z' | 'X'))
    })
}

/// What a member promised is void: its disk is gone, and it comes back as another one.
fn forget(witness: &Path, data: &Path) {
    let name = data.join("log").display().to_string().replace('/', "_");
    let _ = std::fs::remove_file(witness.join(name));
}
