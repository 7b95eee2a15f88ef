//! `/api/v1/admin/moves`

use std::time::Duration;

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    internal::{Move as Record, MovePhase},
    log::{CancelMove, StartMove, placement_answer::Result as Answer, placement_command::Op},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use utoipa::{IntoParams, ToSchema};

use super::{
    call::{Call, Consistency, answer, json, unexpected},
    page,
    tenants::Show,
};
use crate::{
    machine::moves::{self, has_ended, phase_name},
    reconcile::{moves::Said, progress::Watched},
    service::Service,
};

/// How long a young group gets to agree on what all its members can apply.
const LEVEL_WITHIN: Duration = Duration::from_secs(5);

/// A tenant's way from one shard to another.
#[derive(Debug, Serialize, ToSchema)]
struct Move {
    id: u64,
    tenant: String,
    from: String,
    to: String,
    /// preparing, freezing, committed, cleaning, aborted; ended: done, given_up
    state: &'static str,
    /// The tenant's epochs before and after.
    from_epoch: u64,
    to_epoch: u64,
    started_ms: u64,
    /// null: it is under way.
    ended_ms: Option<u64>,
    /// Who started it.
    principal: String,
    /// Why it was given up.
    reason: Option<String>,
    /// Bytes of the tenant's rows, from the commit on.
    bytes: u64,
    /// How long the tenant's writes waited, in milliseconds; null: they did not yet.
    pause_ms: Option<u64>,
    /// Where it stands, in words.
    step: String,
    /// What its shards said last; null: the member that answers does not lead, or has not asked them yet.
    progress: Option<Progress>,
}

/// How far a move has come.
#[derive(Debug, Serialize, ToSchema)]
struct Progress {
    /// It begins when other moves that concern its shards are through.
    waits_for_turn: bool,
    /// Bytes at the destination, and at the source.
    bytes_copied: u64,
    bytes_total: u64,
    /// Rows that were touched at the source and are not taken over yet.
    lag: u64,
    source: Side,
    destination: Side,
}

/// One of a move's shards.
#[derive(Debug, Serialize, ToSchema)]
struct Side {
    /// absent, active, importing, prepared, frozen, moved, ..; null: it was not asked yet or did not answer.
    state: Option<String>,
    rows: u64,
    /// Why it did not answer, or why its copy does not go on.
    trouble: Option<String>,
}

impl Side {
    fn of(said: Option<&Said>) -> Self {
        match said {
            Some(Ok(r)) => Self {
                state: Some(r.state.clone()),
                rows: r.rows,
                trouble: (!r.import_trouble.is_empty()).then(|| r.import_trouble.clone()),
            },
            Some(Err(why)) => Self { state: None, rows: 0, trouble: Some(why.clone()) },
            None => Self { state: None, rows: 0, trouble: None },
        }
    }
}

impl Progress {
    fn of(watched: &Watched) -> Self {
        let (source, destination) = (watched.source.as_ref(), watched.destination.as_ref());
        let number = |said: Option<&Said>, of: fn(&conflux_proto::internal::EnsureTenantResponse) -> u64| {
            said.and_then(|s| s.as_ref().ok()).map_or(0, of)
        };
        Self {
            waits_for_turn: watched.waits_for_turn,
            bytes_copied: number(destination, |d| d.row_bytes),
            bytes_total: number(source, |s| s.row_bytes),
            lag: number(destination, |d| d.import_lag),
            source: Side::of(source),
            destination: Side::of(destination),
        }
    }
}

impl Move {
    fn of(m: Record, watched: Option<&Watched>) -> Self {
        let ended = has_ended(m.phase());
        Self {
            step: step(&m, watched),
            progress: watched.filter(|_| !ended).map(Progress::of),
            id: m.id,
            state: phase_name(m.phase()),
            tenant: m.tenant,
            from: m.from,
            to: m.to,
            from_epoch: m.from_epoch,
            to_epoch: m.to_epoch,
            started_ms: m.started_ms,
            ended_ms: ended.then_some(m.ended_ms),
            principal: m.principal,
            reason: (!m.reason.is_empty()).then_some(m.reason),
            bytes: m.bytes,
            pause_ms: (m.pause_ms > 0).then_some(m.pause_ms),
        }
    }
}

