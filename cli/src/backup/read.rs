//! Reading a backup: nothing of it counts before its size and hash were compared.

use anyhow::{Context, bail};
use bytes::Bytes;
use conflux_raft::{View, backup::Content};

use super::{
    PLACEMENT,
    manifest::{GroupManifest, MANIFEST, Object, Part, hash_of, parse},
    store::Store,
};

/// The manifest of a group's part.
pub async fn group_manifest(store: &Store, part: &Part) -> anyhow::Result<GroupManifest> {
    let name = format!("{}/{MANIFEST}", part.group);
    let bytes = store.get(&name).await?.with_context(|| format!("{name} is missing at {}", store.url()))?;
    if hash_of(&bytes) != part.manifest_sha256 {
        bail!("{name} at {} was changed: its hash is {}, not {}", store.url(), hash_of(&bytes), part.manifest_sha256);
    }
    let group: GroupManifest = parse(&bytes).with_context(|| name.clone())?;
    let sizes: u64 = group.objects.iter().map(|o| o.size).sum();
    if group.of.group != part.group || sizes != group.of.size {
        bail!("{name} contradicts itself");
    }
    Ok(group)
}

/// An object of a group's part.
pub async fn object(store: &Store, group: &str, object: &Object) -> anyhow::Result<Bytes> {
    let name = format!("{group}/{}", object.name);
    let bytes = store.get(&name).await?.with_context(|| format!("{name} is missing at {}", store.url()))?;
    if bytes.len() as u64 != object.size {
        bail!("{name} at {} has {} bytes, not {}: it was truncated or changed", store.url(), bytes.len(), object.size);
    }
    if hash_of(&bytes) != object.sha256 {
        bail!("{name} at {} is damaged: its hash is {}, not {}", store.url(), hash_of(&bytes), object.sha256);
    }
    Ok(bytes)
}

/// The sum of a group's stream.
pub fn sum(group: &GroupManifest) -> anyhow::Result<[u8; 32]> {
    let mut sum = [0; 32];
    hex::decode_to_slice(&group.sha256, &mut sum).context("the group's manifest has no sum")?;
    Ok(sum)
}

/// Reads every tenant of an unpacked state and compares it with what the manifest says. Blocking.
pub fn check_contents(group: &str, told: &[Content], view: &View<'_>) -> Result<(), String> {
    let failed = |e: conflux_raft::FatalError| e.to_string();
    let found = match group {
        PLACEMENT => conflux_placement::backup::contents(view).map_err(failed)?,
        _ => conflux_shard::backup::contents(view).map_err(failed)?,
    };
    if let Some((found, told)) = found.iter().zip(told).find(|(a, b)| a != b) {
        return Err(format!(
            "tenant {} ({}) is not what the manifest says: {found:?}, not {told:?}",
            told.name, told.id
        ));
    }
    if found.len() != told.len() {
        return Err(format!("it holds {} tenants, the manifest says {}", found.len(), told.len()));
    }
    if group == PLACEMENT { Ok(()) } else { conflux_shard::backup::check(view) }
}
