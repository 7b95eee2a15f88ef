//! The conflux binary: the services, a development federation, and the command line of operators and users.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod apply;
mod backup;
mod client;
mod command;
mod dev;
mod failure;
mod files;
mod openapi;
mod output;
mod pki;
mod profile;
mod service;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{
    command::members::ClusterArgs,
    command::{
        Session, changeset::ChangesetCommand, cluster::ShardCommand, config::ConfigCommand, key::KeyCommand,
        role::RoleCommand,
    },
    command::{
        archives::{self, ExportArgs, ImportArgs},
        environments::{self, CompareArgs, PromoteArgs},
        rebalance::{self, RebalanceArgs},
    },
    command::{audit::AuditCommand, moves::MoveCommand, profile::ProfileCommand, tenant::TenantCommand},
    command::{scope::AppCommand, scope::EnvCommand},
    failure::{EXIT_CODES, Failure},
    output::Output,
    profile::Connection,
    service::ServiceArgs,
};

/// Requests are made of many small allocations: 7 to 20 % more fetches are answered than with glibc's allocator (release build,
/// 64 in flight, both sides of the bench and its load in one run). RocksDB's own allocations stay with glibc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A federated, sharded, multi-tenant configuration center
#[derive(Debug, Parser)]
#[command(name = "conflux", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    /// How commands answer
    #[arg(long, short, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How a service is told its settings.
macro_rules! service_help {
    ($role:literal, $key:literal, $variable:literal) => {
        concat!(
            "Examples:\n  conflux ",
            $role,
            " --config /etc/conflux/",
            $role,
            ".toml --check\n  conflux ",
            $role,
            " --config /etc/conflux/",
            $role,
            ".toml --set ",
            $key,
            "\n\nEach setting may also come from the environment: ",
            $variable,
            ". Stops on SIGTERM.\nExit codes: 0 stopped, 1 failed, 2 the settings cannot be used."
        )
    };
}

const GATEWAY_HELP: &str = service_help!("gateway", "limits.deadline_ms=5000", "CONFLUX__LIMITS__DEADLINE_MS=5000");
const PLACEMENT_HELP: &str =
    service_help!("placement", "member.log.filter=debug", "CONFLUX__MEMBER__LOG__FILTER=debug");
const SHARD_HELP: &str = service_help!("shard", "member.log.filter=debug", "CONFLUX__MEMBER__LOG__FILTER=debug");

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole federation on this machine, for development and tests
    Dev(dev::DevArgs),
    /// The federation's certificate authority
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Configs of a tenant
    Config(Called<ConfigCommand>),
    /// Compare two environments of an application
    #[command(after_help = "Example:\n  conflux compare --app shop --from dev --to test --diff")]
    Compare(CalledWith<CompareArgs>),
    /// Bring what is released in one environment into another; shows the differences and asks first
    #[command(after_help = "Examples:\n  conflux promote --app shop --from dev --to test\n  \
        conflux promote --app shop --from test --to prod --name app.yaml --yes\n  \
        conflux promote --app shop --from test --to prod --dry-run\n\n\
        All or nothing. What was changed in the meantime is not overwritten, and what does not fit the schema\n\
        that it has where it goes is refused.")]
    Promote(CalledWith<PromoteArgs>),
    /// Write configs to an archive: a zip with a manifest
    #[command(after_help = "Example:\n  conflux export --app shop --env prod --file shop-prod.zip")]
    Export(CalledWith<ExportArgs>),
    /// Put an archive in place; the same archive again changes nothing
    #[command(after_help = "Examples:\n  conflux import --file shop-prod.zip --dry-run\n  \
        conflux import --file shop-prod.zip --env test")]
    Import(CalledWith<ImportArgs>),
    /// Make what is in a directory what is released: plan, diff, confirm
    #[command(after_help = apply::HELP)]
    Apply(CalledWith<apply::ApplyArgs>),
    /// Several changes, all or nothing
    Changeset(Called<ChangesetCommand>),
    /// Applications of a tenant
    App(Called<AppCommand>),
    /// Environments of an application
    Env(Called<EnvCommand>),
    /// Who changed what
    Audit(Called<AuditCommand>),
    /// Tenants (for operators)
    Tenant(Called<TenantCommand>),
    /// Tenants on their way to another shard group (for operators)
    Move(Called<MoveCommand>),
    /// Spread tenants over the shard groups by their load (for operators)
    #[command(after_help = rebalance::HELP)]
    Rebalance(CalledWith<RebalanceArgs>),
    /// API keys (for operators)
    Key(Called<KeyCommand>),
    /// Roles of a tenant's keys (for operators)
    Role(Called<RoleCommand>),
    /// Run a gateway
    #[command(after_help = GATEWAY_HELP)]
    Gateway(ServiceArgs),
    /// Run a member of placement
    #[command(after_help = PLACEMENT_HELP)]
    Placement(ServiceArgs),
    /// Run a member of a shard group; or ask about the groups
    #[command(after_help = SHARD_HELP, subcommand_negates_reqs = true, arg_required_else_help = true)]
    Shard {
        #[command(subcommand)]
        command: Option<ShardCommand>,
        #[command(flatten)]
        service: Option<ServiceArgs>,
        #[command(flatten)]
        connection: Connection,
    },
    /// The members of a Raft group: status, add, remove, replace, hand over, restart (for operators)
    #[command(after_help = "Examples:\n  conflux cluster status\n  conflux cluster shard-a status\n  \
        conflux cluster shard-a replace-node shard-a-2 --with shard-a-4\n  conflux cluster placement restart-plan\n\n\
        One change at a time; what would cost a group its quorum is refused.")]
    Cluster(CalledWith<ClusterArgs>),
    /// All groups, their members and leaders at a glance (for operators)
    #[command(after_help = "Example:\n  conflux status --federation .conflux-dev/federation.json")]
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Print the description of the API (OpenAPI 3.1), as gateways serve it at /openapi.json
    #[command(
        name = "openapi",
        after_help = "Examples:\n  conflux openapi > openapi.json\n  conflux openapi --page > api.html"
    )]
    OpenApi {
        /// As a page for people, as gateways serve it at /docs
        #[arg(long)]
        page: bool,
    },
    /// Back up a group or the whole federation, and look at backups (for operators)
    Backup(Called<backup::BackupCommand>),
    /// Make the data directory of a member from a backup, before its first start (for operators)
    #[command(after_help = backup::RESTORE_HELP)]
    Restore(backup::RestoreArgs),
    /// Tenants that came from a backup and are not served, and what to do with them (for operators)
    Restored(Called<command::restored::RestoredCommand>),
    /// Stored connections
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Write a completion script for a shell
    #[command(after_help = "Examples:\n  conflux completion bash > /etc/bash_completion.d/conflux\n  \
        conflux completion zsh > \"${fpath[1]}/_conflux\"\n  conflux completion fish > ~/.config/fish/completions/conflux.fish")]
    Completion { shell: clap_complete::Shell },
}

