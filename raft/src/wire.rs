//! openraft's requests and answers as the messages of `RaftService`, and what is refused at the door.
//!
//! openraft trusts its peers and asserts what it expects of them. The peers are authenticated, but a message that breaks
//! those expectations must be refused here, not stop the process.

use conflux_proto::{internal, log};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::{
    codec,
    types::{LogId, SnapshotMeta, TypeConfig, Vote},
};

/// Indexes and terms beyond this are nonsense: `+ 1` must never overflow.
const MAX_NUMBER: u64 = 1 << 56;
/// A term so far above our own is nonsense: it would be spent by no number of elections.
const MAX_TERM_JUMP: u64 = 1 << 20;
/// Members of one group.
const MAX_MEMBERS: usize = 64;

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is out of bounds")]
    Bounds(&'static str),
    #[error("the entries do not follow one another")]
    Order,
    #[error("the vote is not the sender's")]
    NotTheSenders,
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

/// Reads a vote; `own_term` is the term of the receiver.
pub(crate) fn vote_in(vote: Option<&log::Vote>, own_term: u64) -> Result<Vote, Refused> {
    let vote = vote.ok_or(Refused::Missing("the vote"))?;
    if vote.term > own_term.saturating_add(MAX_TERM_JUMP) || vote.term > MAX_NUMBER {
        return Err(Refused::Bounds("the term"));
    }
    Ok(codec::vote_from_proto(vote))
}

fn log_id_in(id: Option<&log::LogId>) -> Result<Option<LogId>, Refused> {
    match id {
        Some(id) if id.index > MAX_NUMBER || id.term > MAX_NUMBER => Err(Refused::Bounds("a log id")),
        id => Ok(id.map(codec::log_id_from_proto)),
    }
}

fn membership_in(membership: &log::Membership) -> Result<(), Refused> {
    let sane = membership.nodes.len() <= MAX_MEMBERS && (1..=2).contains(&membership.configs.len());
    if sane { Ok(()) } else { Err(Refused::Bounds("a membership")) }
}

/// Reads what a snapshot says of itself.
pub(crate) fn snapshot_in(meta: &log::SnapshotMeta) -> Result<SnapshotMeta, Refused> {
    let last = log_id_in(meta.last.as_ref())?.ok_or(Refused::Missing("the last log id of a snapshot"))?;
    if let Some(stored) = &meta.membership {
        if log_id_in(stored.log_id.as_ref())? > Some(last) {
            return Err(Refused::Order);
        }
        membership_in(stored.membership.as_ref().ok_or(Refused::Missing("a membership"))?)?;
    }
    Ok(codec::snapshot_meta_from_proto(meta)?)
}

fn log_id_out(id: &Option<LogId>) -> Option<log::LogId> {
    id.as_ref().map(codec::log_id_to_proto)
}

pub(crate) fn append_out(route: internal::Route, rpc: &AppendEntriesRequest<TypeConfig>) -> internal::AppendRequest {
    internal::AppendRequest {
        route: Some(route),
        vote: Some(codec::vote_to_proto(&rpc.vote)),
        prev: log_id_out(&rpc.prev_log_id),
        entries: rpc.entries.iter().map(codec::entry_to_proto).collect(),
        committed: log_id_out(&rpc.leader_commit),
    }
}

pub(crate) fn append_in(
    request: internal::AppendRequest,
    from: u64,
    own_term: u64,
) -> Result<AppendEntriesRequest<TypeConfig>, Refused> {
    let vote = vote_in(request.vote.as_ref(), own_term)?;
    if !vote.committed || vote.leader_id.node_id != from {
        return Err(Refused::NotTheSenders);
    }
    let prev_log_id = log_id_in(request.prev.as_ref())?;
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut last = prev_log_id;
    for entry in request.entries {
        if let Some(log::log_entry::Payload::Membership(membership)) = &entry.payload {
            membership_in(membership)?;
        }
        let id = log_id_in(entry.id.as_ref())?.ok_or(Refused::Missing("the id of an entry"))?;
        let follows = match &last {
            Some(last) => id.index == last.index + 1 && id.committed_leader_id() >= last.committed_leader_id(),
            None => id.index == 0,
        };
        if !follows || *id.committed_leader_id() > vote.leader_id {
            return Err(Refused::Order);
        }
        last = Some(id);
        entries.push(codec::entry_from_proto(entry)?);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit: log_id_in(request.committed.as_ref())? })
}

pub(crate) fn appended_out(answer: &AppendEntriesResponse<TypeConfig>) -> internal::AppendResponse {
    use internal::append_response::Result as R;
    let result = match answer {
        AppendEntriesResponse::Success => R::Success(true),
        AppendEntriesResponse::PartialSuccess(Some(id)) => R::Partial(codec::log_id_to_proto(id)),
        AppendEntriesResponse::PartialSuccess(None) => R::PartialNone(true),
        AppendEntriesResponse::Conflict => R::Conflict(true),
        AppendEntriesResponse::HigherVote(vote) => R::HigherVote(codec::vote_to_proto(vote)),
    };
    internal::AppendResponse { result: Some(result) }
}

