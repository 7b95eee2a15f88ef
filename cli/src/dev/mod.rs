//! `conflux dev`: a whole federation on this machine, each member a process of its own, with mTLS between them.

mod banner;
mod certificates;
mod federation;
mod layout;
mod log;
mod plan;
mod ports;
mod process;
mod ready;
mod seed;
mod settings;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

pub use self::federation::Federation;
use self::{
    layout::Layout,
    log::{Follower, Show},
    plan::{Plan, Wish},
    process::{Ended, Process},
};
use crate::files;

/// A federation that is not ready so long after its start has a fault that waiting does not mend.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Runs until Ctrl-C. Started again on the same directory, it comes back with its data.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  conflux dev\n  conflux dev --data-dir /tmp/federation --shards 3 --base-port 20000\n  \
    conflux dev --set shard:member.log.filter=debug\n\n\
    Ctrl-C stops all members; a second Ctrl-C does not wait for them."
)]
pub struct DevArgs {
    /// Where everything is kept
    #[arg(long, default_value = ".conflux-dev")]
    data_dir: PathBuf,
    /// Shard groups [default: 2, or as before]; more can be added later
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=26))]
    shards: Option<u8>,
    /// Replicas of each shard group [default: 3, or as before]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=7))]
    replicas: Option<u8>,
    /// Replicas of placement [default: 3, or as before]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=7))]
    placement: Option<u8>,
    /// Gateways [default: 1, or as before]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    gateways: Option<u8>,
    /// The first of consecutive ports [default: free ones, kept for the next start]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..))]
    base_port: Option<u16>,
    /// A setting of all members (KEY=VALUE) or of those of a role (ROLE:KEY=VALUE); may be repeated
    #[arg(long = "set", value_name = "SETTING")]
    overrides: Vec<settings::Override>,
    /// What to show of the members' logs
    #[arg(long, value_enum, default_value = "warnings")]
    log: Show,
}

pub async fn run(args: DevArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.data_dir).with_context(|| format!("cannot create {}", args.data_dir.display()))?;
    let layout = Layout::new(&args.data_dir)?;
    let busy = format!("a federation runs on {} already: stop it, or take another --data-dir", layout.root().display());
    let _lock = files::lock(&layout.root().join("lock"), &busy)?;
    // Whoever waits for this file must not take the last run's.
    if layout.federation().exists() {
        std::fs::remove_file(layout.federation())?;
    }
    let wish = Wish {
        shards: args.shards,
        replicas: args.replicas,
        placement: args.placement,
        gateways: args.gateways,
        base_port: args.base_port,
    };
    let (plan, _ports) = Plan::load_or_make(layout.root(), &wish)?;
    certificates::ensure(&layout, &plan)?;
    settings::write(&layout, &plan, &args.overrides)?;
    banner::starting(&layout, &plan)?;
    let mut signals = Signals::new()?;
    let (tell, mut exits) = mpsc::channel(64);
    let mut processes = Vec::new();
    let result = operate(&args, &layout, &plan, &mut processes, (tell, &mut exits), &mut signals).await;
    eprintln!("conflux: stopping (Ctrl-C again kills)");
    let at_once = tokio::select! {
        () = process::stop_all(&mut processes) => false,
        () = signals.next() => true,
    };
    if at_once {
        process::kill_all(&mut processes).await;
    }
    // It tells what runs: now nothing does.
    let _ = std::fs::remove_file(layout.federation());
    result
}

async fn operate(
    args: &DevArgs,
    layout: &Layout,
    plan: &Plan,
    processes: &mut Vec<Process>,
    (tell, exits): (mpsc::Sender<Ended>, &mut mpsc::Receiver<Ended>),
    signals: &mut Signals,
) -> anyhow::Result<()> {
    for member in plan.members() {
        processes.push(process::start(layout, member, tell.clone())?);
    }
    let federation = tokio::select! {
        ready = tokio::time::timeout(READY_WITHIN, bring_up(layout, plan, processes)) => match ready {
            Ok(federation) => federation?,
            Err(_) => bail!("not ready within {} s; the logs are in {}", READY_WITHIN.as_secs(), layout.root().display()),
        },
        Some(ended) = exits.recv() => bail!("{}", did_not_start(layout, processes, &ended)),
        () = signals.next() => return Ok(()),
    };
    banner::ready(layout, &federation)?;
    // From here on: while the members find one another they warn of everything that is not there yet.
    let follower = Follower::new(plan.members().iter().map(|m| (m.name.clone(), layout.log(m))), args.log);
    tokio::select! {
        () = follower.run() => Ok(()),
        () = report_ends(layout, plan, exits) => Ok(()),
        () = signals.next() => Ok(()),
    }
}

/// Waits for the members, makes the demo tenant once, and writes federation.json: it says that all is ready.
async fn bring_up(layout: &Layout, plan: &Plan, processes: &[Process]) -> anyhow::Result<Federation> {
    ready::wait(processes).await?;
    let mut federation = Federation::describe(layout, plan, processes, |_| 0);
    seed::ensure(layout, &federation).await?;
    let ids = seed::node_ids(layout, &federation).await?;
    for member in &mut federation.members {
        member.node_id = ids.get(&member.member).copied().unwrap_or(0);
    }
    federation.write(&layout.federation())?;
    Ok(federation)
}

fn did_not_start(layout: &Layout, processes: &[Process], ended: &Ended) -> String {
    let process = processes.iter().find(|p| p.member.name == ended.name);
    let tail = |p: &Process| log::tail(&p.member.name, &layout.log(&p.member), p.log_from, 15);
    let lines = process.map(tail).unwrap_or_default();
    let (name, status) = (&ended.name, ended.status);
    format!("{name} ended before the federation was ready ({status}). Its last words:\n  {}", lines.join("\n  "))
}

/// A member that ends is not started again: whoever tests failures does it when the test wants it.
async fn report_ends(layout: &Layout, plan: &Plan, exits: &mut mpsc::Receiver<Ended>) {
    let mut left = plan.members().len();
    while left > 0 {
        let Some(ended) = exits.recv().await else { break };
        left -= 1;
        let (name, pid, status) = (&ended.name, ended.pid, ended.status);
        eprintln!("conflux: {name} (pid {pid}) has ended: {status}. {left} members are left.");
        if let Some(member) = plan.members().iter().find(|m| &m.name == name) {
            let config = layout.config(member);
            let config = banner::shell_quoted(&config.to_string_lossy());
            eprintln!("  start it again with: {} {} --config {config}", banner::program(), member.role.name());
        }
    }
    // All were ended by somebody else and may be running again under their care: only a signal ends this.
    std::future::pending().await
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
