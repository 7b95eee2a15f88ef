//! An owned service behind a cheap handle: [`RaftNode`].

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use conflux_common::{
    ids::MemberName,
    net::TcpListener,
    serve::{ServeLimits, serve},
    settings::MemberSettings,
    tls::{Admission, Peers, Role, TlsContext},
};
use conflux_proto::internal::raft_service_server::RaftServiceServer;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    app::App,
    barrier, bootstrap, compaction,
    confirm::{self, Unconfirmed},
    error::{FatalError, OpenError, ProposeError, ReadError},
    link::{Links, MAX_MESSAGE},
    log_store::Identity,
    membership, observe, propose, relocate,
    replica::{Life, Replica},
    service::Service,
    status::{Freshness, GroupStatus},
    storage,
    view::View,
};

/// At shutdown, for handing leadership over.
const HAND_OVER: Duration = Duration::from_secs(2);

/// A member of a Raft group. Clones are handles of the same node.
pub struct RaftNode<A: App> {
    replica: Arc<Replica<A>>,
    tasks: Arc<Tasks>,
}

impl<A: App> Clone for RaftNode<A> {
    fn clone(&self) -> Self {
        Self { replica: self.replica.clone(), tasks: self.tasks.clone() }
    }
}

/// Dropped with the last handle: then nothing of the node goes on.
struct Tasks(Mutex<JoinSet<()>>);

/// A proposal that was applied.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its log index.
    pub index: u64,
    /// What [`App::apply`] answered.
    pub answer: Bytes,
}

impl<A: App> RaftNode<A> {
    /// Opens the data directory, serves the Raft port (mTLS, own group only), and in the background founds the group,
    /// joins it, or goes on where it was (`OVERVIEW.md`: life cycle). Returns once the local state can be read.
    ///
    /// `role` is the certificate role of the group's members.
    pub async fn open(settings: MemberSettings, role: Role, tls: TlsContext, app: Arc<A>) -> Result<Self, OpenError> {
        check_certificate(&settings, role, &tls)?;
        let storage = storage::open(&settings, app.clone()).await?;
        let listener = TcpListener::bind(settings.raft_listen)
            .await
            .map_err(|source| OpenError::Io { what: format!("raft_listen {}", settings.raft_listen), source })?;
        let links = Links::new(tls.clone(), settings.cluster.clone(), settings.group.clone(), role);
        let replica = Arc::new(Replica::new(app, settings, role, links, storage));
        if let Some(identity) = replica.log.identity()? {
            check_identity(&replica.settings, &identity)?;
            // A process that fell right after it had taken this identity left it.
            replica.dir.remove_origin().map_err(|e| FatalError(format!("the origin of the state: {e}")))?;
            replica.start(&identity).await?;
        } else {
            bootstrap::check_origin(&replica)?;
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_port(replica.clone(), tls, listener));
        tasks.spawn(bootstrap::run(replica.clone()));
        tasks.spawn(observe::run(replica.clone()));
        tasks.spawn(confirm::run(replica.clone()));
        tasks.spawn(membership::run(replica.clone()));
        tasks.spawn(relocate::run(replica.clone()));
        tasks.spawn(compaction::run(replica.clone()));
        Ok(Self { replica, tasks: Arc::new(Tasks(Mutex::new(tasks))) })
    }

    /// The application that was given to [`RaftNode::open`].
    pub fn app(&self) -> &Arc<A> {
        &self.replica.app
    }

    /// Replicates a command and waits until it is applied here. At most 4 MiB. Refused while the disk is nearly full.
    pub async fn propose(&self, command: Bytes, within: Duration) -> Result<Committed, ProposeError> {
        // Followers first say that they do not lead: only the leader's disk decides here.
        if self.replica.disk_low.load(Ordering::Relaxed) && self.check_leader().is_ok() {
            return Err(ProposeError::DiskFull);
        }
        propose::propose(&self.replica, command, within).await
    }

    /// The same for what frees space or must go on regardless: deletes, retention, moves away. Not refused while the disk
    /// is nearly full.
    pub async fn propose_shrinking(&self, command: Bytes, within: Duration) -> Result<Committed, ProposeError> {
        propose::propose(&self.replica, command, within).await
    }

