//! The one stream of changes from a shard group: subscribes the tenants that are wanted, and goes on elsewhere when it
//! breaks.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use conflux_common::ids::{Epoch, GroupName, TenantId};
use conflux_proto::internal::{
    FeedAnswer, FeedQuestion, FeedRequest, FeedResponse, FeedSubscribe, feed_request::Request, feed_response::Body,
    shard_service_client::ShardServiceClient,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::hub::{Hub, Then};
use crate::{
    routes::Routes,
    upstream::{Peer, Upstream},
};

/// To open a stream.
const OPENING: Duration = Duration::from_secs(3);
/// A followed tenant is spoken of twice a second. One of which nothing is heard for so long is at a broken member.
const SILENCE: Duration = Duration::from_secs(4);
/// A member that a quorum has not confirmed for so long is cut off from it; another one may not be.
const STALE: Duration = Duration::from_secs(5);
/// Between two attempts at a broken group, doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After a member said that a tenant is elsewhere: time for the routes to follow.
const ELSEWHERE: Duration = Duration::from_millis(250);
/// A member that has said so often in a row, of every tenant, that it is elsewhere may be the one that is behind.
const REFUSALS: u32 = 8;
/// Questions that may be without an answer. A member that leaves more of them, or that is of a version which knows of none, is
/// asked no more until it answers.
const UNANSWERED: usize = 16;
/// How often silence and postponed subscriptions are looked at, and how often it is asked how old the tenants are.
const LOOK: Duration = Duration::from_millis(250);
/// A revision carries the rules around it: at most about three megabytes.
const MAX_FRAME: usize = 16 << 20;

/// The tenants of one group that are to be followed.
#[derive(Debug, Default)]
pub struct Wanted {
    hubs: Mutex<HashMap<TenantId, Arc<Hub>>>,
    changed: Notify,
}

impl Wanted {
    /// Follows it.
    pub fn add(&self, hub: &Arc<Hub>) {
        let known = self.hubs.lock().insert(hub.tenant, hub.clone());
        // Every watcher that comes asks for it; only the first one is news.
        if known.is_none_or(|known| !Arc::ptr_eq(&known, hub)) {
            self.changed.notify_one();
        }
    }

    /// The route of one of them is another.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Follows it no longer.
    pub fn remove(&self, tenant: TenantId) {
        if self.hubs.lock().remove(&tenant).is_some() {
            self.changed.notify_one();
        }
    }

    fn get(&self, tenant: TenantId) -> Option<Arc<Hub>> {
        self.hubs.lock().get(&tenant).cloned()
    }

    fn is_empty(&self) -> bool {
        self.hubs.lock().is_empty()
    }
}

/// Follows the wanted tenants of one group for ever.
pub struct Feed {
    /// Which group.
    pub group: GroupName,
    /// Its tenants.
    pub wanted: Arc<Wanted>,
    /// Connections.
    pub upstream: Upstream,
    /// Members and leaders.
    pub routes: Routes,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Refused(#[from] Box<tonic::Status>),
    #[error("no answer within {0:?}")]
    Opening(Duration),
    #[error("nothing was heard of tenant {0} for {SILENCE:?}")]
    Silent(TenantId),
    #[error("no quorum has confirmed it for {STALE:?}")]
    Stale,
    #[error("it serves none of the tenants that it should")]
    Empty,
    #[error("the member ended it")]
    Ended,
}

impl Feed {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut failed: Option<Arc<Peer>> = None;
        loop {
            while self.wanted.is_empty() {
                self.wanted.changed.notified().await;
            }
            let Some(peer) = self.pick(failed.as_ref()) else {
                sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
                continue;
            };
            match self.follow(&peer).await {
                Ok(()) => failed = None,
                Err((why, heard)) => {
                    metrics::counter!("conflux_gateway_feed_breaks_total", "group" => self.group.to_string())
                        .increment(1);
                    tracing::warn!(group = %self.group, member = %peer.name, %why, "the feed broke: asking another member");
                    self.upstream.note_failure(&peer);
                    failed = Some(peer);
                    pause = if heard { FIRST_PAUSE } else { (2 * pause).min(LONGEST_PAUSE) };
                    sleep(pause).await;
                }
            }
        }
    }

    /// The leader has every change first; who has just failed is asked last.
    fn pick(&self, failed: Option<&Arc<Peer>>) -> Option<Arc<Peer>> {
        let mut peers = self.upstream.by_health(&self.group);
        let leader = self.routes.leader(&self.group);
        peers.sort_by_key(|p| (failed.is_some_and(|f| f.name == p.name), Some(&p.name) != leader.as_ref()));
        peers.into_iter().next()
    }

    /// Follows through one member. `Ok` when nothing is wanted any more; else why, and whether it said anything.
    async fn follow(&self, peer: &Peer) -> Result<(), (Broken, bool)> {
        let Some(channel) = self.upstream.channel(&self.group, &peer.name) else { return Err((Broken::Ended, false)) };
        let (requests, outgoing) = mpsc::channel(64);
        let stream = open(channel, outgoing).await.map_err(|why| (why, false))?;
        let mut line = Line::new(&self.wanted, requests);
        let outcome = line.run(stream).await;
        if line.heard {
            self.upstream.note_success(peer);
        }
        outcome.map_err(|why| (why, line.heard))
    }
}

async fn open(channel: Channel, outgoing: mpsc::Receiver<FeedRequest>) -> Result<Streaming<FeedResponse>, Broken> {
    let mut client = ShardServiceClient::new(channel).max_decoding_message_size(MAX_FRAME);
    let opened = timeout(OPENING, client.feed(ReceiverStream::new(outgoing))).await;
    Ok(opened.map_err(|_| Broken::Opening(OPENING))?.map_err(Box::new)?.into_inner())
}

/// A tenant on the stream.
#[derive(Debug)]
struct Subscribed {
    epoch: Epoch,
    heard: Instant,
    /// Until when it waits, before it is asked for again.
    postponed: Option<Instant>,
    /// How often in a row the member said that it is elsewhere.
    refusals: u32,
}

impl Subscribed {
    /// Whether it has to be asked for again, the tenant being served under this epoch.
    fn is_due(&self, epoch: Epoch, now: Instant) -> bool {
        self.epoch < epoch || self.postponed.is_some_and(|until| until <= now)
    }
}

/// One open stream.
struct Line<'a> {
    wanted: &'a Wanted,
    subscribed: HashMap<TenantId, Subscribed>,
    /// Tenants about which something has to be said. Each is looked at when its turn comes.
    due: VecDeque<TenantId>,
    requests: mpsc::Sender<FeedRequest>,
    /// When each question was sent that has no answer yet.
    questions: VecDeque<(u64, std::time::Instant)>,
    asked: u64,
    opened: Instant,
    heard: bool,
}

