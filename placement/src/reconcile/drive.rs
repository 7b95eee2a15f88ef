//! Brings one move on: asks both shards, and enters the next phase when they allow it. Orders are calls of `EnsureTenant`, on which
//! a shard looks the record up itself: each may be lost, repeated or late.

use std::time::Duration;

use conflux_common::{
    error::{ApiError, Code},
    failpoint,
};
use conflux_proto::{
    internal::{GroupRecord, Move, MovePhase, TenantRecord},
    log::{AdvanceMove, PlacementCommand, placement_command::Op},
};
use tokio::time::{Instant, sleep};

use super::{
    CALL, Ended, PRINCIPAL, PROPOSE, moves,
    moves::{Next, Said},
    settle,
};
use crate::{
    machine::{groups, moves::phase_name, tenants},
    service::Service,
};

/// Between two questions while a tenant's writes wait.
const POLL: Duration = Duration::from_millis(5);
/// Between two turns of a move whose shards are at it.
const SOON: Duration = Duration::from_millis(50);
/// The same where a shard does not answer, before the move is committed or given up.
const UNANSWERED: Duration = Duration::from_millis(500);
/// For what is asked of a shard whose answer decides nothing now.
const BY_THE_WAY: Duration = Duration::from_millis(200);

/// A move as its tenant's record holds it, and where its shards are.
struct Course {
    tenant: TenantRecord,
    m: Move,
    source: GroupRecord,
    destination: GroupRecord,
}

/// Goes on until the shards have to be waited for. The tenant moves, or did when it was looked at.
pub(super) async fn drive(service: &Service, tenant: u64) -> Ended {
    loop {
        let course = match course(service, tenant) {
            Ok(Some(course)) => course,
            Ok(None) => return Ended::Answered,
            Err(error) => {
                tracing::warn!(tenant, %error, "a move cannot be brought on now");
                return Ended::Silent;
            }
        };
        let m = &course.m;
        let since = service.progress.enter(m.id, m.phase(), Instant::now());
        let (source, destination) = match m.phase() {
            MovePhase::Freezing => match handed_over(service, &course, since).await {
                Some(said) => said,
                // Cancelled, or another leader has been quicker.
                None => continue,
            },
            MovePhase::Committed => committed(service, &course).await,
            _ => both(service, &course, Instant::now() + CALL).await,
        };
        let lasted = service.progress.note(m, &source, &destination, Instant::now());
        let entered = match moves::next(m, &source, &destination, &lasted, &service.settings) {
            Next::Enter(to) => enter(service, &course, to, String::new(), &destination, since).await,
            Next::Abort(why) => enter(service, &course, MovePhase::Aborted, why, &destination, since).await,
            Next::Wait => {
                // Whoever owns the tenant may have newer settings of it meanwhile.
                let owner = if course.tenant.shard == m.to { &destination } else { &source };
                if let Ok(said) = owner {
                    settle(service, &course.tenant, said).await;
                }
                return waits(m, &source, &destination);
            }
        };
        match entered {
            // Overtaken: what is in the record now counts.
            Ok(()) => {}
            Err(error) if error.code == Code::Aborted => {}
            Err(error) => {
                tracing::warn!(tenant = %m.tenant, id = m.id, %error, "a move's record does not advance yet");
                return Ended::Again(UNANSWERED);
            }
        }
    }
}

fn course(service: &Service, tenant: u64) -> Result<Option<Course>, ApiError> {
    service.read(|view| {
        let Some(tenant) = tenants::by_id(view, tenant)? else { return Ok(None) };
        let Some(m) = tenant.r#move.clone() else { return Ok(None) };
        let (source, destination) = (groups::by_name(view, &m.from)?, groups::by_name(view, &m.to)?);
        // A shard with moves is not removed.
        let unknown = |name: &str| GroupRecord { name: name.to_owned(), ..GroupRecord::default() };
        let source = source.unwrap_or_else(|| unknown(&m.from));
        let destination = destination.unwrap_or_else(|| unknown(&m.to));
        Ok(Some(Course { tenant, m, source, destination }))
    })
}

/// When to look again.
fn waits(m: &Move, source: &Said, destination: &Said) -> Ended {
    for (shard, said) in [(&m.from, source), (&m.to, destination)] {
        if let Err(error) = said {
            metrics::counter!("conflux_placement_reconcile_failures_total").increment(1);
            let phase = phase_name(m.phase());
            tracing::warn!(tenant = %m.tenant, id = m.id, phase, %shard, error, "a move waits for a shard");
        }
    }
    match (m.phase(), source, destination) {
        (MovePhase::Committed, ..) => Ended::Again(POLL * 4),
        (_, Ok(_), Ok(_)) => Ended::Again(SOON),
        (MovePhase::Preparing | MovePhase::Freezing, ..) => Ended::Again(UNANSWERED),
        _ => Ended::Silent,
    }
}

