//! Who changed what.

use std::sync::Arc;

use conflux_common::{
    error::{ApiError, Code},
    grant::{Action, Resource},
};
use conflux_proto::store::AuditRecord;
use conflux_raft::View;

use super::PageAsked;
use crate::{
    query::{self, AuditFilter, AuditVerdict, TenantRow},
    serve::{
        call::Call,
        conditions::Demand,
        reading::{Stamp, Weight, read},
    },
    shard::Shard,
};

/// The records of changes of what the caller may read, newest first, and the cursor of the next page.
pub async fn list_audit(
    shard: &Arc<Shard>,
    call: &Call,
    filter: AuditFilter,
    page: PageAsked,
    demand: Demand,
) -> Result<(Stamp, (Vec<AuditRecord>, String)), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        query::list_audit(view, row, &filter, page.limit, &page.cursor, &|target| may_know(&caller, target))
    };
    read(shard, call, demand, Weight::Scan, from).await
}

/// Of a config: who may read it. Of an application or an environment: who may read anything in it.
fn may_know(call: &Call, target: &str) -> bool {
    let mut parts = target.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(app), Some(env), Some(name)) => call.may(Action::Read, app, env, name),
        (Some(app), env, None) => call.principal.may_within(Action::Read, app, env),
        _ => false,
    }
}

/// Whether the whole chain holds. Only for those who may read everything: the verdict is of all of it.
pub async fn verify_audit(shard: &Arc<Shard>, call: &Call, demand: Demand) -> Result<(Stamp, AuditVerdict), ApiError> {
    if !call.principal.may(Action::Read, Resource::default()) {
        let text = format!("{} may not read */*/*: the audit chain is of all configs", call.principal.name);
        return Err(ApiError::new(Code::PermissionDenied, text));
    }
    read(shard, call, demand, Weight::Scan, |view, row| query::verify_audit(view, row)).await
}