impl<'a> Line<'a> {
    fn new(wanted: &'a Wanted, requests: mpsc::Sender<FeedRequest>) -> Self {
        let opened = Instant::now();
        let mut line = Line {
            wanted,
            subscribed: HashMap::new(),
            due: VecDeque::new(),
            requests,
            questions: VecDeque::new(),
            asked: 0,
            opened,
            heard: false,
        };
        line.compare();
        line
    }

    async fn run(&mut self, mut stream: Streaming<FeedResponse>) -> Result<(), Broken> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.due.is_empty() && self.wanted.is_empty() {
                return Ok(());
            }
            tokio::select! {
                message = stream.message() => {
                    let frame = message.map_err(Box::new)?.ok_or(Broken::Ended)?;
                    self.take(frame)?;
                }
                // Never waits for room while the member waits for us to read.
                permit = self.requests.clone().reserve_owned(), if !self.due.is_empty() => {
                    let permit = permit.map_err(|_| Broken::Ended)?;
                    if let Some(request) = self.next_request() {
                        permit.send(FeedRequest { request: Some(request) });
                    }
                }
                () = self.wanted.changed.notified() => self.compare(),
                _ = look.tick() => {
                    self.check_silence()?;
                    self.compare();
                    self.ask();
                }
            }
        }
    }

    /// Finds what has to be said so that the stream carries what is wanted.
    fn compare(&mut self) {
        let wanted = self.wanted.hubs.lock();
        let now = Instant::now();
        let gone = self.subscribed.keys().filter(|tenant| !wanted.contains_key(tenant)).copied();
        let asked = wanted.values().filter(|hub| match self.subscribed.get(&hub.tenant) {
            None => true,
            Some(s) => s.is_due(hub.route().epoch, now),
        });
        self.due = gone.chain(asked.map(|hub| hub.tenant)).collect();
    }

    /// Asks how old the tenants are of which somebody wants to know. From the sending of the question their age is counted.
    fn ask(&mut self) {
        let asked = |hub: &&Arc<Hub>| hub.is_asked() && self.subscribed.contains_key(&hub.tenant);
        let tenants: Vec<u64> = self.wanted.hubs.lock().values().filter(asked).map(|hub| hub.tenant.0).collect();
        if tenants.is_empty() || self.questions.len() >= UNANSWERED {
            return;
        }
        let (id, sent) = (self.asked, std::time::Instant::now());
        let question = FeedRequest { request: Some(Request::Question(FeedQuestion { id, tenants })) };
        // Where there is no room, others are asked for now; the next look comes soon.
        if self.requests.try_send(question).is_ok() {
            self.asked += 1;
            self.questions.push_back((id, sent));
        }
    }

    fn answered(&mut self, answer: &FeedAnswer) {
        while let Some((id, sent)) = self.questions.front().copied() {
            if id > answer.id {
                return;
            }
            self.questions.pop_front();
            if id < answer.id {
                continue;
            }
            // Where no quorum was ever heard of, the age is beyond all bounds, and no moment is so long ago.
            let Some(at) = sent.checked_sub(Duration::from_millis(answer.age_ms)) else { return };
            for said in &answer.positions {
                if let Some(hub) = self.wanted.get(TenantId(said.tenant_id)) {
                    hub.vouch(said, at);
                }
            }
        }
    }

    fn next_request(&mut self) -> Option<Request> {
        let tenant = self.due.pop_front()?;
        let Some(hub) = self.wanted.get(tenant) else {
            return self.subscribed.remove(&tenant).map(|_| Request::Unsubscribe(tenant.0));
        };
        let epoch = hub.route().epoch;
        let refusals = self.subscribed.get(&tenant).map_or(0, |s| s.refusals);
        self.subscribed.insert(tenant, Subscribed { epoch, heard: Instant::now(), postponed: None, refusals });
        Some(Request::Subscribe(FeedSubscribe { tenant_id: tenant.0, epoch: epoch.0, after: hub.after() }))
    }

    fn take(&mut self, frame: FeedResponse) -> Result<(), Broken> {
        self.heard = true;
        if let Some(Body::Answer(answer)) = &frame.body {
            self.answered(answer);
            return Ok(());
        }
        let tenant = TenantId(frame.tenant_id);
        // Of one that was dropped while this was on its way.
        let (Some(hub), Some(subscribed)) = (self.wanted.get(tenant), self.subscribed.get_mut(&tenant)) else {
            return Ok(());
        };
        let now = Instant::now();
        subscribed.heard = now;
        if let Some(Body::Mark(mark)) = &frame.body
            && !mark.frozen
            && Duration::from_millis(mark.age_ms) > STALE
            && self.opened.elapsed() > STALE
        {
            return Err(Broken::Stale);
        }
        match hub.take(frame) {
            Then::GoOn => subscribed.refusals = 0,
            Then::Again if subscribed.postponed.is_none() => {
                subscribed.postponed = Some(now);
                self.due.push_back(tenant);
            }
            Then::Again => {}
            Then::Elsewhere => {
                subscribed.postponed = Some(now + ELSEWHERE);
                subscribed.refusals += 1;
                if self.subscribed.values().all(|s| s.refusals >= REFUSALS) {
                    return Err(Broken::Empty);
                }
            }
            Then::Over => self.wanted.remove(tenant),
        }
        Ok(())
    }

    fn check_silence(&self) -> Result<(), Broken> {
        let silent = |s: &Subscribed| s.postponed.is_none() && s.heard.elapsed() > SILENCE;
        match self.subscribed.iter().find(|(_, s)| silent(s)) {
            Some((tenant, _)) => Err(Broken::Silent(*tenant)),
            None => Ok(()),
        }
    }
}
