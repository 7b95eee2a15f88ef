//! One `Feed` call: a gateway adds and drops tenants, and gets their revisions in order.
//!
//! A tenant joins so that nothing is lost and nothing comes twice: first its live frames are asked for, then the history
//! is read, page by page, up to the state's present; frames up to there are skipped by their revision, the next one
//! follows on. A hole, should there ever be one, is read from the history again.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use conflux_common::{
    error::{ApiError, Code, Hint},
    ids::{Epoch, TenantId},
};
use conflux_proto::{
    internal::{
        FeedAnswer, FeedMark, FeedPosition, FeedQuestion, FeedRequest, FeedResponse, FeedSubscribe, feed_request,
        feed_response::Body,
    },
    status::to_status,
};
use futures::{Stream, StreamExt, stream};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    Frame, Queue,
    newcomer::await_newcomer,
    subscription::{Ended, Subscription, Taken},
};
use crate::shard::Shard;

/// Messages that wait for the gateway to take them.
const OUTGOING: usize = 128;
/// Tenants on one stream.
const MAX_SUBSCRIPTIONS: usize = 100_000;
/// Tenants on one stream that are looked up at a time; further ones are told at once that they are not here.
const MAX_NEWCOMERS: usize = 1024;
/// How often a followed tenant's progress is confirmed.
const MARK_EVERY: Duration = Duration::from_millis(500);

/// What the call answers.
pub type FeedStream = Pin<Box<dyn Stream<Item = Result<FeedResponse, Status>> + Send>>;

/// Starts the stream. It ends when the gateway goes, when it is too slow, and when this process stops.
pub fn feed<S>(shard: Arc<Shard>, requests: S, request_id: String) -> FeedStream
where
    S: Stream<Item = Result<FeedRequest, Status>> + Send + Unpin + 'static,
{
    let (out, messages) = mpsc::channel(OUTGOING);
    let (tell_end, end) = oneshot::channel();
    let queue = shard.hub.open();
    let task = Task {
        shard,
        queue,
        out,
        tenants: BTreeMap::new(),
        joining: BTreeSet::new(),
        joined: 0,
        newcomers: JoinSet::new(),
    };
    tokio::spawn(async move {
        let outcome = task.run(requests).await;
        if let Err(error) = outcome {
            tracing::info!(%request_id, %error, "a feed stream ends");
            let _ = tell_end.send(to_status(&error, &request_id));
        }
    });
    let last = stream::once(end).filter_map(|end| async { end.ok().map(Err) });
    Box::pin(ReceiverStream::new(messages).map(Ok).chain(last))
}

struct Task {
    shard: Arc<Shard>,
    queue: Queue,
    out: mpsc::Sender<FeedResponse>,
    tenants: BTreeMap<u64, Subscription>,
    /// Those that read the history, a page each in turn, so that none holds up the others.
    joining: BTreeSet<u64>,
    /// Whose turn was last.
    joined: u64,
    /// Those that are unknown here and looked up; each then joins.
    newcomers: JoinSet<u64>,
}