pub(crate) fn appended_in(
    answer: &internal::AppendResponse,
    own_term: u64,
) -> Result<AppendEntriesResponse<TypeConfig>, Refused> {
    use internal::append_response::Result as R;
    Ok(match answer.result.as_ref().ok_or(Refused::Missing("the result"))? {
        R::Success(_) => AppendEntriesResponse::Success,
        R::Partial(id) => AppendEntriesResponse::PartialSuccess(log_id_in(Some(id))?),
        R::PartialNone(_) => AppendEntriesResponse::PartialSuccess(None),
        R::Conflict(_) => AppendEntriesResponse::Conflict,
        R::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_in(Some(vote), own_term)?),
    })
}

/// An answer of a pipelined append.
pub(crate) fn stream_appended_out(answer: &StreamAppendResult<TypeConfig>) -> internal::AppendResponse {
    match answer {
        Ok(matched) => appended_out(&AppendEntriesResponse::PartialSuccess(*matched)),
        Err(StreamAppendError::Conflict(_)) => appended_out(&AppendEntriesResponse::Conflict),
        Err(StreamAppendError::HigherVote(vote)) => appended_out(&AppendEntriesResponse::HigherVote(*vote)),
    }
}

/// The answer to the request that began after `prev` and ended with `last`.
pub(crate) fn stream_appended_in(
    answer: &internal::AppendResponse,
    prev: Option<LogId>,
    last: Option<LogId>,
    own_term: u64,
) -> Result<StreamAppendResult<TypeConfig>, Refused> {
    Ok(match appended_in(answer, own_term)? {
        AppendEntriesResponse::Success => Ok(last),
        // Nobody can have more than was sent.
        AppendEntriesResponse::PartialSuccess(matched) if matched > last => return Err(Refused::Bounds("a log id")),
        AppendEntriesResponse::PartialSuccess(matched) => Ok(matched),
        AppendEntriesResponse::Conflict => {
            Err(StreamAppendError::Conflict(prev.ok_or(Refused::Bounds("a conflict with the start of the log"))?))
        }
        AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
    })
}

pub(crate) fn vote_request_out(route: internal::Route, rpc: &VoteRequest<TypeConfig>) -> internal::VoteRequest {
    internal::VoteRequest {
        route: Some(route),
        vote: Some(codec::vote_to_proto(&rpc.vote)),
        last_log: log_id_out(&rpc.last_log_id),
        leader_transfer: rpc.leadership_transfer,
    }
}

pub(crate) fn vote_request_in(
    request: &internal::VoteRequest,
    from: u64,
    own_term: u64,
) -> Result<VoteRequest<TypeConfig>, Refused> {
    let vote = vote_in(request.vote.as_ref(), own_term)?;
    if vote.committed || vote.leader_id.node_id != from {
        return Err(Refused::NotTheSenders);
    }
    let mut rpc = VoteRequest::new(vote, log_id_in(request.last_log.as_ref())?);
    rpc.leadership_transfer = request.leader_transfer;
    Ok(rpc)
}

pub(crate) fn voted_out(answer: &VoteResponse<TypeConfig>) -> internal::VoteResponse {
    internal::VoteResponse {
        vote: Some(codec::vote_to_proto(&answer.vote)),
        granted: answer.vote_granted,
        last_log: log_id_out(&answer.last_log_id),
    }
}

pub(crate) fn voted_in(answer: &internal::VoteResponse, own_term: u64) -> Result<VoteResponse<TypeConfig>, Refused> {
    let vote = vote_in(answer.vote.as_ref(), own_term)?;
    Ok(VoteResponse::new(vote, log_id_in(answer.last_log.as_ref())?, answer.granted))
}

pub(crate) fn transfer_out(
    route: internal::Route,
    rpc: &TransferLeaderRequest<TypeConfig>,
) -> internal::TransferLeaderRequest {
    internal::TransferLeaderRequest {
        route: Some(route),
        from_leader: Some(codec::vote_to_proto(rpc.from_leader())),
        to: *rpc.to_node_id(),
        last_log: rpc.last_log_id().map(codec::log_id_to_proto),
    }
}

pub(crate) fn transfer_in(
    request: &internal::TransferLeaderRequest,
    from: u64,
    own_term: u64,
) -> Result<TransferLeaderRequest<TypeConfig>, Refused> {
    let vote = vote_in(request.from_leader.as_ref(), own_term)?;
    if !vote.committed || vote.leader_id.node_id != from {
        return Err(Refused::NotTheSenders);
    }
    Ok(TransferLeaderRequest::new(vote, request.to, log_id_in(request.last_log.as_ref())?))
}

