//! Connections to the members of groups, over mTLS, shared by all calls of a thread.

mod incoming;
mod line;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use conflux_common::{
    dial::MtlsConnector,
    ids::{ClusterName, GroupName, MemberName},
    tls::{Admission, Peers, Role, TlsContext},
};
use http::{Request, Response};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use self::line::Line;
pub use self::{
    incoming::Incoming,
    line::{Failure, FailureKind},
};
use crate::{
    routes::{Group, Member, Routes},
    threads,
};

/// The name of placement's group.
pub const PLACEMENT: &str = "placement";
/// A member that failed is asked last for so long, doubled with each further failure.
const FIRST_EJECTION: Duration = Duration::from_millis(500);
/// The longest ejection.
const LONGEST_EJECTION: Duration = Duration::from_secs(8);

/// Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Upstream(Arc<Shared>);

struct Shared {
    tls: TlsContext,
    cluster: ClusterName,
    routes: Routes,
    /// That serve clients.
    threads: usize,
    peers: Mutex<HashMap<(GroupName, MemberName), Arc<Peer>>>,
    groups: Mutex<HashMap<GroupName, Grouped>>,
    born: Instant,
}

/// The members of a group as it was last looked up: each fetch asks for them.
struct Grouped {
    of: Arc<Group>,
    peers: Arc<[Arc<Peer>]>,
}

/// One member, its connections, and how it has been doing.
pub struct Peer {
    /// The member.
    pub name: MemberName,
    address: String,
    /// One for each thread that serves clients, behind one for all other threads.
    lines: Vec<Line>,
    channel: Channel,
    in_flight: AtomicUsize,
    failures: AtomicU32,
    /// Milliseconds after [`Shared::born`] until which it is asked last.
    ejected_until: AtomicU64,
}

impl Upstream {
    /// Dials nothing yet. `threads`: how many serve clients.
    pub fn new(tls: TlsContext, cluster: ClusterName, routes: Routes, threads: usize) -> Self {
        Self(Arc::new(Shared {
            tls,
            cluster,
            routes,
            threads,
            peers: Mutex::default(),
            groups: Mutex::default(),
            born: Instant::now(),
        }))
    }

    /// A gRPC channel to a member's service port: h2 over mTLS, connects on use and again after a loss. `None` when the
    /// member is not (or no longer) one of the group's.
    pub fn channel(&self, group: &GroupName, member: &MemberName) -> Option<Channel> {
        self.peer(group, member).map(|peer| peer.channel.clone())
    }

    /// The connections to a member, made anew when its address has changed.
    pub fn peer(&self, group: &GroupName, member: &MemberName) -> Option<Arc<Peer>> {
        let known = self.0.routes.group(group)?;
        let member = known.member(member)?;
        let key = (group.clone(), member.name.clone());
        let mut peers = self.0.peers.lock();
        if let Some(peer) = peers.get(&key)
            && peer.address == member.address
        {
            return Some(peer.clone());
        }
        let peer = Arc::new(self.make(group, member)?);
        peers.insert(key, peer.clone());
        Some(peer)
    }

    /// Forgets connections to members that are in no group any more.
    pub fn prune(&self) {
        let routes = &self.0.routes;
        self.0.groups.lock().retain(|group, _| routes.group(group).is_some());
        self.0
            .peers
            .lock()
            .retain(|(group, member), _| routes.group(group).is_some_and(|g| g.member(member).is_some()));
    }

    fn make(&self, group: &GroupName, member: &Member) -> Option<Peer> {
        let role = if group.as_str() == PLACEMENT { Role::Placement } else { Role::Shard };
        let expected = Admission {
            cluster: self.0.cluster.clone(),
            allowed: vec![Peers::Member(role, Some(group.clone()), member.name.clone())],
        };
        let connector = MtlsConnector { tls: self.0.tls.clone(), expected };
        let endpoint = Endpoint::from_shared(format!("http://{}", member.address))
            .inspect_err(|error| tracing::warn!(%group, member = %member.name, %error, "unusable address"))
            .ok()?
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true);
        Some(Peer {
            name: member.name.clone(),
            address: member.address.clone(),
            lines: (0..=self.0.threads).map(|_| Line::new(connector.clone(), member.address.clone())).collect(),
            channel: endpoint.connect_with_connector_lazy(connector),
            in_flight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        })
    }

    /// Sends a call and waits for the head of its answer.
    pub async fn send(&self, peer: &Peer, request: Request<Bytes>) -> Result<Response<Incoming>, Failure> {
        let line = threads::own().map_or(0, |own| own + 1) % peer.lines.len();
        let _busy = Busy::new(&peer.in_flight);
        peer.lines[line].send(request).await
    }

    /// The members of a group, those first that are most likely to answer soon: not failing, then least busy.
    pub fn by_health(&self, group: &GroupName) -> Vec<Arc<Peer>> {
        let Some(known) = self.0.routes.group(group) else { return Vec::new() };
        let mut peers = self.all(group, known).to_vec();
        let now = self.now();
        let start = rand::random_range(0..peers.len().max(1));
        peers.rotate_left(start);
        peers.sort_by_key(|p| (p.ejected_until.load(Ordering::Relaxed) > now, p.in_flight.load(Ordering::Relaxed)));
        peers
    }

    /// The members of a group that is known as this.
    fn all(&self, group: &GroupName, known: Arc<Group>) -> Arc<[Arc<Peer>]> {
        if let Some(last) = self.0.groups.lock().get(group).filter(|last| Arc::ptr_eq(&last.of, &known)) {
            return last.peers.clone();
        }
        let peers: Arc<[_]> = known.members.iter().filter_map(|m| self.peer(group, &m.name)).collect();
        self.0.groups.lock().insert(group.clone(), Grouped { of: known, peers: peers.clone() });
        peers
    }

    /// Notes that a member failed, so that others are asked first for a while.
    pub fn note_failure(&self, peer: &Peer) {
        let failures = peer.failures.fetch_add(1, Ordering::Relaxed).min(8);
        let pause = FIRST_EJECTION.saturating_mul(1 << failures).min(LONGEST_EJECTION);
        let until = self.now() + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        peer.ejected_until.store(until, Ordering::Relaxed);
    }

    /// Notes that a member answered.
    pub fn note_success(&self, peer: &Peer) {
        if peer.failures.swap(0, Ordering::Relaxed) > 0 {
            peer.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Peer {
    /// host:port of its service port.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Counts a call while it is under way.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
