//! `/api/v1/admin/rebalance`: which tenants should move where. Carrying a plan out is a move for each of its lines.

use axum::{
    extract::{Request, State},
    response::Response,
};
use conflux_common::blocking::spawn_blocking;
use conflux_common::error::{ApiError, Code};
use conflux_proto::internal::{GroupRecord, TenantRecord, TenantState};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    call::{answer, json},
    page,
};
use crate::{
    loads::Told,
    machine::groups,
    planner::{self, Ask, Burden},
    service::Service,
    store::{Family, rows::list},
};

/// A proposal: nothing is moved by asking for it.
#[derive(Debug, Serialize, ToSchema)]
struct Plan {
    /// In the order in which they should be made.
    moves: Vec<Step>,
    /// Of all of them.
    bytes: u64,
    /// By name, before and after.
    shards: Vec<Shard>,
    /// What cannot be planned, and why.
    notes: Vec<String>,
    /// Moves that are under way already: their tenants are counted where they go.
    under_way: usize,
}

/// A move that should be made.
#[derive(Debug, Serialize, ToSchema)]
struct Step {
    tenant: String,
    from: String,
    to: String,
    bytes: u64,
    why: String,
}

/// What a shard carries now, and when the plan was carried out.
#[derive(Debug, Serialize, ToSchema)]
struct Shard {
    name: String,
    weight: u32,
    /// Whether it is to be emptied: it has no weight, or that was asked for.
    emptied: bool,
    /// Why its tenants' load is not known; null: it is.
    trouble: Option<String>,
    before: Carried,
    after: Carried,
}

/// What a shard carries.
#[derive(Debug, Serialize, ToSchema)]
struct Carried {
    tenants: u64,
    bytes: u64,
    writes_per_second: f64,
    fetches_per_second: f64,
    /// Of its share by weight; null: it has none.
    load_percent: Option<u64>,
}

impl From<Burden> for Carried {
    fn from(b: Burden) -> Self {
        Self {
            tenants: b.tenants,
            bytes: b.bytes,
            writes_per_second: b.milliwrites as f64 / 1000.0,
            fetches_per_second: b.millifetches as f64 / 1000.0,
            load_percent: b.percent,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Show {
    /// Only what empties this shard, whatever its weight.
    drain: Option<String>,
    /// At most so many moves; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Plan moves that spread the load.
///
/// Shards of weight 0 are emptied; the others get what their weights say, with as few bytes moved as it takes. A tenant's load is made of its bytes, its writes and
/// its fetches. To carry the plan out, make its moves: `conflux rebalance --execute`.
#[utoipa::path(
    get, path = "/api/v1/admin/rebalance", tag = "moves", params(Show),
    responses((status = 200, description = "The plan.", body = Plan))
)]
pub async fn show(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let ask = Ask { only_drain: asked.drain.is_some(), limit: page::limit(asked.limit)? };
        let (groups, tenants) = service
            .read_linearizable(call.until, |view| {
                let (from, to) = Family::Tenant.range();
                let tenants: Vec<(Vec<u8>, TenantRecord)> = list(view, (&from, &to), usize::MAX)?;
                Ok((groups::all(view)?, tenants.into_iter().map(|(_, t)| t).collect::<Vec<_>>()))
            })
            .await?;
        if let Some(name) = asked.drain.as_ref().filter(|name| groups.iter().all(|g| g.name != **name)) {
            let why = format!("no shard {name:?} has reported to placement");
            return Err(ApiError::new(Code::NotFound, why));
        }
        let told = service.loads.gather(&service.shards, &groups).await;
        let under_way = tenants.iter().filter(|t| t.r#move.is_some()).count();
        let shards = shards(&groups, &told, asked.drain.as_deref());
        let loaded: Vec<planner::Tenant> = tenants.into_iter().map(|t| loaded(t, &told)).collect();
        let planned = spawn_blocking(move || planner::plan(&shards, &loaded, ask))
            .await
            .map_err(|e| ApiError::new(Code::Internal, format!("the planner broke: {e}")))?;
        json(StatusCode::OK, &shown(planned, &told, under_way))
    })
    .await
}

fn shards(groups: &[GroupRecord], told: &Told, drain: Option<&str>) -> Vec<planner::Shard> {
    let shard = |g: &GroupRecord| planner::Shard {
        name: g.name.clone(),
        weight: g.weight,
        is_able: groups::has_voters(g) && told.get(&g.name).is_some_and(Result::is_ok),
        drains: drain == Some(g.name.as_str()),
    };
    groups.iter().map(shard).collect()
}

/// A tenant that moves, or whose shard says nothing, is counted and left alone.
fn loaded(t: TenantRecord, told: &Told) -> planner::Tenant {
    let load = told.get(&t.shard).and_then(|r| r.as_ref().ok()).and_then(|loads| loads.get(&t.id));
    let load = load.copied().unwrap_or_default();
    let is_free = t.state() == TenantState::Stable && t.r#move.is_none();
    // One that was given up stays where it is.
    let goes = t.r#move.filter(|m| m.reason.is_empty()).map(|m| m.to);
    planner::Tenant {
        name: t.name,
        shard: goes.unwrap_or(t.shard),
        bytes: load.bytes,
        milliwrites: load.milliwrites,
        millifetches: load.millifetches,
        is_free,
    }
}

fn shown(plan: planner::Plan, told: &Told, under_way: usize) -> Plan {
    let step = |s: planner::Step| Step { tenant: s.tenant, from: s.from, to: s.to, bytes: s.bytes, why: s.why };
    let shard = |s: planner::Standing| Shard {
        emptied: s.shard.drains || s.shard.weight == 0,
        trouble: told.get(&s.shard.name).and_then(|r| r.as_ref().err()).cloned(),
        name: s.shard.name,
        weight: s.shard.weight,
        before: s.before.into(),
        after: s.after.into(),
    };
    Plan {
        bytes: plan.moves.iter().map(|m| m.bytes).sum(),
        moves: plan.moves.into_iter().map(step).collect(),
        shards: plan.shards.into_iter().map(shard).collect(),
        notes: plan.notes,
        under_way,
    }
}