/// Where a move stands, in words.
fn step(m: &Record, watched: Option<&Watched>) -> String {
    let said = |of: fn(&Watched) -> &Option<Said>| watched.and_then(|w| of(w).as_ref()).and_then(|s| s.as_ref().ok());
    let (source, destination) = (said(|w| &w.source), said(|w| &w.destination));
    match m.phase() {
        MovePhase::Preparing => match (watched, destination) {
            (Some(w), _) if w.waits_for_turn => "waits for its turn: other moves concern its shards".into(),
            (_, Some(d)) if !d.import_trouble.is_empty() => format!("{} cannot go on: {}", m.to, d.import_trouble),
            (_, Some(d)) if d.state == "importing" && d.import_whole => {
                format!("catches up: {} rows are left", d.import_lag)
            }
            (_, Some(d)) if d.state == "importing" => match source {
                Some(s) => format!("copies: {} of {} bytes", d.row_bytes, s.row_bytes),
                None => format!("copies: {} bytes", d.row_bytes),
            },
            _ => "prepares both shards".into(),
        },
        MovePhase::Freezing => "hands over: the tenant's writes wait".into(),
        MovePhase::Committed => format!("committed: {} begins to serve", m.to),
        MovePhase::Cleaning => match source {
            Some(s) => format!("served by {}; {} has {} rows to clear away", m.to, m.from, s.rows),
            None => format!("served by {}; {} clears away", m.to, m.from),
        },
        MovePhase::Aborted => format!("given up, served by {}; both shards tidy up", m.from),
        MovePhase::Done => "done".into(),
        MovePhase::GivenUp => format!("given up, the tenant stayed on {}", m.from),
        MovePhase::Unspecified => "unknown to this release".into(),
    }
}

/// A page of moves.
#[derive(Debug, Serialize, ToSchema)]
struct Moves {
    /// Newest first. Of those that have ended the last 1,000 are known.
    moves: Vec<Move>,
    /// For the next page; null: this was the last.
    next_cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct List {
    /// Only this tenant's.
    tenant: Option<String>,
    /// Only those in this state; `under_way` and `ended` mean several.
    #[param(inline)]
    state: Option<Which>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// linearizable unless given
    #[serde(default)]
    #[param(inline, required = false)]
    consistency: Consistency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Which {
    UnderWay,
    Ended,
    Preparing,
    Freezing,
    Committed,
    Cleaning,
    Aborted,
    Done,
    GivenUp,
}

impl Which {
    fn holds(self, phase: MovePhase) -> bool {
        match self {
            Self::UnderWay => !has_ended(phase),
            Self::Ended => has_ended(phase),
            Self::Preparing => phase == MovePhase::Preparing,
            Self::Freezing => phase == MovePhase::Freezing,
            Self::Committed => phase == MovePhase::Committed,
            Self::Cleaning => phase == MovePhase::Cleaning,
            Self::Aborted => phase == MovePhase::Aborted,
            Self::Done => phase == MovePhase::Done,
            Self::GivenUp => phase == MovePhase::GivenUp,
        }
    }
}

/// List moves, newest first.
#[utoipa::path(
    get, path = "/api/v1/admin/moves", tag = "moves", params(List),
    responses((status = 200, description = "A page.", body = Moves))
)]
pub async fn list(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: List = call.query()?;
        let limit = page::limit(asked.limit)?;
        let before = match asked.cursor.as_deref().filter(|c| !c.is_empty()) {
            Some(cursor) => Some(cursor.parse::<u64>().map_err(|_| page::wrong_cursor())?),
            None => None,
        };
        let mut all = call.read(&service, asked.consistency, |v| moves::all(v)).await?;
        all.retain(|m| {
            before.is_none_or(|before| m.id < before)
                && asked.tenant.as_ref().is_none_or(|tenant| m.tenant == *tenant)
                && asked.state.is_none_or(|state| state.holds(m.phase()))
        });
        let more = all.len() > limit;
        all.truncate(limit);
        let next_cursor = all.last().filter(|_| more).map(|m| m.id.to_string());
        let moves = all.into_iter().map(|m| shown(&service, m)).collect();
        json(StatusCode::OK, &Moves { moves, next_cursor })
    })
    .await
}

