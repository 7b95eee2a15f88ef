//! Connections to the other members: kept, one for consensus and one for snapshots per peer, dropped after an error.

use std::{collections::HashMap, time::Duration};

use conflux_common::{
    dial::MtlsConnector,
    ids::{ClusterName, GroupName, MemberName},
    tls::{Admission, Peers, Role, TlsContext},
};
use conflux_proto::internal::raft_service_client::RaftServiceClient;
use parking_lot::Mutex;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::types::Node;

/// The largest message that either side takes. An append is cut near 2 MiB, but always carries one entry (4 MiB).
pub(crate) const MAX_MESSAGE: usize = 8 << 20;
const CONNECT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Flow control: a few appends may be under way, a snapshot may not fill the memory of the receiver.
const STREAM_WINDOW: u32 = 4 << 20;

/// What a connection is for: heartbeats and appends never wait behind a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Appends, votes, confirmations, bootstrap.
    Consensus,
    /// Snapshots only.
    Snapshot,
}

/// The client that tonic generated, over one of our connections.
pub(crate) type Client = RaftServiceClient<Channel>;

type Key = (String, String, Lane);

/// All connections of this process to its group.
pub(crate) struct Links {
    tls: TlsContext,
    cluster: ClusterName,
    group: GroupName,
    role: Role,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    channels: HashMap<Key, (u64, Channel)>,
    generation: u64,
    /// Where a member is at present, by its name: what was heard last, of itself or by a committed membership. openraft
    /// keeps the node that it was given when it began to replicate.
    present: HashMap<String, String>,
}

/// A connection in use.
pub(crate) struct Link {
    pub(crate) client: Client,
    key: Key,
    generation: u64,
}

/// An address or a name that cannot be dialled.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LinkError(String);

impl Links {
    pub(crate) fn new(tls: TlsContext, cluster: ClusterName, group: GroupName, role: Role) -> Self {
        Self { tls, cluster, group, role, open: Mutex::default() }
    }

    /// From now on this member is dialled there, whatever address a call comes with.
    pub(crate) fn moved(&self, member: &str, raft_address: &str) {
        self.open.lock().present.insert(member.to_owned(), raft_address.to_owned());
    }

    /// The kept connection to this member, or a new one; dialled by its first call.
    pub(crate) fn to(&self, node: &Node, lane: Lane) -> Result<Link, LinkError> {
        let present = self.open.lock().present.get(&node.member).cloned();
        self.at(&node.member, present.as_deref().unwrap_or(&node.raft_address), lane)
    }

    fn at(&self, member: &str, address: &str, lane: Lane) -> Result<Link, LinkError> {
        let key = (member.to_owned(), address.to_owned(), lane);
        let mut open = self.open.lock();
        let (generation, channel) = match open.channels.get(&key) {
            Some(kept) => kept.clone(),
            None => {
                let channel = self.dial(member, address)?;
                open.generation += 1;
                let kept = (open.generation, channel);
                open.channels.insert(key.clone(), kept.clone());
                kept
            }
        };
        let client = Client::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        Ok(Link { client, key, generation })
    }

    /// Something went wrong on this connection: the next call dials anew. (A healed partition leaves a connection that
    /// looks alive and answers nothing.)
    pub(crate) fn forget(&self, link: &Link) {
        let mut open = self.open.lock();
        if open.channels.get(&link.key).is_some_and(|(generation, _)| *generation == link.generation) {
            open.channels.remove(&link.key);
        }
    }

    /// One call with a deadline; the connection is forgotten if it failed.
    pub(crate) async fn call<T>(
        &self,
        node: &Node,
        within: Duration,
        call: impl AsyncFnOnce(&mut Client) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let link = self.to(node, Lane::Consensus).map_err(|e| Status::unavailable(e.to_string()))?;
        self.over(link, within, call).await
    }

    /// The same at exactly this address.
    pub(crate) async fn call_at<T>(
        &self,
        (member, address): (&str, &str),
        within: Duration,
        call: impl AsyncFnOnce(&mut Client) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let link = self.at(member, address, Lane::Consensus).map_err(|e| Status::unavailable(e.to_string()))?;
        self.over(link, within, call).await
    }

    async fn over<T>(
        &self,
        mut link: Link,
        within: Duration,
        call: impl AsyncFnOnce(&mut Client) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let failed = match tokio::time::timeout(within, call(&mut link.client)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(format!("no answer within {within:?}")),
        };
        if is_broken(&failed) {
            self.forget(&link);
        }
        Err(failed)
    }

    fn dial(&self, member: &str, address: &str) -> Result<Channel, LinkError> {
        let member = MemberName::new(member).map_err(|e| LinkError(e.to_string()))?;
        let connector = MtlsConnector {
            tls: self.tls.clone(),
            expected: Admission {
                cluster: self.cluster.clone(),
                allowed: vec![Peers::Member(self.role, Some(self.group.clone()), member)],
            },
        };
        // The scheme is for tonic only: TLS is the connector's.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| LinkError(format!("{address:?} is not host:port: {e}")))?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(2 * STREAM_WINDOW);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}

/// Whether the connection, not the call, is at fault.
pub(crate) fn is_broken(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled, Code::DeadlineExceeded];
    codes.contains(&status.code())
}
