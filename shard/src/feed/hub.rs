//! The hub of changes: what apply commits goes to every feed stream that follows the tenant, and wakes the reads that wait
//! for a revision.
//!
//! Apply calls it and must never wait: a stream's queue is bounded in frames and bytes, and a stream whose queue is full
//! is cut off. It can come back with the revision that it has; skipping a frame would break the order that watchers rely on.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use conflux_proto::internal::{FeedEvent, FeedRevision};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::machine::{ChangeSink, Notice, TenantState};

/// Frames that wait for one stream.
const MAX_FRAMES: usize = 4096;
/// Bytes of frames that wait for one stream.
const MAX_BYTES: usize = 16 << 20;

/// What a stream is told, in the order in which it was applied.
#[derive(Debug, Clone)]
pub enum Frame {
    /// A followed tenant has a new revision.
    Revision {
        /// Whose.
        tenant: u64,
        /// Under which ownership.
        epoch: u64,
        /// With all its events.
        revision: Arc<FeedRevision>,
    },
    /// A followed tenant got another epoch or went.
    Tenant {
        /// Which.
        tenant: u64,
        /// What became of it.
        state: TenantState,
        /// The epoch that this shard now has.
        epoch: u64,
    },
    /// A snapshot replaced the state: join every tenant anew.
    Replaced,
}

impl Frame {
    fn size(&self) -> usize {
        match self {
            Frame::Revision { revision, .. } => revision.encoded_len(),
            Frame::Tenant { .. } | Frame::Replaced => 32,
        }
    }
}

/// The hub's end of one stream.
#[derive(Debug)]
struct Line {
    frames: mpsc::Sender<Frame>,
    bytes: Arc<AtomicUsize>,
    cut: CancellationToken,
}

impl Line {
    /// Queues the frame, or cuts the stream off.
    fn push(&self, frame: Frame) {
        let size = frame.size();
        let queued = self.bytes.fetch_add(size, Ordering::AcqRel);
        if queued + size > MAX_BYTES || self.frames.try_send(frame).is_err() {
            self.cut.cancel();
        }
    }
}

#[derive(Debug, Default)]
struct Followers {
    lines: HashMap<u64, Arc<Line>>,
    /// The last revision that went out, to notice a hole.
    last: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    next_line: u64,
    lines: HashMap<u64, Arc<Line>>,
    tenants: HashMap<u64, Followers>,
    waiting: HashMap<u64, watch::Sender<()>>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Hub {
    state: Mutex<State>,
}

impl Hub {
    /// Opens the queue of a stream. It follows nothing yet.
    pub fn open(self: &Arc<Self>) -> Queue {
        let (tx, frames) = mpsc::channel(MAX_FRAMES);
        let (bytes, cut) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let line = Arc::new(Line { frames: tx, bytes: bytes.clone(), cut: cut.clone() });
        let mut state = self.state.lock();
        let id = state.next_line;
        state.next_line += 1;
        state.lines.insert(id, line);
        metrics::gauge!("conflux_shard_feed_streams").increment(1.0);
        Queue { hub: self.clone(), id, frames, bytes, cut }
    }

