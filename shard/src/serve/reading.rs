//! Reads at three levels, each from one view of the state that the answer then names.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code, Hint},
    fetch::State,
    ids::{Epoch, RevisionMark},
    planted,
};
use conflux_raft::View;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    call::Call,
    conditions::{Demand, Level},
};
use crate::{
    machine::TenantState,
    ownership::not_here,
    query::{self, TenantRow},
    shard::Shard,
};

/// A read waits at most so long for a revision; half of the caller's time is left for asking another replica.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Which state an answer reflects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stamp {
    /// The tenant's epoch.
    pub epoch: Epoch,
    /// The tenant's revision.
    pub mark: RevisionMark,
    /// How long ago a quorum confirmed it.
    pub age: Duration,
}

impl Stamp {
    /// In whole milliseconds, rounded up: an answer is never younger than it says.
    pub fn age_ms(&self) -> u64 {
        u64::try_from(self.age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// As answers say it.
    pub fn state(&self) -> State {
        State { epoch: self.epoch, mark: self.mark, age_ms: self.age_ms() }
    }
}

/// Whether reading takes long enough to be kept off the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// A few rows.
    Point,
    /// A scan, or many contents.
    Scan,
}

/// What a view says of the tenant.
enum Seen<R> {
    Read(Box<TenantRow>, R),
    /// Unknown here, or under a lower epoch than the caller's: this shard may have missed it.
    Missed,
    /// The revision that was demanded is not applied here yet.
    Behind(RevisionMark),
}

/// Reads the tenant of the call at the demanded level. `read` may be called again after a look-up or a wait.
pub async fn read<R, F>(
    shard: &Arc<Shard>,
    call: &Call,
    demand: Demand,
    weight: Weight,
    read: F,
) -> Result<(Stamp, R), ApiError>
where
    R: Send + 'static,
    F: Fn(&View<'_>, &TenantRow) -> Result<R, ApiError> + Send + Sync + 'static,
{
    let read = Arc::new(read);
    let wait_until = Instant::now() + (call.left()? / 2).min(LONGEST_WAIT);
    let mut looked_up = false;
    loop {
        let asked = Instant::now();
        let age = reach(shard, call, demand.level).await?;
        // Registered before the view is taken, so that no change falls in between.
        let mut changes = demand.min_revision.map(|_| shard.hub.changes_of(call.tenant.0));
        match look(shard, call, demand, weight, read.clone()).await? {
            Seen::Read(row, answer) => {
                let mark = query::mark(&row, row.revision);
                let mut age = age.saturating_add(asked.elapsed());
                if query::state_of(&row) == Some(TenantState::Frozen) {
                    // Since the freeze another shard may have gone on.
                    age = age.max(shard.transit.frozen_for(call.tenant));
                    if age == Duration::MAX {
                        return Err(query::frozen());
                    }
                }
                return Ok((Stamp { epoch: Epoch(row.epoch), mark, age }, answer));
            }
            Seen::Missed if !looked_up => {
                if let Err(error) = shard.ownership.look_up(call.tenant, call.epoch, call.until).await {
                    // Who names a revision has seen the tenant: a replica that only follows will see it too.
                    let follows = matches!(error.hint, Some(Hint::NotLeader(_)));
                    if !follows || !woken(&mut changes, wait_until).await {
                        return Err(error);
                    }
                } else {
                    looked_up = true;
                }
            }
            Seen::Missed => return Err(not_here(Epoch(0))),
            Seen::Behind(present) => {
                if !woken(&mut changes, wait_until).await {
                    let text = format!("this replica has seen {present}, not yet min_revision");
                    return Err(ApiError::elsewhere(Hint::TryOther, text));
                }
            }
        }
    }
}

/// Whether the tenant changed in time. False at once for a call that does not wait.
async fn woken(changes: &mut Option<watch::Receiver<()>>, until: Instant) -> bool {
    match changes {
        Some(changes) => timeout_at(until, changes.changed()).await.is_ok_and(|woken| woken.is_ok()),
        None => false,
    }
}

/// Makes sure that the local state is of the demanded level, and says how long ago a quorum confirmed it. The view must be
/// taken after this: what the age vouches for is then in it.
async fn reach(shard: &Arc<Shard>, call: &Call, level: Level) -> Result<Duration, ApiError> {
    match level {
        Level::Stale => {}
        Level::Leader => shard.node.check_leader()?,
        Level::Linearizable if planted::has("unconfirmed_read") => return Ok(Duration::ZERO),
        Level::Linearizable => {
            shard.node.read_barrier(call.left()?).await?;
            return Ok(Duration::ZERO);
        }
    }
    let age = shard.node.freshness().age;
    if age != Duration::MAX {
        return Ok(if planted::has("untold_age") { Duration::ZERO } else { age });
    }
    // Just started. A leader can ask its quorum; on another member nobody knows how old the state is.
    let unknown = |_| {
        let text = "this replica has not heard from a quorum since its start";
        ApiError::elsewhere(Hint::TryOther, text)
    };
    shard.node.read_barrier(call.left()?).await.map_err(unknown)?;
    Ok(Duration::ZERO)
}

/// Takes a view and, where the tenant is served from it, reads.
async fn look<R, F>(
    shard: &Arc<Shard>,
    call: &Call,
    demand: Demand,
    weight: Weight,
    read: Arc<F>,
) -> Result<Seen<R>, ApiError>
where
    R: Send + 'static,
    F: Fn(&View<'_>, &TenantRow) -> Result<R, ApiError> + Send + Sync + 'static,
{
    match weight {
        Weight::Point => shard.node.read(|view| look_at(view, call, demand, &*read))?,
        Weight::Scan => {
            let (node, call) = (shard.node.clone(), call.clone());
            let task = conflux_common::blocking::spawn_blocking(move || {
                node.read(|view| look_at(view, &call, demand, &*read))
            });
            task.await.map_err(|e| ApiError::new(Code::Internal, format!("the read failed: {e}")))??
        }
    }
}

fn look_at<R>(
    view: &View<'_>,
    call: &Call,
    demand: Demand,
    read: &impl Fn(&View<'_>, &TenantRow) -> Result<R, ApiError>,
) -> Result<Seen<R>, ApiError> {
    let Some(row) = owned(view, call, demand.level)? else { return Ok(Seen::Missed) };
    if let Some(wanted) = demand.min_revision {
        let present = query::mark(&row, row.revision);
        if wanted.incarnation != present.incarnation {
            let text = format!("min_revision {wanted} is of another history than the present {present}: read anew");
            return Err(ApiError::new(Code::FailedPrecondition, text));
        }
        if wanted.revision > present.revision && !planted::has("unwaited_revision") {
            return Ok(Seen::Behind(present));
        }
    }
    let answer = read(view, &row)?;
    Ok(Seen::Read(Box::new(row), answer))
}

/// The tenant's row where it is served here under the caller's epoch and the caller may be here at all; none where a
/// look-up at placement may help. A frozen tenant is served as it was, to those who take what is stale.
pub fn owned(view: &View<'_>, call: &Call, level: Level) -> Result<Option<TenantRow>, ApiError> {
    let Some(row) = query::tenant(view, call.tenant)? else { return Ok(None) };
    query::check_compared(&row)?;
    if row.epoch < call.epoch.0 {
        return Ok(None);
    }
    let unchecked = planted::has(if level == Level::Leader { "unchecked_epoch" } else { "unchecked_read" });
    let state = query::state_of(&row).filter(|_| row.epoch == call.epoch.0 || unchecked);
    match state {
        Some(TenantState::Active) => {}
        // Before its rows are deleted a tenant that is leaving looks whole.
        Some(TenantState::Frozen | TenantState::Moved) if unchecked => {}
        Some(TenantState::Frozen) if level == Level::Stale => {}
        Some(TenantState::Frozen) => {
            call.check_tenant(&row)?;
            return Err(query::frozen());
        }
        // Placement may have given it to this shard a moment ago.
        Some(TenantState::Importing | TenantState::Prepared) => return Ok(None),
        _ => return Err(not_here(Epoch(query::shown_epoch(&row)))),
    }
    call.check_tenant(&row)?;
    Ok(Some(row))
}