async fn ask(service: &Service, group: &GroupRecord, tenant: u64, until: Instant) -> Said {
    service.shards.ensure(group, tenant, until).await.map_err(|e| e.message)
}

async fn both(service: &Service, course: &Course, until: Instant) -> (Said, Said) {
    let id = course.tenant.id;
    tokio::join!(ask(service, &course.source, id, until), ask(service, &course.destination, id, until))
}

/// The shard's word as soon as it is the wanted one, else the last.
async fn ask_until(
    service: &Service,
    group: &GroupRecord,
    tenant: u64,
    until: Instant,
    wanted: impl Fn(&Said) -> bool,
) -> Said {
    loop {
        let said = ask(service, group, tenant, until).await;
        if wanted(&said) || Instant::now() + POLL >= until {
            return said;
        }
        sleep(POLL).await;
    }
}

/// The tenant's writes wait: both shards are asked without a pause until they are ready or the budget is used up.
/// None: the record says something else by now.
async fn handed_over(service: &Service, course: &Course, since: Instant) -> Option<(Said, Said)> {
    let (id, m) = (course.tenant.id, &course.m);
    let until = since + service.settings.freeze_budget();
    let both = async {
        tokio::join!(
            ask_until(service, &course.source, id, until, |said| moves::is_frozen(m, said)),
            ask_until(service, &course.destination, id, until, |said| moves::is_prepared(m, said)),
        )
    };
    let is_other = |t: &TenantRecord| t.r#move.as_ref().is_none_or(|now| now.id != m.id || now.phase != m.phase);
    tokio::select! {
        said = both => Some(said),
        // Ends with the record changed, or not before the time that is left for the other branch.
        changed = service.wait_for_tenant(id, until + CALL, is_other) => {
            if let Err(error) = changed {
                tracing::warn!(tenant = %m.tenant, id = m.id, %error, "a move's record cannot be read");
            }
            None
        }
    }
}

/// The destination activates; that the source hears of it too must not hold this up.
async fn committed(service: &Service, course: &Course) -> (Said, Said) {
    let (id, now) = (course.tenant.id, Instant::now());
    tokio::join!(
        ask(service, &course.source, id, now + BY_THE_WAY),
        ask_until(service, &course.destination, id, now + CALL, |said| moves::is_active(said, course.m.to_epoch)),
    )
}

/// The places before and after each step at which a test has the leader die.
fn failpoints(to: MovePhase) -> (&'static str, &'static str) {
    match to {
        MovePhase::Freezing => ("move.before_freezing", "move.after_freezing"),
        MovePhase::Committed => ("move.before_committed", "move.after_committed"),
        MovePhase::Cleaning => ("move.before_cleaning", "move.after_cleaning"),
        MovePhase::Done => ("move.before_done", "move.after_done"),
        MovePhase::Aborted => ("move.before_aborted", "move.after_aborted"),
        MovePhase::GivenUp => ("move.before_given_up", "move.after_given_up"),
        MovePhase::Unspecified | MovePhase::Preparing => ("move.before_preparing", "move.after_preparing"),
    }
}

async fn enter(
    service: &Service,
    course: &Course,
    to: MovePhase,
    reason: String,
    destination: &Said,
    since: Instant,
) -> Result<(), ApiError> {
    let m = &course.m;
    let (before, after) = failpoints(to);
    failpoint::hit(before);
    let now = Instant::now();
    let committing = to == MovePhase::Committed;
    let bytes = destination.as_ref().map_or(0, |d| d.row_bytes);
    let step = AdvanceMove {
        tenant_id: m.tenant_id,
        r#move: m.id,
        from: m.phase,
        to: to.into(),
        reason: reason.clone(),
        bytes: if committing { bytes } else { 0 },
        pause_ms: if committing { millis(now.saturating_duration_since(since)).max(1) } else { 0 },
    };
    let command =
        PlacementCommand { principal: PRINCIPAL.into(), op: Some(Op::AdvanceMove(step)), ..Default::default() };
    service.propose(&command, now + PROPOSE).await?;
    failpoint::hit(after);
    // The budget runs from the order on, not from when its entry was committed.
    service.progress.enter(m.id, to, now);
    let phase = phase_name(to);
    tracing::info!(tenant = %m.tenant, id = m.id, from = %m.from, to = %m.to, phase, reason, "a move has advanced");
    match to {
        MovePhase::Committed => metrics::histogram!("conflux_placement_move_pause_seconds")
            .record(now.saturating_duration_since(since).as_secs_f64()),
        MovePhase::Done | MovePhase::GivenUp => {
            metrics::counter!("conflux_placement_moves_ended_total", "outcome" => phase).increment(1);
        }
        _ => {}
    }
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