    /// Returns once everything that was committed anywhere before this call is applied here: ReadIndex. Only the leader
    /// serves it.
    pub async fn read_barrier(&self, within: Duration) -> Result<(), ReadError> {
        let deadline = Instant::now() + within;
        let member = self.replica.member().ok_or(ReadError::NotReady)?;
        let index = match barrier::read_index(&member, within).await {
            Ok(id) => id.index,
            Err(Unconfirmed::NoQuorum) => return Err(ReadError::NoQuorum(within)),
            Err(Unconfirmed::NotLeader) => {
                return Err(ReadError::NotLeader { leader: membership::leader_name(&member.server()) });
            }
            Err(Unconfirmed::Stopped(_)) => return Err(ReadError::NotReady),
        };
        let mut applied = self.replica.state.applied();
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, applied.wait_for(|applied| *applied >= index)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::NotReady),
            Err(_) => Err(ReadError::NoQuorum(within)),
        }
    }

    /// Whether this node believes that it is the leader. Not linearizable.
    pub fn check_leader(&self) -> Result<(), ReadError> {
        let member = self.replica.member().ok_or(ReadError::NotReady)?;
        let server = member.server();
        match server.state.is_leader() {
            true => Ok(()),
            false => Err(ReadError::NotLeader { leader: membership::leader_name(&server) }),
        }
    }

    /// Reads the local state at one moment. Blocking: keep it short, or call it from `spawn_blocking`.
    pub fn read<R>(&self, f: impl FnOnce(&View<'_>) -> R) -> Result<R, ReadError> {
        Ok(self.replica.state.view(f)?)
    }

    /// How current the local state is. For the age of what you read, ask BEFORE you read.
    pub fn freshness(&self) -> Freshness {
        let applied_index = self.replica.applied();
        let age = self.replica.confirmations.lock().age(applied_index, Instant::now());
        Freshness { applied_index, age }
    }

    /// Present group time in milliseconds as this node estimates it; the leader's is what it stamps.
    pub fn group_time_ms(&self) -> u64 {
        self.replica.group_time_ms()
    }

    /// The group as this node sees it; the receiver wakes on every change.
    pub fn status(&self) -> watch::Receiver<GroupStatus> {
        self.replica.status.subscribe()
    }

    /// Hands leadership to this member, or to the most advanced voter. Returns once the other leads.
    pub async fn transfer_leader(&self, to: Option<MemberName>, within: Duration) -> Result<(), ProposeError> {
        membership::transfer(&self.replica, to, within).await
    }

    /// Lets this member in as a learner when it asks, and makes it a voter once it has caught up. Leader only. The
    /// permission is in the log, and is used up by the first join. A member that comes back without its disk needs none.
    pub async fn admit(&self, member: MemberName, within: Duration) -> Result<(), ProposeError> {
        membership::admit(&self.replica, &member, within).await
    }

    /// The latest admission of this member: which node id it got, and by which entry. Founders have none.
    pub fn admission(&self, member: &MemberName) -> Result<Option<crate::Admission>, ReadError> {
        Ok(self.replica.state.admitted(member.as_str())?)
    }

    /// Removes a member for good. Refused where the rest has no quorum. Leader only.
    pub async fn remove(&self, member: MemberName, within: Duration) -> Result<(), ProposeError> {
        membership::remove(&self.replica, &member, within).await
    }

    /// Takes a snapshot now and purges what may be purged.
    pub async fn compact(&self) -> Result<(), ProposeError> {
        compaction::compact(&self.replica).await
    }

    /// Resolves when storage or the state machine failed: the process must exit with an error.
    pub async fn failed(&self) -> FatalError {
        self.replica.fatal.failed().await
    }

    /// For the parts of this crate that serve the node's calls.
    pub(crate) fn replica(&self) -> &Arc<Replica<A>> {
        &self.replica
    }

    /// Stops at once and leaves behind what a crash would: nothing is handed over, nothing is flushed. For tests and
    /// simulations.
    pub async fn abandon(&self) {
        let life = self.replica.life();
        self.replica.set_life(Life::Stopped);
        self.replica.stop.cancel();
        self.tasks.0.lock().abort_all();
        if let Life::Member(member) = life {
            // Only an openraft that is down already errs.
            let _ = member.raft.shutdown().await;
        }
        observe::stopped(&self.replica);
    }

    /// Hands leadership over if it can, stops and flushes.
    pub async fn shutdown(&self) {
        let replica = &self.replica;
        let Life::Member(member) = replica.life() else {
            replica.set_life(Life::Stopped);
            return self.end().await;
        };
        if membership::can_hand_over(&member) {
            match membership::transfer(replica, None, HAND_OVER).await {
                Ok(()) => tracing::info!("handed leadership over"),
                Err(error) => tracing::warn!(%error, "leadership was not handed over"),
            }
        }
        replica.set_life(Life::Stopped);
        if let Err(error) = member.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
        self.end().await;
    }

    async fn end(&self) {
        self.replica.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.0.lock());
        while tasks.join_next().await.is_some() {}
        // What is not flushed is replayed from the log; storage has reported the failure.
        let _ = self.replica.state.sync().await;
        observe::stopped(&self.replica);
    }
}

fn check_certificate(settings: &MemberSettings, role: Role, tls: &TlsContext) -> Result<(), OpenError> {
    let own = tls.own_id();
    let right = own.cluster == settings.cluster
        && own.role == role
        && own.group.as_ref() == Some(&settings.group)
        && own.member == settings.member;
    match right {
        true => Ok(()),
        false => Err(OpenError::Refused(format!(
            "the certificate is of {own}, but the settings are of member {} of group {} of {}: correct either",
            settings.member, settings.group, settings.cluster
        ))),
    }
}

/// The disk of another member, mounted by mistake, must not speak for this one.
fn check_identity(settings: &MemberSettings, identity: &Identity) -> Result<(), OpenError> {
    let right = identity.cluster == settings.cluster.as_str()
        && identity.group == settings.group.as_str()
        && identity.member == settings.member.as_str();
    match right {
        true => Ok(()),
        false => Err(OpenError::Refused(format!(
            "{} belongs to member {} of group {} of {}, the settings are of member {} of group {} of {}: mount the \
             right directory",
            settings.data_dir.display(),
            identity.member,
            identity.group,
            identity.cluster,
            settings.member,
            settings.group,
            settings.cluster
        ))),
    }
}

async fn serve_port<A: App>(replica: Arc<Replica<A>>, tls: TlsContext, listener: TcpListener) {
    let admission = Admission {
        cluster: replica.settings.cluster.clone(),
        allowed: vec![Peers::Group(replica.role, replica.settings.group.clone())],
    };
    let service = RaftServiceServer::new(Service(replica.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let router = tonic::service::Routes::new(service).into_axum_router();
    let stop = replica.stop.clone();
    // Consensus has stopped by then: nothing that is asked here can be answered any more.
    let limits = ServeLimits { drain: Duration::ZERO, ..ServeLimits::default() };
    serve(listener, tls, admission, limits, router, async move { stop.cancelled().await }).await;
}
