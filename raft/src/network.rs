//! openraft's network over tonic and mTLS.
//!
//! Every default of openraft that only looks implemented is overridden: `pre_vote`, `transfer_leader`, and a pipelined
//! `stream_append`. Every call has a deadline; after an error the connection is forgotten and dialled anew.

mod session;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use conflux_common::planted;
use conflux_proto::internal;
use futures::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use openraft::{
    OptionalSend, RaftNetworkFactory,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RPCTypes, stream_append_sequential, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{Status, Streaming};

use self::session::Session;
use crate::{
    codec,
    link::{Lane, Link, Links, MAX_MESSAGE, is_broken},
    snapshot::SnapshotHandle,
    types::{LogId, Node, Snapshot, TypeConfig, Vote},
    wire,
};

type C = TypeConfig;

/// Bytes of pipelined appends that one follower has not answered yet.
const PIPELINED_BYTES: usize = 8 << 20;
/// An append that is not answered for so long counts as lost. openraft's own limit for it is one heartbeat, which a
/// busy disk exceeds (95 ms for one fsync).
const APPEND_STALL: Duration = Duration::from_secs(2);

/// Who this process is to its peers.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) cluster: String,
    pub(crate) group: String,
    pub(crate) id: u64,
    pub(crate) founding: bytes::Bytes,
}

impl Sender {
    pub(crate) fn route(&self, to: u64) -> internal::Route {
        internal::Route {
            cluster: self.cluster.clone(),
            group: self.group.clone(),
            from: self.id,
            to,
            founding: self.founding.clone(),
        }
    }
}

/// Makes the connections that openraft asks for.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) sender: Arc<Sender>,
    pub(crate) links: Arc<Links>,
    /// The term that this process is in, to judge the terms in answers.
    pub(crate) term: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Replication,
    Heartbeat,
    Snapshot,
}

/// openraft's way to one peer.
pub(crate) struct Peer {
    network: Network,
    target: u64,
    node: Node,
    purpose: Use,
}

impl Network {
    fn peer(&self, target: u64, node: &Node, purpose: Use) -> Peer {
        Peer { network: self.clone(), target, node: node.clone(), purpose }
    }
}

impl RaftNetworkFactory<C> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Use::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Use::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Use::Snapshot)
    }
}

impl Peer {
    fn link(&self) -> Result<Link, RPCError<C>> {
        let lane = if self.purpose == Use::Snapshot { Lane::Snapshot } else { Lane::Consensus };
        self.network.links.to(&self.node, lane).map_err(|e| RPCError::Unreachable(Unreachable::from_string(e)))
    }

    fn route(&self) -> internal::Route {
        self.network.sender.route(self.target)
    }

    fn term(&self) -> u64 {
        self.network.term.load(Ordering::Relaxed)
    }

    fn late(&self, action: RPCTypes, after: Duration) -> Timeout<C> {
        Timeout { action, id: self.network.sender.id, target: self.target, timeout: after }
    }

    /// One call under openraft's deadline; the connection is forgotten if it failed.
    async fn call<T>(
        &self,
        action: RPCTypes,
        within: Duration,
        call: impl AsyncFnOnce(&mut Link) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, RPCError<C>> {
        let mut link = self.link()?;
        match timeout(within, call(&mut link)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                if is_broken(&status) {
                    self.network.links.forget(&link);
                }
                Err(explain(&status))
            }
            Err(_) => {
                // A late heartbeat is a busy disk more often than a dead connection; that, h2's own pings find out.
                if self.purpose != Use::Heartbeat {
                    self.network.links.forget(&link);
                }
                Err(RPCError::Timeout(self.late(action, within)))
            }
        }
    }

