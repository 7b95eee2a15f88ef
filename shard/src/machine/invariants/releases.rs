//! What must hold of drafts and of what releases promise.

use conflux_proto::store;
use conflux_raft::Read;

use super::Broken;
use crate::{
    machine::limits,
    store::{config, content, draft, keys::Key, tenant, version},
};

/// A copy says what its version's row says, and a rule points at it.
pub(super) fn copies(rows: &dyn Read, tenant: u64, row: &store::Config) -> Broken {
    for copy in &row.served {
        let of = version::get(rows, tenant, row.id, copy.number)?.map(version::served);
        if of.as_ref() != Some(copy) || !row.rules.iter().any(|rule| rule.version == copy.number) {
            return Ok(Some("a copy in it is not of a version that a rule points at"));
        }
    }
    Ok(None)
}

/// What a config promises is there: the version that a rollback goes back to, the one that becomes the default, and the index that
/// says when.
pub(super) fn promised(rows: &dyn Read, tenant: u64, row: &store::Config) -> Broken {
    let back = row.previous_default;
    if back > 0 && version::get(rows, tenant, row.id, back)?.is_none() {
        return Ok(Some("a rollback would go back to a version that does not exist"));
    }
    let Some(promised) = &row.promotion else { return Ok(None) };
    if version::get(rows, tenant, row.id, promised.version)?.is_none() {
        return Ok(Some("a version that does not exist is promised to become the default"));
    }
    let index = Key::Promotion { tenant, due_ms: promised.due_ms, config: row.id }.encode();
    Ok(rows.get(&index)?.is_none().then_some("nothing says when its promotion is due"))
}

/// The index of promotions says what the config says.
pub(super) fn promotion_row(rows: &dyn Read, tenant: u64, due_ms: u64, id: u64, there: bool) -> Broken {
    let due = config::get(rows, tenant, id)?.and_then(|c| c.promotion).map(|p| p.due_ms);
    let agrees = (due == Some(due_ms)) == there;
    Ok((!agrees).then_some("the index of promotions and the config do not agree"))
}

/// A draft is of a config that is there, was given its number, has its content, and is counted.
pub(super) fn draft_row(rows: &dyn Read, tenant: u64, id: u64, number: u64, there: bool) -> Broken {
    let drafts = draft::all(rows, tenant, id)?;
    let owner = tenant::get(rows, tenant)?.unwrap_or_default();
    if drafts.len() as u64 > owner.drafts || drafts.len() > limits::MAX_DRAFTS {
        return Ok(Some("more drafts than are counted or allowed"));
    }
    let Some(row) = drafts.iter().find(|d| d.number == number) else {
        return Ok(there.then_some("gone"));
    };
    match config::get(rows, tenant, id)? {
        Some(config) if number <= config.next_draft => {}
        _ => return Ok(Some("a draft of no config, or of a number that was never given out")),
    }
    let size = content::get(rows, tenant, &row.sha256)?.map(|data| data.len() as u64);
    Ok((size != Some(row.size)).then_some("a draft's content is missing or has another size"))
}
