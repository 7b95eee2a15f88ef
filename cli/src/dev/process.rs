//! The members as processes of their own: started, watched, and stopped in order.

use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::Command,
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    layout::Layout,
    plan::{Member, Role},
};

/// A member that has not ended so long after SIGTERM is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// A log file that has grown past this is put aside at the next start.
const LOG_BYTES: u64 = 16 << 20;

/// A started member.
#[derive(Debug)]
pub struct Process {
    pub member: Member,
    pub pid: u32,
    /// Where in its log file this run begins.
    pub log_from: u64,
    ended: watch::Receiver<Option<ExitStatus>>,
}

/// A member that ended.
#[derive(Debug)]
pub struct Ended {
    pub name: String,
    pub pid: u32,
    pub status: ExitStatus,
}

/// Starts one member. Its output goes straight into its log file, so that it does not depend on this process.
///
/// To be called on the thread that lives as long as the program: Linux kills the children when the THREAD that started
/// them ends (`--die-with-parent`, see [`crate::service`]).
pub fn start(layout: &Layout, member: Member, exits: mpsc::Sender<Ended>) -> anyhow::Result<Process> {
    let log = open_log(layout.log(&member))?;
    let log_from = log.metadata()?.len();
    let mut child = Command::new(std::env::current_exe().context("this program does not know its own path")?)
        .arg(member.role.name())
        .arg("--config")
        .arg(layout.config(&member))
        .args(["--die-with-parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C goes to the whole foreground group: the members shall be stopped by us, in order.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", member.name))?;
    let pid = child.id().with_context(|| format!("{} ended at once", member.name))?;
    let (tell, ended) = watch::channel(None);
    let name = member.name.clone();
    tokio::spawn(async move {
        match child.wait().await {
            Ok(status) => {
                tell.send_replace(Some(status));
                // Nobody may be listening any more; then nobody wants to know.
                let _ = exits.send(Ended { name, pid, status }).await;
            }
            Err(e) => eprintln!("conflux: cannot wait for {name}: {e}"),
        }
    });
    Ok(Process { member, pid, log_from, ended })
}

fn open_log(path: PathBuf) -> anyhow::Result<fs::File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES) {
        fs::rename(&path, path.with_extension("log.old"))?;
    }
    let open = OpenOptions::new().create(true).append(true).open(&path);
    open.with_context(|| format!("cannot open {}", path.display()))
}

impl Process {
    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        self.ended.borrow().is_none()
    }

    fn signal(&self, signal: Signal) {
        // While its exit is not known to us its pid cannot be another's: it is a zombie at most.
        if self.runs()
            && let Err(e) = kill(Pid::from_raw(self.pid as i32), signal)
        {
            eprintln!("conflux: cannot send {signal} to {}: {e}", self.member.name);
        }
    }

    /// SIGTERM, and after a while SIGKILL. Answers whether it stopped by itself.
    async fn stop(&mut self) -> bool {
        self.signal(Signal::SIGTERM);
        // A member that somebody has paused would not hear it.
        self.signal(Signal::SIGCONT);
        if timeout(STOP_WITHIN, self.ended.wait_for(Option::is_some)).await.is_ok() {
            return true;
        }
        self.kill().await;
        false
    }

    async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.ended.wait_for(Option::is_some).await;
    }
}

/// Stops all: first what takes requests from outside, then what serves them, then what these look things up at.
pub async fn stop_all(processes: &mut [Process]) {
    for role in [Role::Gateway, Role::Shard, Role::Placement] {
        let stopping = processes.iter_mut().filter(|p| p.member.role == role && p.runs());
        let all = stopping.map(|p| async {
            if !p.stop().await {
                eprintln!("conflux: {} did not stop within {} s and was killed", p.member.name, STOP_WITHIN.as_secs());
            }
        });
        futures::future::join_all(all).await;
    }
}

/// For those who cannot wait.
pub async fn kill_all(processes: &mut [Process]) {
    let all = processes.iter_mut().filter(|p| p.runs()).map(Process::kill);
    futures::future::join_all(all).await;
}
