//! Keeps the mirrors of routes and identities true: placement's change stream, resumed after each loss.

use std::time::Duration;

use conflux_common::{ids::GroupName, telemetry::Readiness};
use conflux_proto::internal::{self, placement_service_client::PlacementServiceClient};
use tonic::Streaming;

use crate::{
    directory::{Content, Directory},
    routes::{Routes, Table},
    upstream::Upstream,
};

/// Placement speaks at least once a second; silence for longer than this is a dead stream.
const SILENCE: Duration = Duration::from_secs(3);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// A frame holds one part of a whole copy; large federations send many.
const MAX_FRAME: usize = 16 << 20;

/// The mirror's own state: where it is in the stream.
pub struct Mirror {
    routes: Routes,
    directory: Directory,
    upstream: Upstream,
    group: GroupName,
    ready: Readiness,
    /// The last sequence that was applied as part of a complete copy or after one.
    after: Option<u64>,
    copy: Option<Copy>,
    /// Something came since the last complaint.
    heard: bool,
}

/// A whole copy in the making: it takes the mirrors' place at its last frame, not before.
#[derive(Default)]
struct Copy {
    table: Table,
    content: Content,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Refused(#[from] Box<tonic::Status>),
    #[error("silent for {0:?}")]
    Silent(Duration),
    #[error("the member ended it")]
    Ended,
}

impl Mirror {
    /// `group` is placement's.
    pub fn new(routes: Routes, directory: Directory, upstream: Upstream, group: GroupName, ready: Readiness) -> Self {
        Self { routes, directory, upstream, group, ready, after: None, copy: None, heard: true }
    }

    /// Follows the stream for ever, from one member of placement after another.
    pub async fn run(mut self) {
        loop {
            for peer in self.upstream.by_health(&self.group) {
                let Some(channel) = self.upstream.channel(&self.group, &peer.name) else { continue };
                let Err(why) = self.follow(PlacementServiceClient::new(channel)).await else { continue };
                self.upstream.note_failure(&peer);
                // Once for each silence: an election is no news every 200 ms.
                if std::mem::take(&mut self.heard) {
                    tracing::warn!(member = %peer.name, %why, "placement's changes broke off; asking other members");
                } else {
                    tracing::debug!(member = %peer.name, %why, "placement's changes: not here");
                }
                // An unfinished copy is worth nothing to the next member.
                self.copy = None;
                tokio::time::sleep(PAUSE).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self, client: PlacementServiceClient<tonic::transport::Channel>) -> Result<(), Broken> {
        let request = internal::ChangesRequest { after: self.after.unwrap_or(0), has_after: self.after.is_some() };
        let mut client = client.max_decoding_message_size(MAX_FRAME);
        let opened = tokio::time::timeout(SILENCE, client.changes(request)).await;
        let stream = opened.map_err(|_| Broken::Silent(SILENCE))?.map_err(Box::new)?;
        let mut stream: Streaming<internal::ChangesResponse> = stream.into_inner();
        loop {
            let frame = tokio::time::timeout(SILENCE, stream.message()).await;
            let frame = frame.map_err(|_| Broken::Silent(SILENCE))?.map_err(Box::new)?;
            self.take(frame.ok_or(Broken::Ended)?);
        }
    }

    fn take(&mut self, frame: internal::ChangesResponse) {
        self.heard = true;
        if frame.reset {
            self.copy = Some(Copy::default());
        }
        let changes: Vec<_> = frame.changes.into_iter().filter_map(|c| c.change).collect();
        if let Some(copy) = &mut self.copy {
            for change in &changes {
                copy.table.apply(change);
                copy.content.apply(change);
            }
            if frame.complete {
                self.complete(frame.seq);
            }
            return;
        }
        if !changes.is_empty() {
            self.routes.change(|table| changes.iter().for_each(|c| table.apply(c)));
            self.directory.change(frame.seq, |content| {
                for change in &changes {
                    content.apply(change);
                }
            });
            self.upstream.prune();
        }
        self.directory.heard(frame.seq);
        self.after = Some(frame.seq);
    }

    fn complete(&mut self, seq: u64) {
        let Some(copy) = self.copy.take() else { return };
        self.routes.replace(copy.table);
        self.directory.change(seq, |content| *content = copy.content);
        self.upstream.prune();
        self.after = Some(seq);
        if !self.ready.get() {
            tracing::info!(seq, "the mirror of tenants, groups and identities is complete");
        }
        self.ready.set(true);
    }
}

#[cfg(test)]
mod tests {
    use conflux_common::testing::TestCa;
    use conflux_proto::internal::{Change, ChangesResponse, KeyRecord, TenantRecord, TenantState, change};

    use super::*;

    fn mirror() -> (Mirror, Routes, Directory, Readiness, tempfile::TempDir) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let tls = TestCa::new(dir.path()).context("conflux://test/gateway/g1");
        let routes = Routes::default();
        let directory = Directory::new(Duration::ZERO);
        let upstream = Upstream::new(tls, "test".parse().unwrap(), routes.clone(), 1);
        let ready = Readiness::default();
        let group = "placement".parse().unwrap();
        let mirror = Mirror::new(routes.clone(), directory.clone(), upstream, group, ready.clone());
        (mirror, routes, directory, ready, dir)
    }

    fn tenant(id: u64, name: &str) -> Change {
        let record = TenantRecord {
            id,
            name: name.into(),
            shard: "a".into(),
            epoch: 1,
            state: TenantState::Stable as i32,
            ..Default::default()
        };
        Change { change: Some(change::Change::Tenant(record)) }
    }

    fn key(id: &str) -> Change {
        Change { change: Some(change::Change::Key(KeyRecord { id: id.into(), ..Default::default() })) }
    }

    #[tokio::test]
    async fn a_whole_copy_counts_when_it_is_whole() {
        // Half a copy would answer 401 to keys that exist.
        let (mut mirror, routes, directory, ready, _dir) = mirror();
        let changes = vec![tenant(1, "acme"), key("k1")];
        mirror.take(ChangesResponse { reset: true, changes, ..Default::default() });
        assert!(!ready.get() && directory.key("k1").is_none() && !directory.is_fresh());
        mirror.take(ChangesResponse { complete: true, seq: 9, changes: vec![key("k2")], ..Default::default() });
        assert!(ready.get() && directory.key("k1").is_some() && directory.key("k2").is_some());
        assert!(directory.is_fresh());
        assert!(routes.tenant(&"acme".parse().unwrap()).is_some());
        assert_eq!((mirror.after, directory.seq()), (Some(9), 9));
    }

    #[tokio::test]
    async fn a_revocation_is_told_to_those_who_watch() {
        let (mut mirror, _, directory, _, _dir) = mirror();
        mirror.take(ChangesResponse { reset: true, complete: true, seq: 1, changes: vec![key("k1")], progress: false });
        let mut changed = directory.subscribe();
        changed.mark_unchanged();
        let gone = Change { change: Some(change::Change::KeyGone("k1".into())) };
        mirror.take(ChangesResponse { seq: 2, changes: vec![gone], ..Default::default() });
        assert!(changed.has_changed().unwrap());
        assert!(directory.key("k1").is_none());
        assert_eq!(mirror.after, Some(2));
    }
}
