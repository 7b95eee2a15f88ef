//! Whose tenants are here. Placement's record is the only authority; the shard's leader follows it by its own
//! linearizable look-up and its own log entries (DESIGN section 4, ADR 1 and 3).

mod placement;
mod refusals;
pub mod restored;
mod step;

use std::{collections::HashMap, sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code, Hint},
    ids::{Epoch, GroupName, MemberName, TenantId},
};
use conflux_proto::{
    internal::{GroupRecord, TenantRecord},
    log::{self, shard_command::Op},
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};

pub use placement::{InvalidAddress, Placement};
use refusals::Refusals;
use step::{Step, step};

use crate::{
    machine::TenantState,
    propose::{propose, propose_shrinking},
    query,
    shard::Node,
};

/// A look-up with its log entry has so long, whoever waits for it.
const FLIGHT: Duration = Duration::from_secs(5);
/// Look-ups under way; further ones are refused.
const MAX_FLIGHTS: usize = 64;

/// What this shard is to a tenant after a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// None: the tenant is not here.
    pub state: Option<TenantState>,
    /// The shard's own epoch of it; 0: none.
    pub epoch: Epoch,
    /// Of the settings that it has; see `store.Tenant`.
    pub settings_seq: u64,
    /// The move under way here; see `store.Tenant`.
    pub move_id: u64,
    /// The move that copies the tenant from here; 0: none.
    pub tracked_move: u64,
    /// The highest move that has ended here.
    pub ended_move: u64,
    /// Rows of the tenant here.
    pub rows: u64,
    /// It came from a backup and was not compared with placement yet (`restored.rs`).
    pub restored: bool,
}

type Flight = Shared<BoxFuture<'static, Result<Standing, ApiError>>>;

/// A cheap handle.
#[derive(Clone)]
pub struct Ownership(Arc<Inner>);

struct Inner {
    node: Node,
    placement: Placement,
    group: GroupName,
    member: MemberName,
    flights: Mutex<HashMap<TenantId, Flight>>,
    refusals: Refusals,
    slots: Semaphore,
    going: Notify,
}

impl Ownership {
    /// `member` and `group` are this process's own.
    pub fn new(node: Node, placement: Placement, group: GroupName, member: MemberName) -> Self {
        Self(Arc::new(Inner {
            node,
            placement,
            group,
            member,
            flights: Mutex::default(),
            refusals: Refusals::default(),
            slots: Semaphore::new(MAX_FLIGHTS),
            going: Notify::new(),
        }))
    }

    /// A request named a tenant that is unknown here, or an epoch higher than the one known: looks up once. Several
    /// requests for one tenant share the look-up. Only the leader does; others answer who leads.
    pub async fn look_up(&self, id: TenantId, wanted: Epoch, until: Instant) -> Result<Standing, ApiError> {
        self.0.node.check_leader()?;
        if self.0.refusals.stands(id, wanted, Instant::now()) {
            return Err(not_here(self.0.refusals.placed(id)));
        }
        let flight = self.flight(id)?;
        let late = |_| ApiError::elsewhere(Hint::TryOther, "the tenant's placement could not be looked up in time");
        timeout_at(until, flight).await.map_err(late)?
    }

    /// Placement says that something changed: looks up now, whatever was remembered or is under way.
    pub async fn ensure(&self, id: TenantId, until: Instant) -> Result<Standing, ApiError> {
        self.0.node.check_leader()?;
        self.0.follow_placement(id, until).await
    }

    /// Placement gives this shard a tenant that it has restored, under a fresh epoch.
    pub(crate) async fn adopt(&self, row: &query::TenantRow, until: Instant) -> Result<TenantRecord, ApiError> {
        let claimed = TenantRecord {
            id: row.id,
            name: row.name.clone(),
            shard: self.0.group.to_string(),
            epoch: row.epoch,
            incarnation: row.incarnation,
            ..Default::default()
        };
        self.0.placement.adopt(claimed, until).await
    }

    /// The group that this process is a member of.
    pub(crate) fn group(&self) -> &GroupName {
        &self.0.group
    }

    /// Wakes when this process has logged that a tenant goes, so that its rows need not wait for the next round of upkeep.
    pub async fn going(&self) {
        self.0.going.notified().await;
    }

    /// Placement's record of a tenant, and the group that its rows are copied from while it moves.
    pub async fn placed(
        &self,
        id: TenantId,
        until: Instant,
    ) -> Result<(Option<TenantRecord>, Option<GroupRecord>), ApiError> {
        self.0.placement.lookup(id, until).await
    }

