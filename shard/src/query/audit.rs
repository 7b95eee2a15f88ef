//! The audit chain as its readers see it.

use std::ops::ControlFlow;

use conflux_common::error::ApiError;
use conflux_proto::{
    audit::{Broken, Chain},
    store,
};
use conflux_raft::Read;

use super::{TenantRow, cursor, failed};
use crate::store::audit as row;

/// One page looks at so many records at most: a filter that finds little must not read the whole chain in one call.
const MAX_LOOKED_AT: usize = 10_000;

/// Which records are shown. Empty parts select all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Not before this moment (milliseconds since 1970); 0: from the first.
    pub from_ms: u64,
    /// Before this moment; 0: to the last.
    pub to_ms: u64,
    /// Exactly this principal.
    pub principal: String,
    /// Exactly this operation.
    pub operation: String,
    /// Exactly this application.
    pub app: String,
    /// Exactly this environment.
    pub env: String,
    /// Exactly this config name.
    pub name: String,
}

impl AuditFilter {
    fn selects(&self, record: &store::AuditRecord) -> bool {
        let is = |wanted: &str, given: &str| wanted.is_empty() || wanted == given;
        (self.to_ms == 0 || record.time_ms < self.to_ms)
            && is(&self.principal, &record.principal)
            && is(&self.operation, &record.operation)
            && record.target.lines().any(|target| {
                let mut parts = target.splitn(3, '/');
                [&self.app, &self.env, &self.name].into_iter().all(|wanted| is(wanted, parts.next().unwrap_or("")))
            })
    }
}

/// A page of records, newest first, and the cursor of the next page (empty: this was the last). A page may hold fewer than were
/// asked for, even none, and have a next one. `visible` says of a target whether the reader may know what was done to it.
pub fn list_audit(
    rows: &dyn Read,
    tenant: &TenantRow,
    filter: &AuditFilter,
    limit: u32,
    cursor: &str,
    visible: &dyn Fn(&str) -> bool,
) -> Result<(Vec<store::AuditRecord>, String), ApiError> {
    let size = super::page_size(limit)?;
    let before = cursor::number(cursor)?;
    let (mut page, mut looked_at, mut next) = (Vec::new(), 0, 0);
    row::each_back(rows, tenant.id, before, |record| {
        // Group time never runs backward: all further ones are older.
        if record.time_ms < filter.from_ms {
            return Ok(ControlFlow::Break(()));
        }
        if page.len() == size || looked_at == MAX_LOOKED_AT {
            next = record.seq + 1;
            return Ok(ControlFlow::Break(()));
        }
        looked_at += 1;
        if filter.selects(&record) && record.target.lines().all(visible) {
            page.push(record);
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(failed)?;
    let next = if next > 0 { cursor::of_number(next) } else { String::new() };
    Ok((page, next))
}

/// What a look at the whole chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Where it does not hold; none: it does.
    pub broken: Option<Broken>,
    /// How many records are kept.
    pub records: u64,
    /// The number of the oldest kept one; 0: none is kept.
    pub first: u64,
    /// The number of the newest.
    pub last: u64,
    /// The hash of the newest, in hex.
    pub hash: String,
}

/// Checks every kept record against its own hash and its neighbours, and the ends against the tenant's row.
pub fn verify_audit(rows: &dyn Read, tenant: &TenantRow) -> Result<AuditVerdict, ApiError> {
    let (mut chain, mut records, mut first, mut broken) = (Chain::default(), 0, 0, None);
    row::each(rows, tenant.id, tenant.audit_floor, |record| {
        if records == 0 {
            first = record.seq;
        }
        records += 1;
        broken = chain.next(&record).err();
        Ok(if broken.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .map_err(failed)?;
    let whole = match chain.end() {
        None => tenant.audit_seq == tenant.audit_floor,
        Some((last, hash)) => first == tenant.audit_floor + 1 && last == tenant.audit_seq && *hash == tenant.audit_hash,
    };
    if broken.is_none() && !whole {
        let why = "the chain does not begin or end where the tenant's record says: records are missing";
        broken = Some(Broken { seq: chain.end().map_or(tenant.audit_seq, |(seq, _)| seq), why });
    }
    Ok(AuditVerdict { broken, records, first, last: tenant.audit_seq, hash: hex::encode(&tenant.audit_hash) })
}
