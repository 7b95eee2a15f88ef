//! One group: its stream is cut into objects, then its manifest is written.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use conflux_placement::Placement;
use conflux_raft::{
    App,
    backup::{BackupStream, Content, Description, Frame, FrameReader, Offline, group_of},
};
use conflux_shard::{feed::Hub, machine::Machine};
use reqwest::Method;

use super::{
    PLACEMENT,
    manifest::{FORMAT, GroupManifest, Kind, MANIFEST, Manifest, Object, Part, hash_of},
    progress::Progress,
    store::Store,
};
use crate::{client::Client, command::items, failure::Failure};

/// Of one object; the last one is smaller.
const OBJECT_BYTES: usize = 16 << 20;
/// A member that sends nothing for so long has failed.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Where a group's stream comes from.
pub enum Source {
    /// A running member, over a gateway.
    Member(reqwest::Response),
    /// The directory of one that does not run.
    Offline(BackupStream),
}

impl Source {
    /// Asks a follower, and where there is none any member.
    pub async fn member(client: &Client, group: &str) -> anyhow::Result<Self> {
        let path = ["_cluster", group, "backup"];
        let nodes = client.json(client.call(Method::GET, &["_cluster", group, "nodes"])).await?;
        if items(&nodes, "nodes").len() < 2 {
            return Ok(Source::Member(client.open(client.call(Method::GET, &path)).await?));
        }
        let follower = client.call_with(Method::GET, &path, &[("follower", "true")]);
        let answer = match client.open(follower).await {
            Ok(answer) => answer,
            Err(Failure::Refused { status: 503, .. }) => client.open(client.call(Method::GET, &path)).await?,
            Err(error) => return Err(error.into()),
        };
        Ok(Source::Member(answer))
    }

    async fn chunk(&mut self) -> anyhow::Result<Option<Bytes>> {
        let next = async {
            match self {
                Source::Member(response) => Ok(response.chunk().await?),
                Source::Offline(stream) => Ok(stream.next().await?),
            }
        };
        tokio::time::timeout(SILENCE, next).await.with_context(|| format!("nothing came for {SILENCE:?}"))?
    }
}

/// What was stored of a group.
pub struct Stored {
    pub part: Part,
    pub cluster: String,
    pub contents: Vec<Content>,
}

/// Reads the stream to its end and stores it below the group's name.
pub async fn take(mut source: Source, store: &Store, group: &str) -> anyhow::Result<Stored> {
    let mut taking = Taking::new(store.below(group));
    let mut frames = FrameReader::default();
    while let Some(bytes) = source.chunk().await.with_context(|| format!("{group}: the stream broke off"))? {
        frames.push(&bytes);
        while let Some(frame) = frames.next_frame().with_context(|| group.to_owned())? {
            if let Some(sum) = taking.frame(frame, group).await? {
                return taking.finish(sum).await;
            }
        }
    }
    bail!("{group}: the stream ended early: the member or the gateway stopped. Try again")
}

/// A stream on its way into objects. Holds at most one of them.
struct Taking {
    store: Store,
    description: Option<Description>,
    progress: Option<Progress>,
    waiting: BytesMut,
    objects: Vec<Object>,
    contents: Vec<Content>,
}

impl Taking {
    fn new(store: Store) -> Self {
        let (objects, contents) = (Vec::new(), Vec::new());
        Self { store, description: None, progress: None, waiting: BytesMut::new(), objects, contents }
    }

    /// The sum, with the last frame.
    async fn frame(&mut self, frame: Frame, group: &str) -> anyhow::Result<Option<[u8; 32]>> {
        match frame {
            Frame::Description(of) if of.group != group => bail!("{} answered for {group}", of.group),
            Frame::Description(of) => {
                let (member, index) = (&of.member, of.position.index);
                self.progress = Some(Progress::begin(format!("{group} on {member} at index {index}"), of.size));
                self.description = Some(of);
            }
            Frame::Data(data) => {
                if let Some(progress) = &mut self.progress {
                    progress.add(data.len() as u64);
                }
                self.waiting.extend_from_slice(&data);
                while self.waiting.len() >= OBJECT_BYTES {
                    let object = self.waiting.split_to(OBJECT_BYTES).freeze();
                    self.put(object).await?;
                }
            }
            Frame::Contents(mut contents) => self.contents.append(&mut contents),
            Frame::End(sum) => return Ok(Some(sum)),
            Frame::Failed(why) => bail!("{group}: the member failed: {why}"),
        }
        Ok(None)
    }

    async fn put(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        let name = format!("{:06}", self.objects.len());
        self.objects.push(Object { name: name.clone(), size: bytes.len() as u64, sha256: hash_of(&bytes) });
        self.store.put(&name, bytes).await
    }

    async fn finish(mut self, sum: [u8; 32]) -> anyhow::Result<Stored> {
        let rest = self.waiting.split().freeze();
        if !rest.is_empty() {
            self.put(rest).await?;
        }
        let of = self.description.context("the stream does not say what it is of")?;
        let stored: u64 = self.objects.iter().map(|object| object.size).sum();
        if stored != of.size {
            bail!("{}: {stored} bytes came of {}", of.group, of.size);
        }
        let manifest = GroupManifest {
            format: FORMAT,
            of,
            objects: self.objects,
            sha256: hex::encode(sum),
            contents: self.contents,
        };
        let bytes = Bytes::from(serde_json::to_vec_pretty(&manifest)?);
        let manifest_sha256 = hash_of(&bytes);
        self.store.put(MANIFEST, bytes).await?;
        let GroupManifest { of: Description { cluster, group, member, size, .. }, contents, .. } = manifest;
        Ok(Stored { part: Part { group, member, bytes: size, manifest_sha256 }, cluster, contents })
    }
}

/// A backup of one group for itself.
pub async fn of_one(client: &Client, store: &Store, group: &str) -> anyhow::Result<Manifest> {
    let stored = take(Source::member(client, group).await?, store, group).await?;
    Ok(Manifest::new(Kind::Group, stored.cluster, vec![stored.part], Vec::new()))
}

/// A backup of the group whose lone survivor this directory is.
pub async fn rescue(store: &Store, dir: &Path) -> anyhow::Result<Manifest> {
    let at = dir.to_owned();
    let group = tokio::task::spawn_blocking(move || group_of(&at)).await?.map_err(|e| in_use(dir, e))?;
    let stored = match group.as_str() {
        PLACEMENT => offline(store, dir, &group, Arc::new(Placement::default())).await?,
        _ => offline(store, dir, &group, Arc::new(Machine::new(Arc::new(Hub::default())))).await?,
    };
    Ok(Manifest::new(Kind::Group, stored.cluster, vec![stored.part], Vec::new()))
}

async fn offline<A: App>(store: &Store, dir: &Path, group: &str, app: Arc<A>) -> anyhow::Result<Stored> {
    let at = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Offline::open(&at, app)).await?;
    let offline = opened.map_err(|e| in_use(dir, e))?;
    let stored = take(Source::Offline(offline.backup().await?), store, group).await;
    tokio::task::spawn_blocking(move || drop(offline)).await?;
    stored
}

fn in_use(dir: &Path, error: conflux_raft::OpenError) -> anyhow::Error {
    let text = error.to_string();
    match text.contains("lock") || text.contains("LOCK") {
        true => anyhow::anyhow!("a process uses {}: back it up over its federation, or stop it first", dir.display()),
        false => error.into(),
    }
}