    /// Joins the look-up of this tenant that is under way, or starts one. It runs on when its callers go.
    fn flight(&self, id: TenantId) -> Result<Flight, ApiError> {
        let mut flights = self.0.flights.lock();
        if let Some(flight) = flights.get(&id) {
            return Ok(flight.clone());
        }
        if flights.len() >= MAX_FLIGHTS {
            return Err(ApiError::elsewhere(Hint::TryOther, "too many tenants are being looked up"));
        }
        let inner = self.0.clone();
        let task = tokio::spawn(async move {
            let outcome = inner.follow_placement(id, Instant::now() + FLIGHT).await;
            inner.flights.lock().remove(&id);
            outcome
        });
        let flight = task
            .map(|joined| joined.unwrap_or_else(|e| Err(ApiError::new(Code::Internal, format!("look-up: {e}")))))
            .boxed()
            .shared();
        flights.insert(id, flight.clone());
        Ok(flight)
    }
}

impl Inner {
    /// What this shard's own state says.
    fn standing(&self, id: TenantId) -> Result<Standing, ApiError> {
        let row = self.node.read(|view| query::tenant(view, id))??;
        Ok(match row {
            Some(row) => Standing {
                state: query::state_of(&row),
                epoch: Epoch(row.epoch),
                settings_seq: row.settings_seq,
                move_id: row.move_id,
                tracked_move: row.tracked_move,
                ended_move: row.ended_move,
                rows: row.rows,
                restored: row.restored_ms != 0,
            },
            None => Standing::default(),
        })
    }

    /// Looks the tenant up and logs what makes this shard's state follow placement's.
    async fn follow_placement(&self, id: TenantId, until: Instant) -> Result<Standing, ApiError> {
        let busy = |_| ApiError::elsewhere(Hint::TryOther, "too many tenants are being looked up");
        let _slot = self.slots.try_acquire().map_err(busy)?;
        metrics::counter!("conflux_shard_lookups_total").increment(1);
        let (record, _) = self.placement.lookup(id, until).await?;
        // A leader may be behind what earlier leaders committed: without this it would log the same again.
        let left = until.saturating_duration_since(Instant::now());
        self.node.read_barrier(left).await?;
        let own = self.standing(id)?;
        let placed = record.as_ref().map(|r| Epoch(r.epoch));
        match step(record, &self.group, own) {
            Step::Follows => {
                self.refusals.forget(id);
                Ok(own)
            }
            Step::NotHere => {
                self.refusals.note(id, placed, Instant::now());
                Ok(own)
            }
            Step::Log(epoch, op) => {
                let standing = self.log(id, epoch, *op, until).await?;
                self.refusals.forget(id);
                Ok(standing)
            }
        }
    }

    async fn log(&self, id: TenantId, epoch: Epoch, op: Op, until: Instant) -> Result<Standing, ApiError> {
        let what = step::name(&op);
        let command = log::ShardCommand {
            tenant_id: id.0,
            epoch: epoch.0,
            principal: format!("shard:{}", self.member),
            op: Some(op),
            ..Default::default()
        };
        let left = until.saturating_duration_since(Instant::now());
        conflux_common::failpoint::hit(&format!("shard.before_{what}"));
        let logged = match &command.op {
            // They add rows; all others only change who has them, or take some away.
            Some(Op::Activate(_) | Op::BeginImport(_)) => propose(&self.node, &command, left).await,
            _ => propose_shrinking(&self.node, &command, left).await,
        };
        if let Err(error) = logged {
            // Refused by the state that it met, which is applied here: another look-up has come first. What counts is
            // where the tenant stands.
            let overtaken = error.code == Code::Aborted || matches!(error.hint, Some(Hint::WrongEpoch(_)));
            return if overtaken { self.standing(id) } else { Err(error) };
        }
        conflux_common::failpoint::hit(&format!("shard.after_{what}"));
        if matches!(command.op, Some(Op::DeleteTenant(_) | Op::Depart(_) | Op::EndMove(_))) {
            self.going.notify_one();
        }
        tracing::info!(tenant = id.0, epoch = epoch.0, what, "ownership follows placement");
        self.standing(id)
    }
}

/// The refusal of a request for a tenant that is not here under its epoch; the gateway looks its route up again.
pub(crate) fn not_here(own: Epoch) -> ApiError {
    ApiError::elsewhere(Hint::WrongEpoch(own.0), "the tenant is not served here under this epoch")
}
