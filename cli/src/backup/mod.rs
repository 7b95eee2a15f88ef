//! `conflux backup` and `conflux restore` (ADR 4): a directory or bucket of immutable objects, and a member's data directory from it.

mod federation;
mod group;
mod hold;
mod manifest;
mod progress;
mod read;
mod restore;
mod retention;
mod store;
mod verify;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

pub use self::restore::{RESTORE_HELP, RestoreArgs, restore};
use self::{
    manifest::{Kind, Manifest},
    store::{StorageArgs, Store},
};
use crate::{
    command::Session,
    failure::Failure,
    output::{Output, Table},
};

/// The group of placement.
const PLACEMENT: &str = "placement";

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Back up the whole federation, or one group
    #[command(after_help = "Examples:\n  conflux backup create --to file:///var/backups/conflux\n  \
        conflux backup create --to s3://backups/conflux --keep 14\n  \
        conflux backup create --to file:///var/backups/conflux --group shard-a\n  \
        conflux backup create --to file:///mnt/rescue --from-data-dir /var/lib/conflux/shard-a-2\n\n\
        While the federation is backed up tenants are neither made, deleted nor moved; reads and writes go on. Prints the \
        hash of the manifest: keep it apart from the backup, a restore asks for it. For a schedule, put it into cron: exit \
        code 0 says that the backup is complete and fits together.")]
    Create(CreateArgs),
    /// List what is at a place
    #[command(after_help = "Example:\n  conflux backup list file:///var/backups/conflux")]
    List {
        /// file:///directory or s3://bucket/prefix
        url: String,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Show a backup: its groups and tenants
    #[command(after_help = "Example:\n  conflux backup show file:///var/backups/conflux/20261121T171034Z-9f3a51c2")]
    Show {
        /// The URL of one backup
        url: String,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Read a backup back without restoring it: hashes, databases, tenants' contents, audit chains
    #[command(
        after_help = "Examples:\n  conflux backup verify file:///var/backups/conflux/20261121T171034Z-9f3a51c2\n  \
        conflux backup verify s3://backups/conflux/20261121T171034Z-9f3a51c2 --manifest-hash 5e1f.. --scratch /mnt/big\n\n\
        Needs room for the largest group in the scratch directory."
    )]
    Verify {
        /// The URL of one backup
        url: String,
        /// The hash that `backup create` printed: then it is that very backup
        #[arg(long)]
        manifest_hash: Option<String>,
        /// Where to unpack [default: the system's temporary directory]
        #[arg(long)]
        scratch: Option<PathBuf>,
        #[command(flatten)]
        storage: StorageArgs,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Where to: file:///directory or s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    to: String,
    /// Only this group: a shard's name, or `placement`
    #[arg(long, conflicts_with = "from_data_dir")]
    group: Option<String>,
    /// From the data directory of a member that does not run: what is left when a majority is lost
    #[arg(long, value_name = "DIR")]
    from_data_dir: Option<PathBuf>,
    /// Afterwards keep so many complete backups of this federation and kind, and delete older ones
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    #[command(flatten)]
    storage: StorageArgs,
}

pub async fn run(command: BackupCommand, session: Session) -> anyhow::Result<()> {
    match command {
        BackupCommand::Create(args) => create(args, session).await,
        BackupCommand::List { url, storage } => list(&Store::open(&url, &storage)?, session.output).await,
        BackupCommand::Show { url, storage } => show(&Store::open(&url, &storage)?, session.output).await,
        BackupCommand::Verify { url, manifest_hash, scratch, storage } => {
            let store = Store::open(&url, &storage)?;
            verify::verify(&store, manifest_hash.as_deref(), scratch.as_deref(), session.output).await
        }
    }
}

async fn create(args: CreateArgs, session: Session) -> anyhow::Result<()> {
    let root = Store::create(&args.to, &args.storage)?;
    let id = manifest::new_id();
    let store = root.below(&id);
    let made = match (&args.from_data_dir, &args.group) {
        (Some(dir), _) => group::rescue(&store, dir).await,
        (None, Some(group)) => group::of_one(&session.operator()?, &store, group).await,
        (None, None) => federation::of_all(&session.operator()?, &store).await,
    };
    let finished = match made {
        Ok(manifest) => manifest.write(&store, &id).await,
        Err(error) => Err(error),
    };
    let (manifest, hash) = match finished {
        Ok(finished) => finished,
        Err(error) => {
            // Without a manifest it is no backup; what is in the way of the next look is taken away again.
            store.clear().await;
            return Err(error);
        }
    };
    let mut deleted = Vec::new();
    if let Some(keep) = args.keep {
        deleted = retention::keep(&root, &manifest, keep as usize)
            .await
            .context("the backup is complete; older ones stay")?;
    }
    let url = format!("{}/{id}", args.to.trim_end_matches('/'));
    let mut text = format!("{url}\nmanifest hash {hash}");
    for id in &deleted {
        text.push_str(&format!("\ndeleted {id}"));
    }
    session.output.done(&text, json!({ "url": url, "manifest_hash": hash, "manifest": manifest, "deleted": deleted }))
}

async fn list(root: &Store, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(&["BACKUP", "MADE", "OF", "GROUPS", "BYTES", "MANIFEST HASH"]);
    let mut all = Vec::new();
    for found in Manifest::all(root).await? {
        match found.manifest {
            Some((manifest, hash)) => {
                let of = match manifest.kind {
                    Kind::Federation => manifest.cluster.clone(),
                    Kind::Group => format!("{} (a group)", manifest.cluster),
                };
                let groups: Vec<&str> = manifest.groups.iter().map(|g| g.group.as_str()).collect();
                let made = manifest::when(manifest.created_ms);
                table.row([found.id, made, of, groups.join(","), manifest.bytes().to_string(), hash.clone()]);
                all.push(json!({ "manifest": manifest, "manifest_hash": hash }));
            }
            None => {
                let nothing = String::new;
                let why = "incomplete: no restore is possible".to_owned();
                table.row([found.id.clone(), nothing(), why, nothing(), nothing(), nothing()]);
                all.push(json!({ "id": found.id, "incomplete": true }));
            }
        }
    }
    output.list(table, json!({ "backups": all }))
}

async fn show(store: &Store, output: Output) -> anyhow::Result<()> {
    let (manifest, hash) = Manifest::read(store, None).await?;
    let mut table = Table::new(&["GROUP", "TENANT", "ID", "STATE", "EPOCH", "REVISION", "ROWS", "BYTES", "SHA-256"]);
    let mut groups = Vec::new();
    for part in &manifest.groups {
        let group = read::group_manifest(store, part).await?;
        for content in &group.contents {
            let name = if content.id == 0 { "(the rest)".to_owned() } else { content.name.clone() };
            table.row([
                part.group.clone(),
                name,
                content.id.to_string(),
                content.state.clone(),
                content.epoch.to_string(),
                format!("{}.{}", content.incarnation, content.revision),
                content.rows.to_string(),
                content.bytes.to_string(),
                content.sha256.chars().take(16).collect(),
            ]);
        }
        groups.push(group);
    }
    if matches!(output, Output::Table) {
        let made = manifest::when(manifest.created_ms);
        eprintln!("{} of {}, made {made}, manifest hash {hash}", manifest.id, manifest.cluster);
    }
    output.list(table, json!({ "manifest": manifest, "manifest_hash": hash, "groups": groups }))
}

/// A mistake in the command line.
fn usage(text: impl Into<String>) -> anyhow::Error {
    Failure::Usage(text.into()).into()
}