fn shown(service: &Service, m: Record) -> Move {
    let watched = service.progress.of(m.id);
    Move::of(m, watched.as_ref())
}

/// A move that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMove {
    tenant: String,
    /// The shard that gets it.
    to: String,
}

/// Move a tenant to another shard, while it is in use.
///
/// Its clients go on: writes wait for a fraction of a second while it is handed over, watches stay open. Before that it is copied.
/// The same call again answers the move that is under way.
#[utoipa::path(
    post, path = "/api/v1/admin/moves", tag = "moves", request_body = NewMove,
    responses((status = 202, description = "It is under way.", body = Move))
)]
pub async fn start(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: NewMove = call.body()?;
        service.node.check_leader()?;
        // A group that was founded a moment ago is about to reach it.
        let mut status = service.node.status();
        let reached = status.wait_for(|s| s.level >= moves::LEVEL);
        if timeout_at(call.patience(LEVEL_WITHIN), reached).await.is_err() {
            let why = "not every member of placement runs a release that can move tenants, or one is down: upgrade them \
                       and start them first";
            return Err(ApiError::new(Code::FailedPrecondition, why));
        }
        let op = Op::StartMove(StartMove { tenant: asked.tenant, to: asked.to });
        let Answer::Move(begun) = call.propose(&service, op).await? else { return Err(unexpected()) };
        json(StatusCode::ACCEPTED, &shown(&service, begun))
    })
    .await
}

/// Show a move, and how far it has come.
#[utoipa::path(
    get, path = "/api/v1/admin/moves/{move}", tag = "moves", params(Show),
    responses((status = 200, description = "The move.", body = Move))
)]
pub async fn show(State(service): State<Service>, Path(id): Path<String>, request: Request) -> Response {
    answer(request, async |call: Call| {
        let asked: Show = call.query()?;
        let id = number(&id)?;
        let found = call.read(&service, asked.consistency, |v| moves::by_id(v, id)).await?;
        json(StatusCode::OK, &shown(&service, found.ok_or_else(missing)?))
    })
    .await
}

/// Cancel a move that is not committed yet.
///
/// The tenant stays where it is. A committed move cannot be cancelled: the tenant can be moved back.
#[utoipa::path(
    post, path = "/api/v1/admin/moves/{move}/cancel", tag = "moves",
    responses((status = 202, description = "It is given up; its shards still tidy up.", body = Move))
)]
pub async fn cancel(State(service): State<Service>, Path(id): Path<String>, request: Request) -> Response {
    answer(request, async |call: Call| {
        let cancel = CancelMove { r#move: number(&id)?, reason: format!("cancelled by {}", call.principal()) };
        let Answer::Move(now) = call.propose(&service, Op::CancelMove(cancel)).await? else {
            return Err(unexpected());
        };
        json(StatusCode::ACCEPTED, &shown(&service, now))
    })
    .await
}

fn number(id: &str) -> Result<u64, ApiError> {
    id.parse().map_err(|_| ApiError::invalid("move", "the number of a move"))
}

fn missing() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such move, or it ended long ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever watches a move must see what it waits for.
    #[test]
    fn a_step_is_told_in_words() {
        let m =
            |phase: MovePhase| Record { from: "a".into(), to: "b".into(), phase: phase.into(), ..Default::default() };
        assert_eq!(step(&m(MovePhase::Preparing), None), "prepares both shards");
        assert!(step(&m(MovePhase::Freezing), None).contains("writes wait"));
        assert!(step(&m(MovePhase::GivenUp), None).contains("stayed on a"));
        assert!(Which::UnderWay.holds(MovePhase::Aborted) && !Which::UnderWay.holds(MovePhase::GivenUp));
    }
}
