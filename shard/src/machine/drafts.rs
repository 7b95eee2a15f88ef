//! SaveDraft and DropDraft: contents that wait to become versions. They reach nobody, so they make no revision and no event; they
//! are recorded.

use conflux_common::{
    error::{ApiError, Code},
    ids::ConfigId,
};
use conflux_proto::{log, store, v1};

use super::{
    audit::Note,
    change::Change,
    input::NewVersion,
    limits,
    stop::{Stop, quota},
};
use crate::store::{content, draft};

/// Saves a new draft (number 0), or changes one in place. What is in it may be wrong: it is checked when it is published.
pub(super) fn save_draft(change: &mut Change<'_, '_>, op: &log::SaveDraft) -> Result<v1::WriteResponse, Stop> {
    let mut config = change.config(op.config_id)?;
    let format = if op.format.is_empty() { config.format.clone() } else { op.format.clone() };
    let new = NewVersion {
        content: &op.content,
        sha256: &op.sha256,
        format: &format,
        description: &op.description,
        schema: &op.schema,
        media_type: "",
    };
    new.check()?;
    let before = if op.draft == 0 { None } else { Some(find(change, &config, op.draft)?) };
    change.demand(Some(&config))?;
    let number = match &before {
        Some(draft) => draft.number,
        None => next(change, &mut config)?,
    };
    // Before the old content goes: it may be the same.
    change.store_content(&op.sha256, &op.content)?;
    if let Some(draft) = &before {
        content::release(change.tx, &mut change.tenant, &draft.sha256, draft.size)?;
    }
    let row = store::Draft {
        number,
        sha256: op.sha256.clone(),
        format,
        description: op.description.clone(),
        schema: op.schema.clone(),
        created_by: before.as_ref().map_or_else(|| change.command.principal.clone(), |d| d.created_by.clone()),
        created_ms: before.as_ref().map_or(change.now_ms, |d| d.created_ms),
        updated_ms: change.now_ms,
        size: op.content.len() as u64,
    };
    draft::put(change.tx, change.tenant.id, config.id, &row);
    note(change, &config, &row, "saved");
    Ok(answer(change, &config, &row, before.is_none()))
}

/// Drops a draft.
pub(super) fn drop_draft(change: &mut Change<'_, '_>, op: &log::DropDraft) -> Result<v1::WriteResponse, Stop> {
    let config = change.config(op.config_id)?;
    let draft = find(change, &config, op.draft)?;
    change.demand(Some(&config))?;
    remove(change, config.id, &draft)?;
    note(change, &config, &draft, "dropped");
    Ok(answer(change, &config, &draft, false))
}

/// Records what became of a draft.
pub(super) fn note(change: &mut Change<'_, '_>, config: &store::Config, draft: &store::Draft, what: &str) {
    change.note(Note {
        target: format!("{}/{}/{}", config.app, config.env, config.name),
        config_id: ConfigId(config.id).to_string(),
        summary: format!("draft {} {what} ({}, {} bytes)", draft.number, draft.format, draft.size),
    });
}

/// The draft with this number; NOT_FOUND otherwise.
pub(super) fn find(change: &Change<'_, '_>, config: &store::Config, number: u64) -> Result<store::Draft, Stop> {
    let found = draft::get(&*change.tx, change.tenant.id, config.id, number)?;
    let missing = || ApiError::new(Code::NotFound, format!("draft {number} does not exist"));
    Ok(found.ok_or_else(missing)?)
}

/// Removes a draft and its hold on its content.
pub(super) fn remove(change: &mut Change<'_, '_>, config: u64, row: &store::Draft) -> Result<(), Stop> {
    draft::delete(change.tx, change.tenant.id, config, row.number);
    content::release(change.tx, &mut change.tenant, &row.sha256, row.size)?;
    change.tenant.drafts = change.tenant.drafts.saturating_sub(1);
    Ok(())
}

/// Removes all drafts of a config that goes.
pub(super) fn remove_all(change: &mut Change<'_, '_>, config: u64) -> Result<(), Stop> {
    for row in draft::all(&*change.tx, change.tenant.id, config)? {
        remove(change, config, &row)?;
    }
    Ok(())
}

/// The number of a new draft, which its config remembers: numbers are not used again.
fn next(change: &mut Change<'_, '_>, row: &mut store::Config) -> Result<u64, Stop> {
    if draft::all(&*change.tx, change.tenant.id, row.id)?.len() >= limits::MAX_DRAFTS {
        return Err(quota("drafts", limits::MAX_DRAFTS as u64, "drafts of a config: publish or drop some"));
    }
    row.next_draft += 1;
    change.tenant.drafts += 1;
    change.put_config(row, false)?;
    Ok(row.next_draft)
}

fn answer(change: &Change<'_, '_>, config: &store::Config, draft: &store::Draft, created: bool) -> v1::WriteResponse {
    let answer = change.unchanged(config, config.latest_version, &draft.sha256);
    v1::WriteResponse { draft: draft.number, created, ..answer }
}
