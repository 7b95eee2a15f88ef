//! Rollback: the default rule points at an older version again.

use conflux_common::{
    error::{ApiError, Code},
    release,
};
use conflux_proto::{log, v1};

use super::{
    change::{Change, Kind},
    rules,
    stop::Stop,
};
use crate::{query, store::version};

/// Points the default rule at the version, or makes one; no other rule changes. Without a version: at the one that it pointed at
/// before, so that a second rollback takes the first one back.
pub(super) fn rollback(change: &mut Change<'_, '_>, op: &log::Rollback) -> Result<v1::WriteResponse, Stop> {
    let mut config = change.config(op.config_id)?;
    change.demand(Some(&config))?;
    let number = match (op.version, config.previous_default) {
        (0, 0) => {
            let text = "the default rule pointed at no other version before: name the version to go back to";
            return Err(ApiError::new(Code::FailedPrecondition, text).with_detail("version", text).into());
        }
        (0, previous) => previous,
        (given, _) => given,
    };
    let missing = || ApiError::invalid("version", format!("version {number} does not exist"));
    let row = version::get(&*change.tx, change.tenant.id, config.id, number)?.ok_or_else(missing)?;
    let mut after = query::rules_of(&config.rules)?;
    release::serve_by_default(&mut after, number)?;
    let after = rules::stored(&after)?;
    if after == config.rules {
        return Ok(change.unchanged(&config, number, &row.sha256));
    }
    let before = config.rules.clone();
    rules::set(change.tx, change.tenant.id, &mut config, after);
    Ok(change.commit(Kind::Released, config, before, number, &row.sha256)?)
}