    /// Wakes after every change of this tenant from now on. Register first, then look at the state.
    pub fn changes_of(&self, tenant: u64) -> watch::Receiver<()> {
        let mut state = self.state.lock();
        // Those whose readers have gone would otherwise stay until the tenant changes.
        if state.waiting.len() > 1024 {
            state.waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        state.waiting.entry(tenant).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    fn wake(state: &mut State, tenant: u64) {
        if let Some(sender) = state.waiting.get(&tenant) {
            if sender.receiver_count() == 0 {
                state.waiting.remove(&tenant);
            } else {
                sender.send_replace(());
            }
        }
    }

    fn revision(state: &mut State, tenant: u64, epoch: u64, revision: FeedRevision) {
        metrics::counter!("conflux_shard_feed_revisions_total").increment(1);
        let Some(followers) = state.tenants.get_mut(&tenant) else { return };
        let number = revision.revision;
        if followers.last.is_some_and(|last| number != last + 1) {
            // The streams notice the hole too, and read it from the history.
            tracing::error!(tenant, revision = number, last = followers.last, "revisions are not dense");
            debug_assert!(false, "revision {number} of tenant {tenant} follows {:?}", followers.last);
        }
        followers.last = Some(number);
        let revision = Arc::new(revision);
        for line in followers.lines.values() {
            line.push(Frame::Revision { tenant, epoch, revision: revision.clone() });
        }
    }
}

impl ChangeSink for Hub {
    fn committed(&self, notices: Vec<Notice>) {
        let mut state = self.state.lock();
        for notice in notices {
            match notice {
                Notice::Revision { tenant_id, epoch, incarnation, revision, events } => {
                    let events: Vec<FeedEvent> = events;
                    let frame = FeedRevision { revision: revision.0, incarnation: incarnation.0, events };
                    Self::revision(&mut state, tenant_id.0, epoch.0, frame);
                    Self::wake(&mut state, tenant_id.0);
                }
                Notice::Tenant { tenant_id, state: became, epoch } => {
                    if let Some(followers) = state.tenants.get_mut(&tenant_id.0) {
                        followers.last = None;
                        for line in followers.lines.values() {
                            line.push(Frame::Tenant { tenant: tenant_id.0, state: became, epoch: epoch.0 });
                        }
                    }
                    Self::wake(&mut state, tenant_id.0);
                }
            }
        }
    }

    fn replaced(&self) {
        let mut state = self.state.lock();
        for followers in state.tenants.values_mut() {
            followers.last = None;
        }
        for line in state.lines.values() {
            line.push(Frame::Replaced);
        }
        for sender in state.waiting.values() {
            sender.send_replace(());
        }
    }
}

/// The stream's end: its frames, and what it follows. Dropping it leaves the hub.
#[derive(Debug)]
pub struct Queue {
    hub: Arc<Hub>,
    id: u64,
    frames: mpsc::Receiver<Frame>,
    bytes: Arc<AtomicUsize>,
    cut: CancellationToken,
}

impl Queue {
    /// From now on every change of this tenant comes as a frame.
    pub fn follow(&self, tenant: u64) {
        let mut state = self.hub.state.lock();
        if let Some(line) = state.lines.get(&self.id).cloned() {
            state.tenants.entry(tenant).or_default().lines.insert(self.id, line);
        }
    }

    /// No more frames of this tenant.
    pub fn unfollow(&self, tenant: u64) {
        let mut state = self.hub.state.lock();
        if let Some(followers) = state.tenants.get_mut(&tenant) {
            followers.lines.remove(&self.id);
            if followers.lines.is_empty() {
                state.tenants.remove(&tenant);
            }
        }
    }

    /// The next frame. Cancelling loses none.
    pub async fn next(&mut self) -> Option<Frame> {
        let frame = self.frames.recv().await?;
        self.bytes.fetch_sub(frame.size(), Ordering::AcqRel);
        Some(frame)
    }

    /// The next frame, if one waits.
    pub fn try_next(&mut self) -> Option<Frame> {
        let frame = self.frames.try_recv().ok()?;
        self.bytes.fetch_sub(frame.size(), Ordering::AcqRel);
        Some(frame)
    }

    /// How many frames wait.
    pub fn waiting(&self) -> usize {
        self.frames.len()
    }

    /// Cancelled when this stream was too slow: what waits is no longer the whole truth.
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        state.lines.remove(&self.id);
        state.tenants.retain(|_, followers| {
            followers.lines.remove(&self.id);
            !followers.lines.is_empty()
        });
        metrics::gauge!("conflux_shard_feed_streams").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use conflux_common::ids::{Epoch, Incarnation, Revision, TenantId};

    use super::*;

    fn revision(tenant: u64, number: u64) -> Notice {
        Notice::Revision {
            tenant_id: TenantId(tenant),
            epoch: Epoch(1),
            incarnation: Incarnation(1),
            revision: Revision(number),
            events: vec![FeedEvent::default()],
        }
    }

    fn numbers(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.try_next())
            .map(|frame| match frame {
                Frame::Revision { revision, .. } => revision.revision,
                Frame::Tenant { .. } | Frame::Replaced => 0,
            })
            .collect()
    }

    /// A stream gets the changes of the tenants that it follows, in order, and no others.
    #[test]
    fn followers_get_their_tenants_revisions_in_order() {
        let hub = Arc::new(Hub::default());
        let (mut one, mut two) = (hub.open(), hub.open());
        one.follow(7);
        two.follow(8);
        hub.committed(vec![revision(7, 1), revision(8, 1), revision(7, 2)]);
        assert_eq!(numbers(&mut one), [1, 2]);
        assert_eq!(numbers(&mut two), [1]);
        one.unfollow(7);
        hub.committed(vec![revision(7, 3)]);
        assert_eq!(numbers(&mut one), Vec::<u64>::new());
    }

    /// A slow stream must neither hold up apply nor grow nor be skipped: it is cut, and the others go on.
    #[test]
    fn a_full_queue_cuts_its_stream_only() {
        let hub = Arc::new(Hub::default());
        let (slow, mut quick) = (hub.open(), hub.open());
        slow.follow(7);
        quick.follow(7);
        let mut seen = 0;
        for number in 1..=(MAX_FRAMES as u64 + 1) {
            hub.committed(vec![revision(7, number)]);
            seen += numbers(&mut quick).len();
        }
        assert!(slow.cut().is_cancelled());
        assert!(!quick.cut().is_cancelled());
        assert_eq!(seen, MAX_FRAMES + 1);
    }

    /// Few but large frames must not grow the queue either.
    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let hub = Arc::new(Hub::default());
        let queue = hub.open();
        queue.follow(7);
        let big = FeedEvent {
            event: Some(conflux_proto::v1::Event { name: "x".repeat(1 << 20), ..Default::default() }),
            ..Default::default()
        };
        for number in 1..=16 {
            let Notice::Revision { tenant_id, epoch, incarnation, .. } = revision(7, number) else { unreachable!() };
            let events = vec![big.clone()];
            hub.committed(vec![Notice::Revision { tenant_id, epoch, incarnation, revision: Revision(number), events }]);
        }
        assert!(queue.cut().is_cancelled());
    }

    /// After a snapshot every stream must read its tenants anew, and every waiting read must look again.
    #[test]
    fn a_replaced_state_reaches_every_stream_and_reader() {
        let hub = Arc::new(Hub::default());
        let mut queue = hub.open();
        let mut changes = hub.changes_of(7);
        changes.mark_unchanged();
        hub.replaced();
        assert!(matches!(queue.try_next(), Some(Frame::Replaced)));
        assert!(changes.has_changed().unwrap());
    }

    /// A stream that has gone must leave nothing behind, or the hub would grow with every reconnect.
    #[test]
    fn a_dropped_queue_leaves_nothing() {
        let hub = Arc::new(Hub::default());
        let queue = hub.open();
        queue.follow(7);
        drop(queue);
        drop(hub.changes_of(9));
        hub.committed(vec![revision(7, 1), revision(9, 1)]);
        let state = hub.state.lock();
        assert!(state.lines.is_empty() && state.tenants.is_empty() && state.waiting.is_empty());
    }
}
