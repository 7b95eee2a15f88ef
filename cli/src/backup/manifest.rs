//! What a backup says of itself. A manifest is written after everything that it names; its SHA-256 names it.

use anyhow::{Context, bail};
use bytes::Bytes;
use conflux_raft::backup::{Content, Description};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::store::Store;

/// The version of both manifests that this binary writes and reads.
pub const FORMAT: u32 = 1;
/// The name of a manifest.
pub const MANIFEST: &str = "manifest.json";

/// What was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Every group, fitting together.
    Federation,
    /// One group for itself.
    Group,
}

/// Of the whole backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`]
    pub format: u32,
    /// The directory that it is in.
    pub id: String,
    pub kind: Kind,
    /// The federation.
    pub cluster: String,
    /// By the clock of whoever made it, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The version of the binary that made it.
    pub made_by: String,
    pub groups: Vec<Part>,
    /// Placement's records, of which it was made sure that they held for all groups; of a federation only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Content>,
}

/// A group's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub group: String,
    /// On which it was taken.
    pub member: String,
    /// Of the packed checkpoint.
    pub bytes: u64,
    /// SHA-256 of the group's manifest.
    pub manifest_sha256: String,
}

/// Of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupManifest {
    /// [`FORMAT`]
    pub format: u32,
    pub of: Description,
    /// In the order of the stream.
    pub objects: Vec<Object>,
    /// Of the whole stream.
    pub sha256: String,
    pub contents: Vec<Content>,
}

/// A piece of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub name: String,
    pub size: u64,
    pub sha256: String,
}

/// What is found at a place.
pub struct Found {
    pub id: String,
    /// With its hash; none: it is incomplete.
    pub manifest: Option<(Manifest, String)>,
}

impl Manifest {
    /// Without an id: it gets one when it is written.
    pub fn new(kind: Kind, cluster: String, groups: Vec<Part>, tenants: Vec<Content>) -> Self {
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, id: String::new(), kind, cluster, created_ms: now_ms(), made_by, groups, tenants }
    }

    /// Writes it, last of all; with its hash.
    pub async fn write(self, store: &Store, id: &str) -> anyhow::Result<(Self, String)> {
        let manifest = Self { id: id.to_owned(), ..self };
        let bytes = Bytes::from(serde_json::to_vec_pretty(&manifest)?);
        let hash = hash_of(&bytes);
        store.put(MANIFEST, bytes).await?;
        Ok((manifest, hash))
    }

    /// Reads it; with its hash, which must be this one where one is given: nothing is read of another.
    pub async fn read(store: &Store, hash: Option<&str>) -> anyhow::Result<(Self, String)> {
        let url = store.url();
        let bytes = store.get(MANIFEST).await?.with_context(|| {
            format!(
                "{url} has no {MANIFEST}: it is no backup, or one that was not finished. Name one backup: the place and its id, \
                 as `conflux backup list` shows it"
            )
        })?;
        let found = hash_of(&bytes);
        if let Some(wanted) = hash
            && !wanted.eq_ignore_ascii_case(&found)
        {
            bail!("the manifest at {url} has the hash {found}, not {wanted}: it is another backup, or was changed");
        }
        let manifest = parse(&bytes).with_context(|| format!("{url}/{MANIFEST}"))?;
        Ok((manifest, found))
    }

    /// Everything at a place, by id, which is by time.
    pub async fn all(root: &Store) -> anyhow::Result<Vec<Found>> {
        let mut all = Vec::new();
        for id in root.places().await? {
            let store = root.below(&id);
            let manifest = match store.get(MANIFEST).await? {
                Some(_) => Some(Self::read(&store, None).await?),
                None => None,
            };
            all.push(Found { id, manifest });
        }
        Ok(all)
    }

    /// Of all packed checkpoints.
    pub fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.bytes).sum()
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// A newer format is refused before anything else is read of it.
pub fn parse<M: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<M> {
    let Format { format } = serde_json::from_slice(bytes).context("it is no manifest of a backup")?;
    if format != FORMAT {
        bail!("it has format {format}, this binary reads {FORMAT}: take the version that made it");
    }
    serde_json::from_slice(bytes).context("it is no manifest of a backup")
}

/// SHA-256 in hex.
pub fn hash_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// `20261121T171034Z-9f3a51c2`: names sort by time.
pub fn new_id() -> String {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let now = time::OffsetDateTime::now_utc().format(&format).unwrap_or_else(|_| now_ms().to_string());
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{now}-{}", &random[..8])
}

/// By this machine's clock.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}

/// For people.
pub fn when(ms: u64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp((ms / 1000) as i64).ok();
    at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
}
