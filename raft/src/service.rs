//! The Raft port: `RaftService`, which only members of the same group reach (the handshake sees to that).
//!
//! Everything that is said to this process names it by id and by the group's founding; what is meant for another, or
//! for an earlier life of this member's name, is refused (DESIGN section 3).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use conflux_common::tls::PeerId;
use conflux_proto::internal::{self, raft_service_server::RaftService};
use futures::{Stream, StreamExt, stream::BoxStream};
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    app::App,
    bootstrap, codec, confirm, membership, relocate,
    replica::{Member, Replica},
    types::{Snapshot, TypeConfig},
    wire,
};

/// The longest that a member may be without sending the next part of a snapshot.
const SNAPSHOT_STALL: Duration = Duration::from_secs(60);

/// Serves one replica.
pub(crate) struct Service<A: App>(pub(crate) Arc<Replica<A>>);

/// Who asks, after the route was checked.
struct Caller<A: App> {
    member: Arc<Member<A>>,
    from: u64,
}

fn refused(why: impl std::fmt::Display) -> Status {
    Status::failed_precondition(why.to_string())
}

fn stopped(why: impl std::fmt::Display) -> Status {
    Status::unavailable(why.to_string())
}

fn peer<T>(request: &Request<T>) -> Result<PeerId, Status> {
    request.extensions().get::<PeerId>().cloned().ok_or_else(|| Status::unauthenticated("no certificate"))
}

impl<A: App> Service<A> {
    fn caller(&self, route: Option<&internal::Route>, peer: &PeerId) -> Result<Caller<A>, Status> {
        let route = route.ok_or_else(|| refused("the route is missing"))?;
        let settings = &self.0.settings;
        if route.cluster != settings.cluster.as_str() || route.group != settings.group.as_str() {
            return Err(refused("another group"));
        }
        let member = self.0.member().ok_or_else(|| refused("not a member yet, or stopping"))?;
        if route.to != member.id() || route.founding != member.sender.founding {
            return Err(refused(format!("this process is not node {} of that founding", route.to)));
        }
        let known = member.server().membership_config.membership().get_node(&route.from).map(|n| n.member.clone());
        if known.is_some_and(|name| name != peer.member.as_str()) || route.from == member.id() {
            return Err(refused(format!("{} is not node {}", peer.member, route.from)));
        }
        Ok(Caller { member, from: route.from })
    }

    fn term(&self) -> u64 {
        self.0.term.load(Ordering::Relaxed)
    }

    /// The valid requests of a pipelined append; the first other one ends them and is kept in `refusal`.
    fn appends(
        &self,
        first: internal::AppendRequest,
        rest: Streaming<internal::AppendRequest>,
        peer: PeerId,
        refusal: Arc<Mutex<Option<Status>>>,
    ) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
        let service = Service(self.0.clone());
        let all = futures::stream::once(std::future::ready(Ok(first))).chain(rest);
        tokio_stream::StreamExt::map_while(all, move |message| {
            let checked = message.and_then(|m: internal::AppendRequest| {
                let caller = service.caller(m.route.as_ref(), &peer)?;
                wire::append_in(m, caller.from, service.term()).map_err(refused)
            });
            checked.map_err(|status| *refusal.lock() = Some(status)).ok()
        })
    }
}

#[tonic::async_trait]
impl<A: App> RaftService for Service<A> {
    async fn append(
        &self,
        request: Request<internal::AppendRequest>,
    ) -> Result<Response<internal::AppendResponse>, Status> {
        let peer = peer(&request)?;
        let request = request.into_inner();
        let caller = self.caller(request.route.as_ref(), &peer)?;
        let rpc = wire::append_in(request, caller.from, self.term()).map_err(refused)?;
        let answer = caller.member.raft.append_entries(rpc).await.map_err(stopped)?;
        Ok(Response::new(wire::appended_out(&answer)))
    }

