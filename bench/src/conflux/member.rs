//! Members of groups: who leads, `kill -9`, a start after it, what they say of themselves and have on disk.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::Method;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use super::{Federation, Member};
use crate::process;

/// Between two questions to who is starting.
const ASK_EVERY: Duration = Duration::from_millis(20);

impl Federation {
    /// The name of the group's leader.
    pub async fn leader(&self, group: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let status = self.operate(Method::GET, &format!("/_cluster/{group}/status"), None).await;
            let members = status.as_ref().ok().and_then(|s| s["members"].as_array());
            let leader = members.and_then(|all| all.iter().find(|m| m["status"]["state"] == "leader"));
            if let Some(name) = leader.and_then(|m| m["member"].as_str()) {
                return Ok(name.to_owned());
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("{group} has no leader");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The names of a group's members.
    pub fn members(&self, group: &str) -> Vec<String> {
        self.description.members.iter().filter(|m| m.group == group).map(|m| m.member.clone()).collect()
    }

    /// The process of a member.
    pub fn pid(&self, member: &str) -> Result<i32> {
        Ok(self.member(member)?.pid)
    }

    /// Where a member keeps everything.
    pub fn data_dir(&self, member: &str) -> Result<PathBuf> {
        Ok(self.member(member)?.data_dir.clone())
    }

    /// The service ports of a group's members.
    pub fn service_addresses(&self, group: &str) -> Vec<String> {
        self.description.members.iter().filter(|m| m.group == group).map(|m| m.address.clone()).collect()
    }

    /// `kill -9`.
    pub fn kill(&self, member: &str) -> Result<()> {
        Ok(kill(Pid::from_raw(self.member(member)?.pid), Signal::SIGKILL)?)
    }

    /// SIGTERM; returns once the process is gone.
    pub async fn stop(&mut self, member: &str) -> Result<()> {
        let pid = self.member(member)?.pid;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        gone(pid).await
    }

    /// Starts a member that was killed or stopped, and returns once it says that it is ready: how long that took.
    pub async fn start_again(&mut self, name: &str) -> Result<Duration> {
        let member = self.member(name)?.clone();
        if let Some(mut child) = self.restarted.remove(name) {
            child.wait().await?;
        }
        let start = Instant::now();
        let child = launch(&self.binary, &member.role, &member.config_file, &member.log_file)?;
        let pid = child.id().context("a process that has just been started")? as i32;
        for m in self.description.members.iter_mut().filter(|m| m.member == name) {
            m.pid = pid;
        }
        self.restarted.insert(name.to_owned(), child);
        ready(&member.metrics_url, name, pid).await?;
        Ok(start.elapsed())
    }

    /// The same, and returns once all of its group follow a leader.
    pub async fn restart(&mut self, name: &str) -> Result<()> {
        self.start_again(name).await?;
        let group = self.member(name)?.group.clone();
        let start = Instant::now();
        loop {
            let status = self.operate(Method::GET, &format!("/_cluster/{group}/status"), None).await;
            let members = status.as_ref().ok().and_then(|s| s["members"].as_array());
            if members.is_some_and(|all| all.iter().all(|m| m["status"]["leader"].is_u64())) {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(60) {
                bail!("{name} did not come back");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The sum of a metric of a member over its labels; 0 where it says nothing of it.
    pub async fn metric(&self, member: &str, name: &str) -> Result<f64> {
        let text = process::get(&self.member(member)?.metrics_url, "/metrics").await?.1;
        let lines = text.lines().filter_map(|l| l.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
        Ok(lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.description.members.iter().find(|m| m.member == name).with_context(|| format!("no member {name}"))
    }
}

/// Starts one process of the federation by its settings file.
pub(super) fn launch(binary: &Path, role: &str, config: &Path, log: &Path) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    let command = Command::new(binary)
        .arg(role)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn();
    command.with_context(|| format!("starting {} {role}", binary.display()))
}

/// Waits until a process says `ready`.
pub(super) async fn ready(metrics_url: &str, name: &str, pid: i32) -> Result<()> {
    let start = Instant::now();
    loop {
        if process::get(metrics_url, "/readyz").await.is_ok_and(|(status, _)| status == 200) {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(300) || !process::runs(pid) {
            bail!("{name} was not ready after {:?}", start.elapsed());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

pub(super) async fn gone(pid: i32) -> Result<()> {
    let start = Instant::now();
    while process::runs(pid) {
        if start.elapsed() > Duration::from_secs(30) {
            bail!("process {pid} does not end");
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}
