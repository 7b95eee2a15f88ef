//! `conflux cluster`: the members of a Raft group, for operators.

mod change;
mod plan;
mod view;

use std::time::Duration;

use clap::{Args, Subcommand};

use self::view::GroupView;
use super::Session;
use crate::failure::Failure;

const TIMEOUT_S: u64 = 300;

#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// `placement`, or a shard's name [`status` alone: all groups]
    #[arg(value_name = "GROUP")]
    group: Option<String>,
    #[command(subcommand)]
    command: ClusterCommand,
}

/// For a command that waits.
#[derive(Debug, Args)]
pub struct Patience {
    /// Seconds to wait; what is under way goes on without this command
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_S)]
    timeout: u64,
}

impl Patience {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// What each member says of itself: role, indexes, lag, release, disk, and what is wrong
    #[command(after_help = "Examples:\n  conflux cluster status\n  conflux cluster shard-a status\n  \
        conflux cluster shard-a status --output json\n\n\
        LAG: log entries that it is not known to have. DATA: bytes of log and state. FREE: of its disk.")]
    Status,
    /// Let a member in: it joins as a learner, catches up, and becomes a voter
    #[command(after_help = "Example:\n  conflux cluster shard-a add-node shard-a-4\n\n\
        Start its process before or after, with an empty data directory, its own certificate, and the list of founders that the \
        others have. May be repeated: it goes on where it was.")]
    AddNode {
        member: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Remove a member for good; a leader hands over first
    #[command(after_help = "Example:\n  conflux cluster shard-a remove-node shard-a-4\n\n\
        Refused where those that stay would have no quorum; nothing overrides that. Stop its process afterwards. Before its name is \
        let in again, delete its data directory.")]
    RemoveNode {
        member: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Let a new member in and, once it votes, remove an old one
    #[command(after_help = "Example:\n  conflux cluster shard-a replace-node shard-a-2 --with shard-a-4\n\n\
        May be repeated: it goes on where it was. To replace a lost disk under the same name no command is needed: start the member \
        with an empty data directory, and it returns by itself.")]
    ReplaceNode {
        /// The one that goes; it need not be running
        #[arg(value_name = "OLD")]
        member: String,
        /// The one that comes
        #[arg(long, value_name = "NEW")]
        with: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Hand leadership to another voter
    #[command(after_help = "Examples:\n  conflux cluster shard-a transfer-leader\n  \
        conflux cluster shard-a transfer-leader --to shard-a-2\n\n\
        Clients notice nothing: writes wait until the other leads.")]
    TransferLeader {
        /// A voter [default: the one that has most of the log]
        #[arg(long, value_name = "MEMBER")]
        to: Option<String>,
    },
    /// Print how to restart all members one after another: followers first, the leader last
    #[command(after_help = "Examples:\n  conflux cluster shard-a restart-plan\n  \
        conflux cluster shard-a restart-plan --restart-with 'ssh {host} systemctl restart conflux-{member}'\n  \
        conflux cluster shard-a restart-plan --check shard-a-2\n\n\
        {member} and {host} (of its service address) are filled in. It refuses to plan for a group that is not whole.")]
    RestartPlan {
        /// How a member is restarted where you run them
        #[arg(long, value_name = "COMMAND", default_value = "systemctl restart conflux-{member}")]
        restart_with: String,
        /// Wait until this member is back and has everything that the group had when you asked
        #[arg(long, value_name = "MEMBER")]
        check: Option<String>,
        #[command(flatten)]
        patience: Patience,
    },
}

pub async fn run(args: ClusterArgs, session: Session) -> anyhow::Result<()> {
    let client = session.operator()?;
    let Some(group) = args.group else {
        let ClusterCommand::Status = args.command else {
            return Err(Failure::Usage(
                "of which group? `conflux cluster GROUP ..`: placement, or a shard's name".into(),
            )
            .into());
        };
        return view::all(&client, session.output).await;
    };
    let group = GroupView { client: &client, group: &group };
    match args.command {
        ClusterCommand::Status => view::one(&group, session.output).await,
        ClusterCommand::AddNode { member, patience } => {
            change::add(&group, &member, patience.duration()).await?.report(session.output)
        }
        ClusterCommand::RemoveNode { member, patience } => {
            change::remove(&group, &member, patience.duration()).await?.report(session.output)
        }
        ClusterCommand::ReplaceNode { member, with, patience } => {
            change::replace(&group, (&member, &with), patience.duration()).await?.report(session.output)
        }
        ClusterCommand::TransferLeader { to } => change::transfer(&group, to.as_deref()).await?.report(session.output),
        ClusterCommand::RestartPlan { check: Some(member), patience, .. } => {
            plan::check(&group, &member, patience.duration()).await?.report(session.output)
        }
        ClusterCommand::RestartPlan { restart_with, check: None, .. } => {
            plan::print(&group, &restart_with, session.output).await
        }
    }
}
