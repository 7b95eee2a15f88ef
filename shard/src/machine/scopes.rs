//! Applications and environments: made by the first config or on purpose, gone only on purpose. Their counts of members are kept
//! here.

use conflux_common::{
    error::{ApiError, Code},
    ids::{AppName, EnvName},
};
use conflux_proto::{log, store, v1};
use conflux_raft::FatalError;

use super::{
    change::{Change, ScopeKind},
    input, limits,
    stop::{Stop, quota},
};
use crate::store::scope;

/// A config comes into this environment; it and its application are made where they are not there.
pub(super) fn enter(change: &mut Change<'_, '_>, app: &str, env: &str) -> Result<(), Stop> {
    let mut row = match scope::get(&*change.tx, change.tenant.id, app, Some(env))? {
        Some(row) => row,
        None => make(change, app, Some(env), "")?,
    };
    row.members += 1;
    scope::put(change.tx, change.tenant.id, app, Some(env), &row);
    Ok(())
}

/// A config leaves this environment, which stays.
pub(super) fn leave(change: &mut Change<'_, '_>, app: &str, env: &str) -> Result<(), Stop> {
    count_less(change, app, Some(env))
}

/// Makes an application or an environment, or describes one that is there.
pub(super) fn put_scope(change: &mut Change<'_, '_>, op: &log::PutScope) -> Result<v1::WriteResponse, Stop> {
    let env = names(&op.app, &op.env)?;
    input::description(&op.description)?;
    let found = scope::get(&*change.tx, change.tenant.id, &op.app, env)?;
    match found {
        None if op.existing => Err(missing(&op.app, env)),
        None => {
            make(change, &op.app, env, &op.description)?;
            Ok(change.commit_scope(ScopeKind::Created, &op.app, env, &op.description))
        }
        Some(_) if !op.existing => {
            let text = format!("{} exists already", shown(&op.app, env));
            Err(ApiError::new(Code::AlreadyExists, text).into())
        }
        Some(row) if row.description == op.description => Ok(change.unchanged_scope()),
        Some(mut row) => {
            row.description = op.description.clone();
            row.updated_ms = change.now_ms;
            scope::put(change.tx, change.tenant.id, &op.app, env, &row);
            Ok(change.commit_scope(ScopeKind::Changed, &op.app, env, &op.description))
        }
    }
}

/// Deletes an application or an environment that has nothing in it.
pub(super) fn delete_scope(change: &mut Change<'_, '_>, op: &log::DeleteScope) -> Result<v1::WriteResponse, Stop> {
    let env = names(&op.app, &op.env)?;
    let row = scope::get(&*change.tx, change.tenant.id, &op.app, env)?.ok_or_else(|| missing(&op.app, env))?;
    if row.members > 0 {
        let what = if env.is_some() { "configs" } else { "environments" };
        let text = format!("{} has {} {what}: delete them first", shown(&op.app, env), row.members);
        return Err(ApiError::new(Code::FailedPrecondition, text).into());
    }
    scope::delete(change.tx, change.tenant.id, &op.app, env);
    change.tenant.scopes = change.tenant.scopes.saturating_sub(1);
    if env.is_some() {
        count_less(change, &op.app, None)?;
    }
    Ok(change.commit_scope(ScopeKind::Deleted, &op.app, env, ""))
}

fn names<'a>(app: &str, env: &'a str) -> Result<Option<&'a str>, Stop> {
    AppName::new(app).map_err(ApiError::from)?;
    if env.is_empty() {
        return Ok(None);
    }
    EnvName::new(env).map_err(ApiError::from)?;
    Ok(Some(env))
}

fn shown(app: &str, env: Option<&str>) -> String {
    match env {
        Some(env) => format!("environment {app}/{env}"),
        None => format!("application {app}"),
    }
}

fn missing(app: &str, env: Option<&str>) -> Stop {
    ApiError::new(Code::NotFound, format!("{} does not exist", shown(app, env))).into()
}

/// Makes the row. An environment is counted in its application, which is made where it is not there.
fn make(change: &mut Change<'_, '_>, app: &str, env: Option<&str>, description: &str) -> Result<store::Scope, Stop> {
    if change.tenant.scopes >= limits::MAX_SCOPES {
        return Err(quota("scopes", limits::MAX_SCOPES, "applications and environments in a tenant"));
    }
    let tenant = change.tenant.id;
    if env.is_some() {
        let mut parent = match scope::get(&*change.tx, tenant, app, None)? {
            Some(row) => row,
            None => make(change, app, None, "")?,
        };
        parent.members += 1;
        scope::put(change.tx, tenant, app, None, &parent);
    }
    change.tenant.scopes += 1;
    let row = store::Scope {
        description: description.to_owned(),
        created_ms: change.now_ms,
        created_by: change.command.principal.clone(),
        members: 0,
        updated_ms: change.now_ms,
    };
    scope::put(change.tx, tenant, app, env, &row);
    Ok(row)
}

fn count_less(change: &mut Change<'_, '_>, app: &str, env: Option<&str>) -> Result<(), Stop> {
    let lost = || FatalError(format!("{} is missing under what is in it", shown(app, env)));
    let mut row = scope::get(&*change.tx, change.tenant.id, app, env)?.ok_or_else(lost)?;
    row.members = row.members.checked_sub(1).ok_or_else(lost)?;
    scope::put(change.tx, change.tenant.id, app, env, &row);
    Ok(())
}
