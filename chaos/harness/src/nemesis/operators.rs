//! What operators do while it runs: members change, processes are renewed.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use conflux_tests::command::conflux;
use serde_json::Value;

use super::Nemesis;
use crate::{ground::ask, plan::Fault};

/// How long a change of membership may take, with everybody up.
pub(super) const CHANGES_WITHIN: Duration = Duration::from_secs(90);

impl Nemesis {
    pub(super) async fn operate(&mut self, fault: &Fault) -> Result<String> {
        match *fault {
            Fault::WipeMember { group, member } => {
                let name = self.member(group, member)?;
                self.whole(group).await?;
                self.wipe(group, &name).await?;
                Ok(name)
            }
            Fault::ReplaceMember { group, member } => {
                let old = self.member(group, member)?;
                self.whole(group).await?;
                self.owned()?.kill(&old).await;
                let new = self.add(group).await?;
                if group == self.placement() {
                    self.introduce(&old, &new).await?;
                }
                self.command(group, &["replace-node", &old, "--with", &new]).await?;
                self.part_with(&old);
                Ok(format!("{old} by {new}"))
            }
            Fault::GrowAndShrink { group } => {
                self.whole(group).await?;
                let new = self.add(group).await?;
                self.command(group, &["add-node", &new]).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                self.command(group, &["remove-node", &new]).await?;
                self.owned()?.kill(&new).await;
                self.part_with(&new);
                Ok(format!("{new} came and went"))
            }
            Fault::RollingRestart { group } => {
                let names = self.roll(group).await?;
                Ok(names.join(", "))
            }
            Fault::RotateCertificates { group } => self.rotate(group).await,
            Fault::RevokeCertificates { group, member } => self.revoke(group, member).await,
            _ => bail!("no operator does it"),
        }
    }

    /// Starts each member of a group again, the leader last.
    async fn roll(&mut self, group: usize) -> Result<Vec<String>> {
        self.whole(group).await?;
        let names = self.followers_first(group).await?;
        for name in &names {
            let federation = self.owned()?;
            federation.stop(name).await;
            federation.restart(name);
            self.command(group, &["restart-plan", "--check", name]).await?;
        }
        Ok(names)
    }

    /// Tells gateways and shards of a member of placement that comes for another one, before it may lead: they know them by their
    /// settings.
    async fn introduce(&mut self, old: &str, new: &str) -> Result<()> {
        self.owned()?.name_in_settings(old, new)?;
        for gateway in 0..self.owned()?.description.gateways.len() {
            self.owned()?.restart_gateway(gateway).await;
            self.ready(gateway).await?;
        }
        for group in 0..self.placement() {
            self.roll(group).await?;
        }
        Ok(())
    }

    /// Returns once a gateway that was started says that it may be sent requests.
    async fn ready(&mut self, gateway: usize) -> Result<()> {
        let operator = self.operators.get(gateway).context("an operator's client of this gateway")?;
        let ready = async {
            while !operator.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(CHANGES_WITHIN, ready).await.is_ok() {
            return Ok(());
        }
        let words = format!("gateway {gateway} was not ready {} s after its start", CHANGES_WITHIN.as_secs());
        self.complain(words.clone());
        bail!(words)
    }

    /// What the group says of a member: its id, once it is a voter.
    pub(super) async fn node_id(&self, group: usize, name: &str) -> Option<u64> {
        let status = ask(&self.operators, &format!("/_cluster/{}/status", self.groups[group])).await.ok()?;
        let members = status["members"].as_array()?;
        let member = members.iter().find(|m| m["member"] == name && m["voter"] == true)?;
        member["node_id"].as_u64()
    }

    /// Returns once all members of a group are voters that answer, and one leads. A group that was healed must come to that.
    pub(super) async fn whole(&mut self, group: usize) -> Result<()> {
        let names = self.names(group)?;
        let path = format!("/_cluster/{}/status", self.groups[group]);
        let start = tokio::time::Instant::now();
        let mut last = Value::Null;
        while start.elapsed() < CHANGES_WITHIN {
            if let Ok(status) = ask(&self.operators, &path).await {
                if is_whole(&status, &names) {
                    return Ok(());
                }
                last = status;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.complain(format!("{} did not become whole: {last}", self.groups[group]));
        bail!("{} did not become whole", self.groups[group])
    }

    /// A new member's process, which waits to be let in.
    async fn add(&mut self, group: usize) -> Result<String> {
        self.added += 1;
        let (group, name) = (self.groups[group].clone(), format!("{}-new-{}", self.groups[group], self.added));
        let federation = self.federation.as_mut().context("its processes are not ours")?;
        if let Some(disks) = &mut self.tools.disks {
            disks.add(&name, &federation.directory().join(&name).join("data"))?;
        }
        federation.add_member(&group, &name).await?;
        Ok(name)
    }

    /// A member that has gone for good.
    fn part_with(&mut self, name: &str) {
        if let Some(federation) = &mut self.federation {
            federation.description.members.retain(|m| m.member != name);
        }
        if let Some(disks) = &mut self.tools.disks {
            disks.remove(name);
        }
    }

    /// `conflux cluster GROUP ..`; with all members up it must succeed.
    async fn command(&mut self, group: usize, words: &[&str]) -> Result<()> {
        let seconds = CHANGES_WITHIN.as_secs().to_string();
        let mut all = vec!["cluster", &self.groups[group]];
        all.extend(words);
        all.extend(["--timeout", &seconds]);
        let federation = self.federation.as_ref().context("its processes are not ours")?;
        let said = conflux(federation, &all).await;
        if said.code != 0 {
            let words = format!("conflux {}: {} {}", all.join(" "), said.out.trim(), said.err.trim());
            self.complain(words.clone());
            bail!(words);
        }
        Ok(())
    }

    async fn followers_first(&mut self, group: usize) -> Result<Vec<String>> {
        let leader = self.leader(group).await?;
        let mut names = self.names(group)?;
        names.sort_by_key(|name| *name == leader);
        Ok(names)
    }
}

fn is_whole(status: &Value, names: &[String]) -> bool {
    let Some(members) = status["members"].as_array() else { return false };
    let state = |m: &Value| m["status"]["state"].as_str().unwrap_or_default().to_owned();
    let voters = names.iter().all(|name| {
        let member = members.iter().find(|m| m["member"] == **name);
        member.is_some_and(|m| m["voter"] == true && matches!(state(m).as_str(), "leader" | "follower"))
    });
    voters && members.iter().filter(|m| state(m) == "leader").count() == 1
}
