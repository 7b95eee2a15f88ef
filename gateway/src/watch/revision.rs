//! One revision of a tenant as all its watchers share it.

use std::sync::OnceLock;

use bytes::Bytes;
use conflux_common::{
    ids::{ConfigId, Incarnation, Revision, RevisionMark},
    release::ReleaseRule,
};
use conflux_proto::{internal, release, v1};
use prost::Message;

/// A revision with all its events.
#[derive(Debug)]
pub struct Held {
    /// Which one.
    pub mark: RevisionMark,
    /// Its changes, at least one.
    pub changes: Vec<Change>,
    /// About how many bytes it takes.
    pub size: usize,
    /// As text for watchers that select all of it, made once for all of them.
    pub whole: OnceLock<Bytes>,
}

/// One event, and what a watch by label needs to know.
#[derive(Debug, Clone)]
pub struct Change {
    /// As watchers see it.
    pub event: v1::Event,
    /// The config's number, which release evaluation hashes.
    pub config: u64,
    /// None where they could not be read.
    pub rules: Option<Rules>,
}

/// The release rules around a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// As they were.
    pub before: Vec<ReleaseRule>,
    /// As they are now.
    pub after: Vec<ReleaseRule>,
}

impl From<internal::FeedRevision> for Held {
    fn from(wire: internal::FeedRevision) -> Self {
        // Rules take about twice their encoding once they are parsed.
        let size = 2 * wire.encoded_len() + 128;
        let mark = RevisionMark { incarnation: Incarnation(wire.incarnation), revision: Revision(wire.revision) };
        Held { mark, changes: wire.events.into_iter().map(Change::from).collect(), size, whole: OnceLock::new() }
    }
}

impl From<internal::FeedEvent> for Change {
    fn from(wire: internal::FeedEvent) -> Self {
        let event = wire.event.unwrap_or_default();
        let read = |rules: &[v1::ReleaseRule]| rules.iter().map(release::from_wire).collect::<Result<Vec<_>, _>>().ok();
        let after = if event.r#type == "deleted" { Some(Vec::new()) } else { read(&wire.rules_after) };
        let rules = read(&wire.rules_before).zip(after).map(|(before, after)| Rules { before, after });
        let config = event.config_id.parse::<ConfigId>().map_or(0, |id| id.0);
        Change { event, config, rules }
    }
}