    async fn pipeline(
        &mut self,
        mut input: impl Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 'static,
    ) -> Result<BoxStream<'static, Result<StreamAppendResult<C>, RPCError<C>>>, RPCError<C>> {
        // openraft's pause after an error is in its stream of requests: dialling before it would be a busy loop.
        let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
        let (session, input) = session::begin(futures::stream::iter([first]).chain(input));
        let mut link = self.link()?;
        let sent = Arc::new(Mutex::new(VecDeque::new()));
        let requests = pipelined(Box::pin(input), self.route(), sent.clone());
        let answers = match timeout(APPEND_STALL, link.client.append_stream(requests)).await {
            Ok(Ok(answers)) => answers.into_inner(),
            Ok(Err(status)) => {
                self.network.links.forget(&link);
                return Err(explain(&status));
            }
            Err(_) => {
                self.network.links.forget(&link);
                return Err(RPCError::Timeout(self.late(RPCTypes::AppendEntries, APPEND_STALL)));
            }
        };
        let late = self.late(RPCTypes::AppendEntries, APPEND_STALL);
        let (links, term) = (self.network.links.clone(), self.network.term.clone());
        let pipeline = Pipeline { answers, sent, late, links, link, term, _session: session };
        Ok(futures::stream::unfold(Some(pipeline), |pipeline| async move {
            let mut pipeline = pipeline?;
            let answer = pipeline.next().await?;
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(pipeline)))
        })
        .boxed())
    }
}

/// A request that was sent and is not answered.
struct Sent {
    prev: Option<LogId>,
    last: Option<LogId>,
    at: Instant,
    _room: Option<OwnedSemaphorePermit>,
}

/// The requests as messages; no more than [`PIPELINED_BYTES`] unanswered.
fn pipelined(
    input: impl Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 'static,
    route: internal::Route,
    sent: Arc<Mutex<VecDeque<Sent>>>,
) -> impl Stream<Item = internal::AppendRequest> + Send + 'static {
    let room = Arc::new(Semaphore::new(PIPELINED_BYTES));
    input.then(move |rpc| {
        let (route, sent, room) = (route.clone(), sent.clone(), room.clone());
        async move {
            let message = wire::append_out(route, &rpc);
            let bytes = prost::Message::encoded_len(&message).min(PIPELINED_BYTES) as u32;
            // Never closed, so this only waits.
            let room = room.acquire_many_owned(bytes).await.ok();
            let last = rpc.entries.last().map(|e| e.log_id).or(rpc.prev_log_id);
            sent.lock().push_back(Sent { prev: rpc.prev_log_id, last, at: Instant::now(), _room: room });
            message
        }
    })
}

struct Pipeline {
    answers: Streaming<internal::AppendResponse>,
    sent: Arc<Mutex<VecDeque<Sent>>>,
    late: Timeout<C>,
    links: Arc<Links>,
    link: Link,
    term: Arc<AtomicU64>,
    _session: Session,
}

impl Pipeline {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<C>, RPCError<C>>> {
        let answer = loop {
            match timeout(APPEND_STALL / 4, self.answers.next()).await {
                Ok(answer) => break answer?,
                Err(_) => {
                    let oldest = self.sent.lock().front().map(|s| s.at);
                    if oldest.is_some_and(|at| at.elapsed() > APPEND_STALL) {
                        self.links.forget(&self.link);
                        return Some(Err(RPCError::Timeout(self.late.clone())));
                    }
                }
            }
        };
        Some(match answer {
            Ok(answer) => self.read(&answer),
            Err(status) => {
                if is_broken(&status) {
                    self.links.forget(&self.link);
                }
                Err(explain(&status))
            }
        })
    }

    fn read(&self, answer: &internal::AppendResponse) -> Result<StreamAppendResult<C>, RPCError<C>> {
        let sent = self.sent.lock().pop_front();
        let sent = sent.ok_or_else(|| RPCError::Network(NetworkError::from_string("an answer without a question")))?;
        wire::stream_appended_in(answer, sent.prev, sent.last, self.term.load(Ordering::Relaxed)).map_err(malformed)
    }
}

