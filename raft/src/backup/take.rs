//! A running member makes a backup of its state.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use conflux_common::blocking::spawn_blocking;
use tokio::sync::mpsc;

use super::{Checkpoint, Content, Description, Frame};
use crate::{
    app::App,
    error::{FatalError, ReadError},
    log_store::Identity,
    node::RaftNode,
    snapshot::SnapshotHandle,
};

/// Chunks that wait for a slow reader.
const WAITING: usize = 2;
/// How often it is looked whether the state is current: nothing wakes on an age.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A backup as it is read: encoded frames. Dropped, it ends.
pub struct BackupStream(mpsc::Receiver<io::Result<Bytes>>);

impl BackupStream {
    /// The next bytes; none: the end.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.0.recv().await.transpose()
    }

    pub(super) fn into_inner(self) -> mpsc::Receiver<io::Result<Bytes>> {
        self.0
    }
}

impl<A: App> RaftNode<A> {
    /// A checkpoint that holds everything that was acknowledged before this call, on any member. Its files stay until
    /// the stream has ended or was dropped.
    pub async fn backup(&self, within: Duration) -> Result<BackupStream, ReadError> {
        self.catch_up(within).await?;
        let replica = self.replica();
        let identity = replica.log.identity()?.ok_or(ReadError::NotReady)?;
        let handle = replica.state.checkpoint().await?;
        Ok(send(replica.app.clone(), &identity, handle).await?)
    }

    /// Waits until a question that was asked after this moment was answered by a quorum and is applied here.
    async fn catch_up(&self, within: Duration) -> Result<(), ReadError> {
        let asked = Instant::now();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while self.freshness().age >= asked.elapsed() {
            if asked.elapsed() > within {
                return Err(ReadError::NoQuorum(within));
            }
            ticks.tick().await;
        }
        Ok(())
    }
}

/// Packs the checkpoint and looks through it at the same time. Ends when nobody listens any more.
pub(super) async fn send<A: App>(
    app: Arc<A>,
    identity: &Identity,
    handle: SnapshotHandle,
) -> Result<BackupStream, FatalError> {
    let failed = |e: io::Error| FatalError(format!("the checkpoint cannot be read: {e}"));
    let reader = handle.pack().await.map_err(failed)?;
    let description = Description {
        cluster: identity.cluster.clone(),
        group: identity.group.clone(),
        founding: hex::encode(&identity.founding),
        member: identity.member.clone(),
        node_id: identity.node_id,
        position: handle.content().position(),
        size: reader.size(),
    };
    let (frames, out) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let path = handle.path();
        let contents = spawn_blocking(move || contents(&*app, &path));
        let sent = async {
            let _ = frames.send(Ok(Frame::Description(description).encode())).await;
            let mut reader = reader;
            while let Some(chunk) = reader.next().await.map_err(|e| e.to_string())? {
                if frames.send(Ok(Frame::Data(chunk).encode())).await.is_err() {
                    return Ok(());
                }
            }
            let contents = contents.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            for frame in Frame::of_contents(&contents) {
                let _ = frames.send(Ok(frame.encode())).await;
            }
            let sum = reader.sha256().ok_or("the sum of the checkpoint is missing")?;
            let _ = frames.send(Ok(Frame::End(sum).encode())).await;
            Ok::<_, String>(())
        };
        if let Err(why) = sent.await {
            tracing::warn!(why, "a backup broke off");
            let _ = frames.send(Ok(Frame::Failed(why).encode())).await;
        }
        // Until here the files are needed.
        drop(handle);
    });
    Ok(BackupStream(out))
}

fn contents<A: App>(app: &A, path: &std::path::Path) -> Result<Vec<Content>, FatalError> {
    Checkpoint::open(path)?.view(|view| app.contents(view))?
}
