//! `conflux restore`: the data directory of ONE member of a group, before its first start.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use conflux_raft::backup::{Origin, Restoring};
use serde_json::json;

use super::{
    PLACEMENT,
    manifest::{GroupManifest, Manifest, now_ms},
    progress::Progress,
    read,
    store::{StorageArgs, Store},
};
use crate::output::Output;

pub const RESTORE_HELP: &str = "Example, for a group whose members are all gone:\n  \
    conflux restore --from file:///var/backups/conflux/20261121T171034Z-9f3a51c2 --cluster prod \\\n    \
    --manifest-hash 5e1f.. --group shard-a --data-dir /var/lib/conflux/shard-a-1\n\n\
    Restore ONE member of each group, into an empty directory. Then start it and the other members, those with empty \
    directories: the restored one begins a new group once all others have said that they are empty, and they get the state \
    from it. It ends with an error where one of them has data of the old group.\n\
    Resume tokens and ETags from before are refused from then on. See docs/operations.md.";

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The URL of one backup
    #[arg(long, value_name = "URL")]
    from: String,
    /// The federation's id, as the members' settings have it (`cluster`)
    #[arg(long)]
    cluster: String,
    /// The hash that `conflux backup create` printed
    #[arg(long)]
    manifest_hash: String,
    /// A shard's name, or `placement`
    #[arg(long)]
    group: String,
    /// The member's data directory: empty, or not there
    #[arg(long)]
    data_dir: PathBuf,
    #[command(flatten)]
    storage: StorageArgs,
}

pub async fn restore(args: RestoreArgs, output: Output) -> anyhow::Result<()> {
    let store = Store::open(&args.from, &args.storage)?;
    let (manifest, _) = Manifest::read(&store, Some(&args.manifest_hash)).await?;
    if manifest.cluster != args.cluster {
        bail!("the backup is of federation {:?}, not {:?}: nothing was changed", manifest.cluster, args.cluster);
    }
    let known = || manifest.groups.iter().map(|g| g.group.as_str()).collect::<Vec<_>>().join(", ");
    let part = manifest.groups.iter().find(|part| part.group == args.group);
    let part = part.with_context(|| format!("the backup has no group {:?}; it has: {}", args.group, known()))?;
    let group = read::group_manifest(&store, part).await?;
    if group.of.cluster != args.cluster {
        bail!("the part of {} is of federation {:?}: nothing was changed", args.group, group.of.cluster);
    }
    let mut restoring = Restoring::begin(&args.data_dir)?;
    let mut progress = Progress::begin(format!("restoring {}", part.group), part.bytes);
    for object in &group.objects {
        let bytes = read::object(&store, &part.group, object).await?;
        restoring.write(&bytes).with_context(|| format!("{}/{}", part.group, object.name))?;
        progress.add(bytes.len() as u64);
    }
    let origin = Origin {
        cluster: manifest.cluster.clone(),
        group: part.group.clone(),
        backup: manifest.id.clone(),
        restored_ms: now_ms(),
    };
    let tenants = group.contents.iter().filter(|c| c.id != 0).count();
    tokio::task::spawn_blocking(move || finish(restoring, &group, &origin)).await??;
    let (name, dir) = (&args.group, args.data_dir.display());
    let text = format!(
        "{name} with {tenants} tenants is in {dir}. Start this member and the others of {name}, those with empty directories."
    );
    output.done(&text, json!({ "group": name, "backup": manifest.id, "tenants": tenants, "data_dir": args.data_dir }))
}

fn finish(restoring: Restoring, group: &GroupManifest, origin: &Origin) -> anyhow::Result<()> {
    let (name, ms) = (origin.group.as_str(), origin.restored_ms);
    let check = |view: &conflux_raft::View<'_>| read::check_contents(name, &group.contents, view);
    let sum = read::sum(group)?;
    let position = &group.of.position;
    match name {
        PLACEMENT => restoring.finish(sum, position, origin, check, |tx| conflux_placement::backup::prepare(tx, ms))?,
        _ => restoring.finish(sum, position, origin, check, |tx| conflux_shard::backup::prepare(tx, ms))?,
    }
    Ok(())
}