impl RaftNetworkV2<C> for Peer {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        let request = wire::append_out(self.route(), &rpc);
        let call = async |link: &mut Link| link.client.append(request).await;
        let answer = match self.call(RPCTypes::AppendEntries, option.hard_ttl(), call).await {
            Err(_) if planted::has("imagined_quorum") => return Ok(AppendEntriesResponse::Success),
            answer => answer?,
        };
        wire::appended_in(&answer, self.term()).map_err(malformed)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<C>, RPCError<C>>>, RPCError<C>>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        // A heartbeat is one question and one answer: a stream for each would cost more than it saves.
        if self.purpose == Use::Heartbeat || planted::has("imagined_quorum") {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move { self.pipeline(input).await.map(|answers| answers as BoxStream<'s, _>) })
    }

    async fn vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RPCError<C>> {
        let request = wire::vote_request_out(self.route(), &rpc);
        let call = async |link: &mut Link| link.client.vote(request).await;
        let answer = self.call(RPCTypes::Vote, option.hard_ttl(), call).await?;
        wire::voted_in(&answer, self.term()).map_err(malformed)
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RPCError<C>> {
        let request = wire::vote_request_out(self.route(), &rpc);
        let call = async |link: &mut Link| link.client.pre_vote(request).await;
        let answer = self.call(RPCTypes::Vote, option.hard_ttl(), call).await?;
        wire::voted_in(&answer, self.term()).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let mut link = self.link()?;
        let progress = Arc::new(Mutex::new(Instant::now()));
        let chunks = chunks(self.route(), &vote, snapshot, progress.clone());
        let result = tokio::select! {
            answer = link.client.install_snapshot(chunks) => answer,
            closed = cancel => return Err(closed.into()),
            () = stalled(progress, option.hard_ttl()) => {
                self.network.links.forget(&link);
                return Err(self.late(RPCTypes::InstallSnapshot, option.hard_ttl()).into());
            }
        };
        match result {
            Ok(answer) => {
                let vote = wire::vote_in(answer.into_inner().vote.as_ref(), self.term()).map_err(malformed)?;
                Ok(SnapshotResponse::new(vote))
            }
            Err(status) => {
                self.network.links.forget(&link);
                Err(explain(&status).into())
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        let request = wire::transfer_out(self.route(), &rpc);
        let call = async |link: &mut Link| link.client.transfer_leader(request).await;
        let answer = self.call(RPCTypes::TransferLeader, option.hard_ttl(), call).await?;
        wire::transferred_in(&answer, &rpc, self.term()).map_err(malformed)
    }
}

/// The messages of one snapshot: header, chunks, hash. If it cannot be read here, the stream ends without a hash, and
/// the other end refuses it.
fn chunks(
    route: internal::Route,
    vote: &Vote,
    snapshot: Snapshot,
    progress: Arc<Mutex<Instant>>,
) -> impl Stream<Item = internal::SnapshotChunk> + Send + 'static {
    use internal::snapshot_chunk::Part;
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    let vote = Some(codec::vote_to_proto(vote));
    tokio::spawn(async move {
        let mut reader = match snapshot.snapshot.pack().await {
            Ok(reader) => reader,
            Err(error) => return tracing::error!(%error, "a snapshot cannot be read"),
        };
        let meta = codec::snapshot_meta_to_proto(&snapshot.meta, String::new(), reader.size());
        let header = internal::SnapshotHeader { route: Some(route), vote, meta: Some(meta) };
        let mut part = Part::Header(header);
        loop {
            let last = matches!(part, Part::Sha256(_));
            if sender.send(internal::SnapshotChunk { part: Some(part) }).await.is_err() || last {
                return;
            }
            *progress.lock() = Instant::now();
            part = match reader.next().await {
                Ok(Some(data)) => Part::Data(data),
                Ok(None) => match reader.sha256() {
                    Some(hash) => Part::Sha256(bytes::Bytes::copy_from_slice(&hash)),
                    None => return tracing::error!("a snapshot has no hash"),
                },
                Err(error) => return tracing::error!(%error, "a snapshot cannot be read"),
            };
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// Resolves once nothing has moved for `limit`.
async fn stalled(progress: Arc<Mutex<Instant>>, limit: Duration) {
    loop {
        let since = progress.lock().elapsed();
        match limit.checked_sub(since) {
            Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
            _ => return,
        }
    }
}

fn explain(status: &Status) -> RPCError<C> {
    let text = format!("{:?}: {}", status.code(), status.message());
    RPCError::Unreachable(Unreachable::from_string(text))
}

fn malformed(refused: wire::Refused) -> RPCError<C> {
    RPCError::Network(NetworkError::from_string(format!("a malformed answer: {refused}")))
}

const _: () = assert!(PIPELINED_BYTES >= MAX_MESSAGE);