    type AppendStreamStream = BoxStream<'static, Result<internal::AppendResponse, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<internal::AppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let peer = peer(&request)?;
        let service = Service(self.0.clone());
        let mut requests = request.into_inner();
        // The client waits for the headers of this answer before it knows that the stream is open: they must not wait
        // for its first request.
        let answers = async move {
            let first = match requests.next().await {
                Some(Ok(first)) => first,
                Some(Err(status)) => return futures::stream::iter([Err(status)]).boxed(),
                None => return futures::stream::empty().boxed(),
            };
            let caller = match service.caller(first.route.as_ref(), &peer) {
                Ok(caller) => caller,
                Err(status) => return futures::stream::iter([Err(status)]).boxed(),
            };
            let refusal = Arc::new(Mutex::new(None));
            let appends = service.appends(first, requests, peer, refusal.clone());
            let answers = caller.member.raft.stream_append(appends).map(|answer| match answer {
                Ok(answer) => Ok(wire::stream_appended_out(&answer)),
                Err(fatal) => Err(stopped(fatal)),
            });
            let end = futures::stream::once(async move { refusal.lock().take() });
            answers.chain(end.filter_map(|status| async { status.map(Err) })).boxed()
        };
        // Ended at shutdown: the port drains, and this stream has no end of its own.
        let stop = self.0.stop.clone().cancelled_owned();
        Ok(Response::new(futures::stream::once(answers).flatten().take_until(stop).boxed()))
    }

    async fn vote(&self, request: Request<internal::VoteRequest>) -> Result<Response<internal::VoteResponse>, Status> {
        let caller = self.caller(request.get_ref().route.as_ref(), &peer(&request)?)?;
        let rpc = wire::vote_request_in(request.get_ref(), caller.from, self.term()).map_err(refused)?;
        let answer = caller.member.raft.vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(wire::voted_out(&answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<internal::VoteRequest>,
    ) -> Result<Response<internal::VoteResponse>, Status> {
        let caller = self.caller(request.get_ref().route.as_ref(), &peer(&request)?)?;
        let rpc = wire::vote_request_in(request.get_ref(), caller.from, self.term()).map_err(refused)?;
        let answer = caller.member.raft.pre_vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(wire::voted_out(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<internal::TransferLeaderRequest>,
    ) -> Result<Response<internal::TransferLeaderResponse>, Status> {
        let caller = self.caller(request.get_ref().route.as_ref(), &peer(&request)?)?;
        let rpc = wire::transfer_in(request.get_ref(), caller.from, self.term()).map_err(refused)?;
        let answer = caller.member.raft.handle_transfer_leader(rpc).await.map_err(stopped)?;
        Ok(Response::new(wire::transferred_out(&answer)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<internal::SnapshotChunk>>,
    ) -> Result<Response<internal::SnapshotResponse>, Status> {
        use internal::snapshot_chunk::Part;
        let peer = peer(&request)?;
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = next_part(&mut parts).await? else {
            return Err(refused("a snapshot begins with its header"));
        };
        let caller = self.caller(header.route.as_ref(), &peer)?;
        let vote = wire::vote_in(header.vote.as_ref(), self.term()).map_err(refused)?;
        let present = caller.member.server().vote;
        if !vote.committed || vote.leader_id.node_id != caller.from {
            return Err(refused("the vote is not the sender's"));
        }
        if vote.partial_cmp(&present).is_none_or(|o| o.is_lt()) {
            return Ok(Response::new(internal::SnapshotResponse { vote: Some(codec::vote_to_proto(&present)) }));
        }
        let meta = header.meta.ok_or_else(|| refused("the snapshot's metadata is missing"))?;
        let superseded = self.supersede();
        let received = self.receive(meta, parts);
        let snapshot = tokio::select! {
            snapshot = received => snapshot?,
            () = superseded.cancelled() => return Err(Status::aborted("a newer snapshot is being received")),
        };
        let answer = caller.member.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(internal::SnapshotResponse { vote: Some(codec::vote_to_proto(&answer.vote)) }))
    }

    async fn confirm(
        &self,
        request: Request<internal::ConfirmRequest>,
    ) -> Result<Response<internal::ConfirmResponse>, Status> {
        let caller = self.caller(request.get_ref().route.as_ref(), &peer(&request)?)?;
        confirm::answer(&self.0, &caller.member, caller.from, request.get_ref()).await.map(Response::new)
    }

    async fn hello(
        &self,
        request: Request<internal::HelloRequest>,
    ) -> Result<Response<internal::HelloResponse>, Status> {
        let peer = peer(&request)?;
        let hello = request.get_ref();
        self.same_group(&hello.cluster, &hello.group)?;
        if hello.member != peer.member.as_str() {
            return Err(refused("the name is not the certificate's"));
        }
        Ok(Response::new(bootstrap::hello(&self.0)))
    }

    async fn found(
        &self,
        request: Request<internal::FoundRequest>,
    ) -> Result<Response<internal::FoundResponse>, Status> {
        let peer = peer(&request)?;
        self.same_group(&request.get_ref().cluster, &request.get_ref().group)?;
        bootstrap::found(&self.0, &peer, request.get_ref()).await.map(Response::new)
    }

    async fn join(&self, request: Request<internal::JoinRequest>) -> Result<Response<internal::JoinResponse>, Status> {
        let peer = peer(&request)?;
        let join = request.get_ref();
        self.same_group(&join.cluster, &join.group)?;
        if join.member != peer.member.as_str() || join.node.as_ref().is_none_or(|n| n.member != join.member) {
            return Err(refused("the name is not the certificate's"));
        }
        membership::join(&self.0, join).await.map(Response::new)
    }

    async fn relocate(
        &self,
        request: Request<internal::RelocateRequest>,
    ) -> Result<Response<internal::RelocateResponse>, Status> {
        let peer = peer(&request)?;
        let caller = self.caller(request.get_ref().route.as_ref(), &peer)?;
        let told = request.get_ref();
        relocate::answer(&self.0, &caller.member, (caller.from, &peer), told).await.map(Response::new)
    }
}

impl<A: App> Service<A> {
    fn same_group(&self, cluster: &str, group: &str) -> Result<(), Status> {
        let settings = &self.0.settings;
        match cluster == settings.cluster.as_str() && group == settings.group.as_str() {
            true => Ok(()),
            false => Err(refused("another group")),
        }
    }

    /// Ends the snapshot that is being received, if any; the token ends the one that begins now.
    fn supersede(&self) -> tokio_util::sync::CancellationToken {
        let token = self.0.stop.child_token();
        std::mem::replace(&mut *self.0.receiving.lock(), token.clone()).cancel();
        token
    }

    async fn receive(
        &self,
        meta: conflux_proto::log::SnapshotMeta,
        mut parts: Streaming<internal::SnapshotChunk>,
    ) -> Result<Snapshot, Status> {
        use internal::snapshot_chunk::Part;
        let checked = wire::snapshot_in(&meta).map_err(refused)?;
        let internal = |e: std::io::Error| Status::internal(e.to_string());
        let mut writer = self.0.state.receive_snapshot().await.map_err(internal)?;
        loop {
            match next_part(&mut parts).await? {
                Some(Part::Data(data)) => writer.write(data).await.map_err(internal)?,
                Some(Part::Sha256(hash)) => {
                    let snapshot = writer.finish(&checked, hash.as_ref().try_into().ok()).await.map_err(internal)?;
                    return Ok(Snapshot { meta: checked, snapshot });
                }
                Some(Part::Header(_)) => return Err(refused("a second header")),
                None => return Err(refused("the snapshot ended without its hash")),
            }
        }
    }
}

async fn next_part(
    parts: &mut Streaming<internal::SnapshotChunk>,
) -> Result<Option<internal::snapshot_chunk::Part>, Status> {
    let next = tokio::time::timeout(SNAPSHOT_STALL, parts.message()).await;
    let message = next.map_err(|_| Status::deadline_exceeded("the snapshot stalls"))??;
    Ok(message.and_then(|m| m.part))
}
