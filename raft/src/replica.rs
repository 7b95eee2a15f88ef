//! What all tasks of one member share, and its life cycle: standby, member, stopped.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use conflux_common::{settings::MemberSettings, tls::Role};
use openraft::{Config, SnapshotPolicy, async_runtime::watch::WatchReceiver};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    barrier::Barrier,
    clock::{GroupClock, Now},
    disk::DataDir,
    error::FatalError,
    fatal::Fatal,
    freshness::Confirmations,
    link::Links,
    log_store::{Identity, LogStore},
    metrics::Series,
    network::{Network, Sender},
    state_store::{StateHandle, StateMachine},
    status::{DiskStatus, GroupStatus},
    storage::Storage,
    types::{Node, TypeConfig},
};

/// openraft over our storage.
pub(crate) type Raft<A> = openraft::Raft<TypeConfig, StateMachine<A>>;
/// What openraft tells of elections and membership.
pub(crate) type ServerMetrics = openraft::metrics::RaftServerMetrics<TypeConfig>;

/// A member with an identity and a running openraft.
pub(crate) struct Member<A: App> {
    pub(crate) sender: Arc<Sender>,
    pub(crate) raft: Raft<A>,
    pub(crate) barrier: Barrier,
}

impl<A: App> Member<A> {
    pub(crate) fn id(&self) -> u64 {
        self.sender.id
    }

    /// A copy: openraft's own must not be held.
    pub(crate) fn server(&self) -> ServerMetrics {
        self.raft.server_metrics().borrow_watched().clone()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.server().state.is_leader()
    }
}

/// Where this process is in its life.
pub(crate) enum Life<A: App> {
    /// No identity yet: waits for founding or admission.
    Standby,
    /// Has an identity; openraft runs.
    Member(Arc<Member<A>>),
    /// Shut down or failed.
    Stopped,
}

impl<A: App> Clone for Life<A> {
    fn clone(&self) -> Self {
        match self {
            Life::Standby => Life::Standby,
            Life::Member(member) => Life::Member(member.clone()),
            Life::Stopped => Life::Stopped,
        }
    }
}

/// What a peer told in its last `Confirm`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) level: u32,
    pub(crate) at: Instant,
}

/// Shared by everything that runs for one member.
pub(crate) struct Replica<A: App> {
    pub(crate) app: Arc<A>,
    pub(crate) settings: MemberSettings,
    pub(crate) role: Role,
    pub(crate) links: Arc<Links>,
    pub(crate) log: LogStore,
    pub(crate) state: StateHandle<A>,
    pub(crate) dir: Arc<DataDir>,
    pub(crate) fatal: Fatal,
    life: watch::Sender<Life<A>>,
    pub(crate) status: watch::Sender<GroupStatus>,
    /// The present term, for judging what peers say.
    pub(crate) term: Arc<AtomicU64>,
    clock: Mutex<GroupClock>,
    told_ms: AtomicU64,
    pub(crate) confirmations: Mutex<Confirmations>,
    pub(crate) heard: Mutex<BTreeMap<u64, Heard>>,
    /// Writes and their bytes that are proposed and not applied.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) room: Arc<Semaphore>,
    /// One membership change at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// One snapshot is received at a time; a newer one ends the older.
    pub(crate) receiving: Mutex<CancellationToken>,
    pub(crate) series: Series,
    /// It has a restored state and has not begun with it.
    restored: AtomicBool,
    /// See `disk::Free::is_low`.
    pub(crate) disk_low: AtomicBool,
    /// As `compaction.rs` saw it last.
    pub(crate) disk: Mutex<DiskStatus>,
    pub(crate) stop: CancellationToken,
    started: Instant,
    /// The same by the wall clock.
    pub(crate) started_ms: u64,
}

impl<A: App> Replica<A> {
    pub(crate) fn new(app: Arc<A>, settings: MemberSettings, role: Role, links: Links, stores: Storage<A>) -> Self {
        let started = Instant::now();
        let clock = GroupClock::new(stores.state.stamp_ms() * 1000, now_since(started));
        let series = Series::new(settings.group.as_str());
        let tuning = &settings.raft;
        Self {
            slots: Arc::new(Semaphore::new(tuning.max_in_flight.clamp(1, Semaphore::MAX_PERMITS))),
            room: Arc::new(Semaphore::new(tuning.max_in_flight_bytes.clamp(1, u32::MAX as usize))),
            app,
            settings,
            role,
            links: Arc::new(links),
            log: stores.log,
            state: stores.state,
            dir: stores.dir,
            fatal: stores.fatal,
            life: watch::Sender::new(Life::Standby),
            status: watch::Sender::new(GroupStatus::standby()),
            term: Arc::default(),
            clock: Mutex::new(clock),
            told_ms: AtomicU64::new(0),
            confirmations: Mutex::default(),
            heard: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            receiving: Mutex::default(),
            series,
            restored: AtomicBool::new(false),
            disk_low: AtomicBool::new(false),
            disk: Mutex::default(),
            stop: CancellationToken::new(),
            started_ms: now_since(started).wall / 1000,
            started,
        }
    }

    pub(crate) fn life(&self) -> Life<A> {
        self.life.borrow().clone()
    }

