//! Runs of this program as processes of their own: each with a federation, mounts, directories and ports of its own, so that
//! several go on side by side.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result};
use conflux_common::planted;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::{Load, history::Micros};

/// What is asked of a process.
pub struct Child<'a> {
    pub seed: u64,
    pub seconds: u64,
    pub load: &'a Load,
    /// Its report is at `seed-<seed>` below this directory, and what it says in `seed-<seed>.log`.
    pub out: &'a Path,
    /// The planted bug.
    pub bug: Option<&'a str>,
}

/// What its report says, as far as others add it up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Summary {
    pub verdict: String,
    pub seconds: u64,
    pub calls: u64,
    pub calls_per_second: f64,
    /// Operations checked for linearizability.
    pub checked: u64,
    pub watch_events: u64,
    pub unsettled: u64,
    pub faults_by_kind: BTreeMap<String, u64>,
    pub moves_done: u64,
    pub moves_under_fault: u64,
    pub findings: Vec<Found>,
}

/// What one checker said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Found {
    pub checker: String,
    pub violations: u64,
    pub undecided: u64,
    /// When the first violation came about, as far as the checker can tell.
    pub first_at: Option<Micros>,
}

impl Summary {
    /// Faults that landed; moves are none.
    pub fn faults(&self) -> u64 {
        self.faults_by_kind.values().sum()
    }

    /// Power losses, at whatever moment.
    pub fn power_losses(&self) -> u64 {
        self.faults_by_kind.iter().filter(|(kind, _)| kind.starts_with("power loss")).map(|(_, count)| count).sum()
    }

    /// All violations.
    pub fn violations(&self) -> u64 {
        self.findings.iter().map(|f| f.violations).sum()
    }

    /// Verdicts that stayed open, and writes whose outcome did.
    pub fn undecided(&self) -> u64 {
        self.findings.iter().map(|f| f.undecided).sum::<u64>() + self.unsettled
    }
}

impl Child<'_> {
    /// Runs it to its end. None: it could not be done, and wrote no report.
    ///
    /// # Errors
    /// Where the process cannot be started, or its report cannot be read.
    pub async fn run(&self) -> Result<Option<Summary>> {
        std::fs::create_dir_all(self.out).with_context(|| format!("making {}", self.out.display()))?;
        let log = File::create(self.log()).with_context(|| format!("making {}", self.log().display()))?;
        let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
        command
            .args(["run", "--seed", &self.seed.to_string(), "--seconds", &self.seconds.to_string()])
            .args(self.load.arguments())
            .arg("--out")
            .arg(self.out)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        if let Some(bug) = self.bug {
            command.env(planted::VARIABLE, bug);
        }
        command.status().await.context("running one seed")?;
        let report = self.directory().join("report.json");
        match std::fs::read(&report) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| report.display().to_string())?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| report.display().to_string()),
        }
    }

    /// Where its report is.
    pub fn directory(&self) -> PathBuf {
        self.out.join(format!("seed-{}", self.seed))
    }

    /// What it said.
    pub fn log(&self) -> PathBuf {
        self.out.join(format!("seed-{}.log", self.seed))
    }
}

/// A directory of this name below `out`, which nothing had before: with a number at its end where that is taken.
///
/// # Errors
/// Where it cannot be made.
pub fn directory(out: &Path, name: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    for n in 0u32.. {
        let directory = out.join(if n == 0 { name.to_owned() } else { format!("{name}-{n}") });
        match std::fs::create_dir(&directory) {
            Ok(()) => return std::fs::canonicalize(directory).context("the new directory"),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("making {}", directory.display())),
        }
    }
    anyhow::bail!("{} is full", out.display())
}