pub(crate) fn transferred_out(answer: &TransferLeaderResponse<TypeConfig>) -> internal::TransferLeaderResponse {
    match answer {
        Ok(()) => internal::TransferLeaderResponse { accepted: true, ..Default::default() },
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            internal::TransferLeaderResponse { higher_vote: Some(codec::vote_to_proto(actual)), ..Default::default() }
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => internal::TransferLeaderResponse {
            log_not_flushed: true,
            flushed: log_id_out(actual),
            ..Default::default()
        },
    }
}

pub(crate) fn transferred_in(
    answer: &internal::TransferLeaderResponse,
    asked: &TransferLeaderRequest<TypeConfig>,
    own_term: u64,
) -> Result<TransferLeaderResponse<TypeConfig>, Refused> {
    if answer.accepted {
        return Ok(Ok(()));
    }
    if answer.log_not_flushed {
        let actual = log_id_in(answer.flushed.as_ref())?;
        return Ok(Err(TransferLeaderError::LogNotFlushed { expected: asked.last_log_id().copied(), actual }));
    }
    let actual = vote_in(answer.higher_vote.as_ref(), own_term)?;
    Ok(Err(TransferLeaderError::VoteChanged { expected: *asked.from_leader(), actual }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(term: u64, index: u64) -> log::LogId {
        log::LogId { term, node: 1, index }
    }

    fn entry(term: u64, index: u64) -> log::LogEntry {
        let payload = Some(log::log_entry::Payload::Blank(log::Blank {}));
        log::LogEntry { id: Some(id(term, index)), payload }
    }

    fn append(term: u64, prev: Option<log::LogId>, entries: Vec<log::LogEntry>) -> internal::AppendRequest {
        let vote = Some(log::Vote { term, node: 1, committed: true, no_leader: false });
        internal::AppendRequest { route: None, vote, prev, entries, committed: None }
    }

    #[test]
    fn a_giant_term_is_refused() {
        // Taken over, it would end every later election: there is no higher one.
        let refused = append_in(append(u64::MAX, None, vec![]), 1, 7).unwrap_err();
        assert_eq!(refused, Refused::Bounds("the term"));
        assert!(append_in(append(8, None, vec![]), 1, 7).is_ok());
    }

    #[test]
    fn entries_that_do_not_follow_are_refused() {
        for (prev, entries) in [
            (None, vec![entry(1, 1)]),
            (Some(id(1, 4)), vec![entry(1, 6)]),
            (Some(id(1, 4)), vec![entry(1, 5), entry(1, 5)]),
            (Some(id(2, 4)), vec![entry(1, 5)]),
            (Some(id(1, 4)), vec![entry(9, 5)]),
        ] {
            assert_eq!(append_in(append(2, prev, entries), 1, 2).unwrap_err(), Refused::Order);
        }
        assert!(append_in(append(2, Some(id(1, 4)), vec![entry(1, 5), entry(2, 6)]), 1, 2).is_ok());
    }

    #[test]
    fn a_snapshot_beyond_any_log_is_refused() {
        // Installed, it would be the end of the log: no index comes after the last one.
        let nodes = || [(1, log::Node { member: "a".into(), ..Default::default() })].into();
        let configs = vec![log::NodeSet { ids: vec![1] }];
        let membership = |at, configs| {
            Some(log::StoredMembership { log_id: at, membership: Some(log::Membership { configs, nodes: nodes() }) })
        };
        let meta = |last, membership| log::SnapshotMeta { last, membership, ..Default::default() };
        for (last, at, configs, why) in [
            (Some(id(1, u64::MAX)), None, configs.clone(), Refused::Bounds("a log id")),
            (Some(id(u64::MAX, 9)), None, configs.clone(), Refused::Bounds("a log id")),
            (Some(id(1, 9)), Some(id(1, u64::MAX)), configs.clone(), Refused::Bounds("a log id")),
            (Some(id(1, 9)), Some(id(1, 10)), configs.clone(), Refused::Order),
            (Some(id(1, 9)), None, vec![], Refused::Bounds("a membership")),
            (None, None, configs.clone(), Refused::Missing("the last log id of a snapshot")),
        ] {
            assert_eq!(snapshot_in(&meta(last, membership(at, configs))).unwrap_err(), why);
        }
        assert!(snapshot_in(&meta(Some(id(1, 9)), membership(Some(id(1, 3)), configs))).is_ok());
    }

    #[test]
    fn another_members_vote_is_refused() {
        assert_eq!(append_in(append(2, None, vec![]), 3, 2).unwrap_err(), Refused::NotTheSenders);
    }

    proptest! {
        #[test]
        fn any_append_is_refused_or_understood(term: u64, prev: (u64, u64), ids in proptest::collection::vec((0u64..4, 0u64..9), 0..6), own: u64) {
            let entries = ids.into_iter().map(|(t, i)| entry(t, i)).collect();
            let _ = append_in(append(term, Some(id(prev.0, prev.1)), entries), 1, own);
        }
    }
}