/// A group of commands that share how to connect.
#[derive(Debug, Args)]
struct Called<C: Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    connection: Connection,
}

/// A command of its own that connects.
#[derive(Debug, Args)]
struct CalledWith<A: Args> {
    #[command(flatten)]
    args: A,
    #[command(flatten)]
    connection: Connection,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Fails only if something has installed one before us.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if !matches!(e.downcast_ref(), Some(Failure::Told(_))) {
                eprintln!("conflux: {e:#}");
            }
            ExitCode::from(Failure::code_of(&e))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let output = cli.output;
    let session = |connection| Session { connection, output };
    match cli.command {
        Command::Pki(command) => pki::run(command, output),
        Command::Profile(command) => command::profile::run(command, output),
        Command::OpenApi { page } => output::line(&if page { openapi::page()? } else { openapi::json()? }),
        Command::Completion { shell } => command::completion::run(shell),
        Command::Dev(args) => runtime()?.block_on(dev::run(args)),
        Command::Config(c) => runtime()?.block_on(command::config::run(c.command, session(c.connection))),
        Command::Compare(c) => runtime()?.block_on(environments::compare(c.args, &session(c.connection))),
        Command::Promote(c) => runtime()?.block_on(environments::promote(c.args, &session(c.connection))),
        Command::Export(c) => runtime()?.block_on(archives::export(c.args, &session(c.connection))),
        Command::Import(c) => runtime()?.block_on(archives::import(c.args, &session(c.connection))),
        Command::Apply(c) => runtime()?.block_on(apply::run(c.args, session(c.connection))),
        Command::Changeset(c) => runtime()?.block_on(command::changeset::run(c.command, session(c.connection))),
        Command::App(c) => runtime()?.block_on(command::scope::app(c.command, session(c.connection))),
        Command::Env(c) => runtime()?.block_on(command::scope::env(c.command, session(c.connection))),
        Command::Audit(c) => runtime()?.block_on(command::audit::run(c.command, session(c.connection))),
        Command::Tenant(c) => runtime()?.block_on(command::tenant::run(c.command, session(c.connection))),
        Command::Move(c) => runtime()?.block_on(command::moves::run(c.command, session(c.connection))),
        Command::Rebalance(c) => runtime()?.block_on(rebalance::run(c.args, session(c.connection))),
        Command::Key(c) => runtime()?.block_on(command::key::run(c.command, session(c.connection))),
        Command::Role(c) => runtime()?.block_on(command::role::run(c.command, session(c.connection))),
        Command::Backup(c) => runtime()?.block_on(backup::run(c.command, session(c.connection))),
        Command::Restore(args) => runtime()?.block_on(backup::restore(args, output)),
        Command::Restored(c) => runtime()?.block_on(command::restored::run(c.command, session(c.connection))),
        Command::Gateway(args) => service::run(args, service::gateway),
        Command::Placement(args) => service::run(args, service::placement),
        Command::Shard { command: Some(c), connection, .. } => {
            runtime()?.block_on(command::cluster::shards(c, session(connection)))
        }
        Command::Shard { service: Some(args), .. } => service::run(args, service::shard),
        Command::Shard { .. } => {
            Err(Failure::Usage("--config FILE, or `conflux shard list|weight|drain|remove`".into()).into())
        }
        Command::Cluster(c) => runtime()?.block_on(command::members::run(c.args, session(c.connection))),
        Command::Status { connection } => runtime()?.block_on(command::cluster::status(session(connection))),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// A clash of arguments panics only when its command is used: this uses all of them.
    #[test]
    fn all_commands_can_be_parsed() {
        super::Cli::command().debug_assert();
    }
}
