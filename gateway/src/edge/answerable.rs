//! A fetch that the edge can answer, and the answer.

use std::{sync::Arc, time::Instant};

use axum::body::Body;
use conflux_common::{
    fetch::State,
    headers,
    ids::{Epoch, RevisionMark},
};
use http::{HeaderName, HeaderValue, Response, header};

use super::{asked::Asked, set::Set};
use crate::watch::Vouched;

/// See the module.
pub struct Answerable {
    set: Arc<Set>,
    /// In the set.
    version: usize,
    not_modified: bool,
    mark: RevisionMark,
    epoch: Epoch,
    at: Instant,
}

impl Answerable {
    /// What the set answers, having been found after `vouched` was read. None: a shard must be asked, since nothing is released
    /// to these labels, or since the client has seen more than is known here.
    pub(super) fn of(set: Arc<Set>, vouched: &Vouched, asked: &Asked<'_>) -> Option<Self> {
        // Nothing between the two changed the config, whichever is the later one.
        let mark = RevisionMark { revision: vouched.mark.revision.max(set.mark.revision), ..vouched.mark };
        let seen = asked.min_revision.unwrap_or(mark);
        if seen.incarnation != mark.incarnation || seen.revision > mark.revision {
            return None;
        }
        let version = set.resolve(&asked.labels)?;
        let not_modified = asked.known.contains(&set.version(version)?.etag);
        Some(Self { version, not_modified, mark, epoch: vouched.epoch, at: vouched.at, set })
    }

    /// How old the answer is at most, now, in whole milliseconds: rounded up, so that it is never younger than it says.
    pub fn age_ms(&self) -> u64 {
        u64::try_from(self.at.elapsed().as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// The answer as a shard would give it, of this age.
    pub fn response(&self, age_ms: u64) -> Response<Body> {
        let state = State { epoch: self.epoch, mark: self.mark, age_ms };
        let Some(version) = self.set.version(self.version) else { return Response::default() };
        let content = (!self.not_modified).then(|| version.content.clone());
        let length = content.as_ref().map(bytes::Bytes::len);
        let mut response = version.head.answer(&state, content);
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        response.map(Body::from)
    }

    /// The same, marked as older than it may be.
    pub fn response_of_outage(&self) -> Response<Body> {
        let mut response = self.response(self.age_ms());
        response.headers_mut().insert(HeaderName::from_static(headers::STALE), HeaderValue::from_static("outage"));
        response
    }
}
