//! Whose tenants are here. Placement's record is the only authority; the shard's leader follows it by its own
//! linearizable look-up and its own log entries (DESIGN section 4, ADR 1).

mod placement;
mod refusals;

use std::{collections::HashMap, sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code, Hint},
    ids::{Epoch, GroupName, MemberName, TenantId},
};
use conflux_proto::{
    internal::{TenantRecord, TenantState as Placed},
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

use crate::{machine::TenantState, propose::propose, query, shard::Node};

/// A look-up with its log entry has so long, whoever waits for it.
const FLIGHT: Duration = Duration::from_secs(5);
/// Look-ups under way; further ones are refused.
const MAX_FLIGHTS: usize = 64;

/// What this shard is to a tenant after a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// None: the tenant is not here.
    pub state: Option<TenantState>,
    /// The shard's own epoch of it; 0: none.
    pub epoch: Epoch,
    /// Of the settings that it has; see `store.Tenant`.
    pub settings_seq: u64,
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
    deleted: Notify,
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
            deleted: Notify::new(),
        }))
    }

    /// A request named a tenant that is unknown here, or an epoch higher than the one known: looks up once. Several
    /// requests for one tenant share the look-up. Only the leader does; others answer who leads.
    pub async fn look_up(&self, id: TenantId, wanted: Epoch, until: Instant) -> Result<Standing, ApiError> {
        self.0.node.check_leader()?;
        if self.0.refusals.stands(id, wanted, Instant::now()) {
            let own = self.0.standing(id).map_or(Epoch(0), |s| s.epoch);
            return Err(not_here(own));
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

    /// Wakes when a tenant was deleted by this process, so that its rows need not wait for the next round of upkeep.
    pub async fn deleted(&self) {
        self.0.deleted.notified().await;
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
            Some(row) => {
                Standing { state: query::state_of(&row), epoch: Epoch(row.epoch), settings_seq: row.settings_seq }
            }
            None => Standing { state: None, epoch: Epoch(0), settings_seq: 0 },
        })
    }

    /// Looks the tenant up and logs what makes this shard's state follow placement's.
    async fn follow_placement(&self, id: TenantId, until: Instant) -> Result<Standing, ApiError> {
        let busy = |_| ApiError::elsewhere(Hint::TryOther, "too many tenants are being looked up");
        let _slot = self.slots.try_acquire().map_err(busy)?;
        metrics::counter!("conflux_shard_lookups_total").increment(1);
        let record = self.placement.lookup(id, until).await?;
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
        let what = match &op {
            Op::Activate(_) => "activate",
            _ => "delete",
        };
        let command = log::ShardCommand {
            tenant_id: id.0,
            epoch: epoch.0,
            principal: format!("shard:{}", self.member),
            op: Some(op),
            ..Default::default()
        };
        let left = until.saturating_duration_since(Instant::now());
        propose(&self.node, &command, left).await?;
        if what == "delete" {
            self.deleted.notify_one();
        }
        tracing::info!(tenant = id.0, epoch = epoch.0, what, "ownership follows placement");
        self.standing(id)
    }
}

/// The refusal of a request for a tenant that is not here under its epoch; the gateway looks its route up again.
pub(crate) fn not_here(own: Epoch) -> ApiError {
    ApiError::elsewhere(Hint::WrongEpoch(own.0), "the tenant is not served here under this epoch")
}

/// What is to be done about a tenant.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// The shard's state is what placement's record says.
    Follows,
    /// Placement does not give it to this shard.
    NotHere,
    /// This must be logged under this epoch.
    Log(Epoch, Box<Op>),
}

/// Pure: placement's record against the shard's own state.
fn step(record: Option<TenantRecord>, group: &GroupName, own: Standing) -> Step {
    let Some(record) = record.filter(|r| r.shard == group.as_str()) else { return Step::NotHere };
    let epoch = Epoch(record.epoch);
    if own.epoch > epoch {
        // The record is older than what was logged here: never go back.
        return Step::Follows;
    }
    match record.state() {
        Placed::Creating | Placed::Stable => {
            let settled = own.state != Some(TenantState::Active) || own.settings_seq >= record.settings_seq;
            if own.epoch == epoch && own.state.is_some() && settled {
                return Step::Follows;
            }
            let activate = log::Activate {
                name: record.name,
                incarnation: record.incarnation,
                quotas: record.quotas,
                settings_seq: record.settings_seq,
            };
            Step::Log(epoch, Box::new(Op::Activate(activate)))
        }
        Placed::Deleting => match own.state {
            Some(TenantState::Deleting | TenantState::Deleted) if own.epoch == epoch => Step::Follows,
            _ => Step::Log(epoch, Box::new(Op::DeleteTenant(log::DeleteTenant {}))),
        },
        Placed::Gone | Placed::Unspecified => Step::NotHere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: Placed, epoch: u64) -> Option<TenantRecord> {
        let mut record = TenantRecord {
            id: 1,
            name: "acme".into(),
            incarnation: 1,
            shard: "shard-a".into(),
            epoch,
            ..Default::default()
        };
        record.set_state(state);
        Some(record)
    }

    fn own(state: Option<TenantState>, epoch: u64) -> Standing {
        Standing { state, epoch: Epoch(epoch), settings_seq: 0 }
    }

    /// The table of ADR 1: each record against each state of the shard.
    #[test]
    fn the_shard_follows_the_record_and_never_goes_back() {
        let group: GroupName = "shard-a".parse().unwrap();
        let activate =
            Box::new(Op::Activate(log::Activate { name: "acme".into(), incarnation: 1, ..Default::default() }));
        let delete = Box::new(Op::DeleteTenant(log::DeleteTenant {}));
        let nothing = own(None, 0);
        let active = own(Some(TenantState::Active), 1);
        for state in [Placed::Creating, Placed::Stable] {
            assert_eq!(step(record(state, 1), &group, nothing), Step::Log(Epoch(1), activate.clone()));
            assert_eq!(step(record(state, 1), &group, active), Step::Follows);
            assert_eq!(step(record(state, 2), &group, active), Step::Log(Epoch(2), activate.clone()));
        }
        assert_eq!(step(record(Placed::Deleting, 2), &group, active), Step::Log(Epoch(2), delete.clone()));
        assert_eq!(step(record(Placed::Deleting, 2), &group, nothing), Step::Log(Epoch(2), delete));
        for gone in [TenantState::Deleting, TenantState::Deleted] {
            assert_eq!(step(record(Placed::Deleting, 2), &group, own(Some(gone), 2)), Step::Follows);
            assert_eq!(step(record(Placed::Stable, 1), &group, own(Some(gone), 2)), Step::Follows, "an old record");
        }
        let newer = record(Placed::Stable, 1).map(|r| TenantRecord { settings_seq: 2, ..r });
        let settings = Box::new(Op::Activate(log::Activate {
            name: "acme".into(),
            incarnation: 1,
            settings_seq: 2,
            ..Default::default()
        }));
        assert_eq!(step(newer.clone(), &group, active), Step::Log(Epoch(1), settings), "an operator raised a quota");
        assert_eq!(step(newer, &group, Standing { settings_seq: 2, ..active }), Step::Follows);
        assert_eq!(step(record(Placed::Stable, 1), &"shard-b".parse().unwrap(), nothing), Step::NotHere);
        assert_eq!(step(record(Placed::Gone, 2), &group, nothing), Step::NotHere);
        assert_eq!(step(None, &group, nothing), Step::NotHere);
    }
}