impl Task {
    /// Runs until the gateway goes (`Ok`) or is told why it ends.
    async fn run<S>(mut self, mut requests: S) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<FeedRequest, Status>> + Send + Unpin,
    {
        let mut marks = interval(MARK_EVERY);
        marks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let cut = self.queue.cut().clone();
            tokio::select! {
                () = self.shard.stopping.cancelled() => return Err(stopping()),
                () = cut.cancelled() => return Err(too_slow()),
                () = self.out.closed() => return Ok(()),
                _ = marks.tick() => self.send_marks().await?,
                frame = self.queue.next() => match frame {
                    Some(frame) => self.take(frame).await?,
                    None => return Ok(()),
                },
                request = requests.next() => match request {
                    Some(Ok(request)) => self.answer(request).await?,
                    Some(Err(_)) | None => return Ok(()),
                },
                Some(newcomer) = self.newcomers.join_next() => if let Ok(tenant) = newcomer {
                    self.joining.extend(self.tenants.contains_key(&tenant).then_some(tenant));
                },
                () = std::future::ready(()), if !self.joining.is_empty() => self.join_next().await?,
            }
        }
    }

    async fn send(&self, tenant_id: u64, body: Body) -> Result<(), ApiError> {
        tokio::select! {
            biased;
            () = self.queue.cut().cancelled() => Err(too_slow()),
            () = self.shard.stopping.cancelled() => Err(stopping()),
            // A gateway that has gone is noticed by the loop.
            _ = self.out.send(FeedResponse { tenant_id, body: Some(body) }) => Ok(()),
        }
    }

    async fn answer(&mut self, request: FeedRequest) -> Result<(), ApiError> {
        match request.request {
            Some(feed_request::Request::Subscribe(asked)) => self.subscribe(&asked),
            Some(feed_request::Request::Unsubscribe(tenant)) => {
                self.forget(tenant);
                Ok(())
            }
            Some(feed_request::Request::Question(question)) => self.reply(&question).await,
            None => Ok(()), // of a newer gateway
        }
    }

    fn subscribe(&mut self, asked: &FeedSubscribe) -> Result<(), ApiError> {
        if self.tenants.len() >= MAX_SUBSCRIPTIONS && !self.tenants.contains_key(&asked.tenant_id) {
            let text = format!("more than {MAX_SUBSCRIPTIONS} tenants on one feed stream");
            return Err(ApiError::new(Code::ResourceExhausted, text));
        }
        // First the frames, then the history: in between nothing can be lost.
        self.queue.follow(asked.tenant_id);
        self.tenants.insert(asked.tenant_id, Subscription::new(asked));
        self.joining.insert(asked.tenant_id);
        Ok(())
    }

    fn forget(&mut self, tenant: u64) {
        self.queue.unfollow(tenant);
        self.tenants.remove(&tenant);
        self.joining.remove(&tenant);
    }

    async fn end(&mut self, tenant: u64, why: Ended) -> Result<(), ApiError> {
        self.forget(tenant);
        self.send(tenant, Body::End(why.to_wire())).await
    }

    /// One page of the history of the tenant whose turn it is.
    async fn join_next(&mut self) -> Result<(), ApiError> {
        let mut later = self.joining.range(self.joined.saturating_add(1)..);
        let Some(tenant) = later.next().or_else(|| self.joining.first()).copied() else { return Ok(()) };
        self.joined = tenant;
        self.joining.remove(&tenant);
        // Before the state is read: what the age vouches for is then in it.
        let asked = Instant::now();
        let age = self.shard.node.freshness().age;
        let Some(subscription) = self.tenants.get(&tenant).cloned() else { return Ok(()) };
        let node = self.shard.node.clone();
        let read = move || node.read(|view| subscription.page(view, tenant));
        let page = match conflux_common::blocking::spawn_blocking(read).await {
            Ok(page) => page??,
            Err(e) => return Err(ApiError::new(Code::Internal, format!("reading the history failed: {e}"))),
        };
        let page = match page {
            Ok(page) => page,
            Err(why) if self.looks_up(tenant, why) => return Ok(()),
            Err(why) => return self.end(tenant, why).await,
        };
        for revision in &page.revisions {
            self.send(tenant, Body::Revision(revision.clone())).await?;
        }
        let Some(subscription) = self.tenants.get_mut(&tenant) else { return Ok(()) };
        subscription.sent_page(&page);
        if subscription.live {
            // Tells at once where it joined.
            self.send_mark(tenant, age, asked).await
        } else {
            self.joining.insert(tenant);
            Ok(())
        }
    }

    /// Whether the end of this subscription waits for a look-up, of which there is one.
    fn looks_up(&mut self, tenant: u64, why: Ended) -> bool {
        let Some(subscription) = self.tenants.get_mut(&tenant) else { return false };
        let news = matches!(why, Ended::NotHere | Ended::Behind);
        if !news || subscription.looked_up || self.newcomers.len() >= MAX_NEWCOMERS {
            return false;
        }
        subscription.looked_up = true;
        let (shard, epoch) = (self.shard.clone(), Epoch(subscription.epoch));
        self.newcomers.spawn(async move {
            await_newcomer(shard, TenantId(tenant), epoch).await;
            tenant
        });
        true
    }

    async fn take(&mut self, frame: Frame) -> Result<(), ApiError> {
        match frame {
            Frame::Replaced => {
                self.tenants.values_mut().for_each(|subscription| subscription.live = false);
                self.joining = self.tenants.keys().copied().collect();
                Ok(())
            }
            Frame::Tenant { tenant, .. } => {
                // The state says what became of it.
                if let Some(subscription) = self.tenants.get_mut(&tenant) {
                    subscription.live = false;
                    self.joining.insert(tenant);
                }
                Ok(())
            }
            Frame::Revision { tenant, epoch, revision } => {
                let Some(subscription) = self.tenants.get_mut(&tenant) else { return Ok(()) };
                match subscription.take(epoch, &revision) {
                    Taken::Send => self.send(tenant, Body::Revision((*revision).clone())).await,
                    Taken::Skip => Ok(()),
                    Taken::Hole => {
                        self.joining.insert(tenant);
                        Ok(())
                    }
                    Taken::Ended(why) => self.end(tenant, why).await,
                }
            }
        }
    }

    /// How old what is sent hereafter is at most. The age is asked for first, then the frames that wait are sent: whatever
    /// the age vouches for was applied before, so its frame is among them, and no mark promises more than was sent.
    async fn catch_up(&mut self) -> Result<(Duration, Instant), ApiError> {
        let asked = Instant::now();
        let age = self.shard.node.freshness().age;
        for _ in 0..self.queue.waiting() {
            match self.queue.try_next() {
                Some(frame) => self.take(frame).await?,
                None => break,
            }
        }
        Ok((age, asked))
    }

    /// Answers how far what was sent reaches. Other than a mark this has a question, from whose sending the gateway counts
    /// (DESIGN section 7): however long the answer is on its way, it makes nothing look younger.
    async fn reply(&mut self, question: &FeedQuestion) -> Result<(), ApiError> {
        let (age, asked) = self.catch_up().await?;
        let position = |tenant_id: &u64| {
            let subscription = self.tenants.get(tenant_id).filter(|s| !s.frozen)?;
            let (revision, incarnation) = subscription.mark()?;
            Some(FeedPosition { tenant_id: *tenant_id, revision, incarnation, epoch: subscription.epoch })
        };
        let positions = question.tenants.iter().take(MAX_SUBSCRIPTIONS).filter_map(position).collect();
        let age = age.saturating_add(asked.elapsed()).as_nanos().div_ceil(1_000_000);
        let age_ms = u64::try_from(age).unwrap_or(u64::MAX);
        self.send(0, Body::Answer(FeedAnswer { id: question.id, age_ms, positions })).await
    }

    /// Marks for all tenants that are live.
    async fn send_marks(&mut self) -> Result<(), ApiError> {
        let (age, asked) = self.catch_up().await?;
        let live: Vec<u64> = self.tenants.iter().filter(|(_, s)| s.live).map(|(t, _)| *t).collect();
        for tenant in live {
            self.send_mark(tenant, age, asked).await?;
        }
        Ok(())
    }

    async fn send_mark(&self, tenant: u64, age: Duration, asked: Instant) -> Result<(), ApiError> {
        let Some(subscription) = self.tenants.get(&tenant) else { return Ok(()) };
        let Some((revision, incarnation)) = subscription.mark() else { return Ok(()) };
        // `MAX`: no quorum has answered since the start. The gateway is told by a mark that is older than any bound.
        let age_ms = u64::try_from(age.saturating_add(asked.elapsed()).as_millis()).unwrap_or(u64::MAX);
        let mark = FeedMark { revision, incarnation, age_ms, epoch: subscription.epoch, frozen: subscription.frozen };
        self.send(tenant, Body::Mark(mark)).await
    }
}

fn stopping() -> ApiError {
    ApiError::elsewhere(Hint::TryOther, "this replica is stopping: join at another one")
}

fn too_slow() -> ApiError {
    metrics::counter!("conflux_shard_feed_cut_total").increment(1);
    ApiError::new(Code::ResourceExhausted, "the reader of this feed is too slow: join again after the last revision")
        .retry_after(Duration::from_millis(100))
}