    pub(crate) fn watch_life(&self) -> watch::Receiver<Life<A>> {
        self.life.subscribe()
    }

    pub(crate) fn member(&self) -> Option<Arc<Member<A>>> {
        match self.life() {
            Life::Member(member) => Some(member),
            Life::Standby | Life::Stopped => None,
        }
    }

    pub(crate) fn set_life(&self, life: Life<A>) {
        self.life.send_replace(life);
    }

    /// This member as others reach it.
    pub(crate) fn own_node(&self) -> Node {
        Node {
            member: self.settings.member.to_string(),
            raft_address: self.settings.raft_address(),
            service_address: self.settings.service_address(),
        }
    }

    /// Starts openraft under this identity.
    pub(crate) async fn start(&self, identity: &Identity) -> Result<Arc<Member<A>>, FatalError> {
        let sender = Arc::new(Sender {
            cluster: self.settings.cluster.to_string(),
            group: self.settings.group.to_string(),
            id: identity.node_id,
            founding: Bytes::copy_from_slice(&identity.founding),
        });
        let network = Network { sender: sender.clone(), links: self.links.clone(), term: self.term.clone() };
        let config = Arc::new(self.config()?);
        let raft = Raft::new(identity.node_id, config, network, self.log.clone(), self.state.machine())
            .await
            .map_err(|e| FatalError(format!("consensus cannot start: {e}")))?;
        let member = Arc::new(Member { sender, raft, barrier: Barrier::default() });
        self.set_life(Life::Member(member.clone()));
        Ok(member)
    }

    fn config(&self) -> Result<Config, FatalError> {
        let tuning = &self.settings.raft;
        let config = Config {
            cluster_name: format!("{}/{}", self.settings.cluster, self.settings.group),
            heartbeat_interval: tuning.heartbeat_ms,
            election_timeout_min: tuning.election_min_ms,
            election_timeout_max: tuning.election_max_ms,
            // For how long a snapshot may make no progress; there is no bound on the whole of it.
            install_snapshot_timeout: 60_000,
            max_payload_entries: 1024,
            max_append_entries: Some(1024),
            // Snapshots and purges are triggered by bytes (`compaction.rs`).
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX / 2,
            replication_lag_threshold: u64::MAX / 2,
            purge_batch_size: 1,
            api_channel_size: Some(8192),
            notification_channel_size: Some(8192),
            enable_pre_vote: Some(true),
            // A leader without a quorum goes quiet, so that those who can form one elect.
            quorum_loss_probe_interval: Some(2 * tuning.election_max_ms),
            enable_leader_restore: Some(false),
            allow_log_reversion: Some(false),
            backoff: "50ms 100ms 200ms ...1s".into(),
            ..Config::default()
        };
        config.validate().map_err(|e| FatalError(format!("settings.raft: {e}")))
    }

    /// The next stamp of a leader, in milliseconds of group time.
    pub(crate) fn stamp_ms(&self, member: &Member<A>) -> u64 {
        let voters: Vec<u64> = member.server().membership_config.voter_ids().collect();
        let now = self.now();
        let mut clock = self.clock.lock();
        clock.at_least(self.state.stamp_ms() * 1000, now);
        clock.stamp(member.id(), &voters, now) / 1000
    }

    /// Group time as this replica knows it: what it stamps, or what it estimates. Never less than it told before.
    pub(crate) fn group_time_ms(&self) -> u64 {
        let present = match self.member().filter(|member| member.is_leader()) {
            Some(member) => self.stamp_ms(&member),
            None => {
                let now = self.now();
                let mut clock = self.clock.lock();
                clock.at_least(self.state.stamp_ms() * 1000, now);
                clock.estimate(now) / 1000
            }
        };
        self.told_ms.fetch_max(present, Ordering::Relaxed).max(present)
    }

    /// A peer told its wall clock, the leader group time too.
    pub(crate) fn heard_clock(&self, id: u64, wall_ms: u64, group_ms: Option<u64>) {
        let now = self.now();
        let mut clock = self.clock.lock();
        if wall_ms != 0 && wall_ms < MAX_WALL_MS {
            clock.heard(id, wall_ms * 1000, now);
        }
        if let Some(group_ms) = group_ms.filter(|ms| *ms < MAX_WALL_MS) {
            clock.at_least(group_ms * 1000, now);
        }
    }

    pub(crate) fn now(&self) -> Now {
        now_since(self.started)
    }

    /// See `bootstrap.rs`.
    pub(crate) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }

    pub(crate) fn set_restored(&self, restored: bool) {
        self.restored.store(restored, Ordering::Release);
    }

    /// The last applied index.
    pub(crate) fn applied(&self) -> u64 {
        *self.state.applied().borrow()
    }

    /// Writes that are proposed and not applied.
    pub(crate) fn in_flight(&self) -> usize {
        self.settings.raft.max_in_flight.saturating_sub(self.slots.available_permits())
    }

    pub(crate) fn note_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    /// Storage or consensus failed: nothing goes on.
    pub(crate) fn fail(&self, error: FatalError) {
        self.fatal.report(error);
    }
}

/// The year 5138; what is beyond is no clock.
const MAX_WALL_MS: u64 = 100_000_000_000_000;

fn now_since(started: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
    Now { mono: started.elapsed().as_micros() as u64, wall }
}
