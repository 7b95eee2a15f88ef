//! `conflux backup verify`: everything is read back, unpacked where nobody runs on it, and looked through.

use std::path::Path;

use anyhow::{Context, bail};
use conflux_raft::backup::{Checkpoint, Files};
use serde_json::json;

use super::{
    manifest::{Manifest, Part},
    progress::Progress,
    read,
    store::Store,
};
use crate::output::{Output, Table};

pub async fn verify(store: &Store, hash: Option<&str>, scratch: Option<&Path>, output: Output) -> anyhow::Result<()> {
    let (manifest, _) = Manifest::read(store, hash).await?;
    let mut table = Table::new(&["GROUP", "TENANTS", "OBJECTS", "BYTES", "IS"]);
    let mut groups = Vec::new();
    for part in &manifest.groups {
        let (tenants, objects) = group(store, part, scratch).await.with_context(|| part.group.clone())?;
        let whole = "whole".to_owned();
        table.row([part.group.clone(), tenants.to_string(), objects.to_string(), part.bytes.to_string(), whole]);
        groups.push(json!({ "group": part.group, "tenants": tenants, "objects": objects, "bytes": part.bytes }));
    }
    output.list(table, json!({ "id": manifest.id, "whole": true, "groups": groups }))
}

async fn group(store: &Store, part: &Part, scratch: Option<&Path>) -> anyhow::Result<(usize, usize)> {
    let manifest = read::group_manifest(store, part).await?;
    let folder = match scratch {
        Some(scratch) => tempfile::tempdir_in(scratch),
        None => tempfile::tempdir(),
    };
    let folder = folder.context("no room to unpack it (--scratch DIR)")?;
    let state = folder.path().join("state");
    let mut files = Files::create(&state)?;
    let mut progress = Progress::begin(format!("verifying {}", part.group), part.bytes);
    for object in &manifest.objects {
        let bytes = read::object(store, &part.group, object).await?;
        files.write(&bytes)?;
        progress.add(bytes.len() as u64);
    }
    files.finish(read::sum(&manifest)?)?;
    let (tenants, objects) = (manifest.contents.iter().filter(|c| c.id != 0).count(), manifest.objects.len());
    tokio::task::spawn_blocking(move || {
        let checkpoint = Checkpoint::open(&state)?;
        if checkpoint.position() != manifest.of.position {
            bail!("the checkpoint is at {:?}, the manifest says {:?}", checkpoint.position(), manifest.of.position);
        }
        let checked = checkpoint.view(|view| read::check_contents(&manifest.of.group, &manifest.contents, view))?;
        checked.map_err(anyhow::Error::msg)
    })
    .await??;
    Ok((tenants, objects))
}
