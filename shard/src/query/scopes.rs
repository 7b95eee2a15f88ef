//! Applications and environments.

use std::ops::ControlFlow;

use conflux_common::error::ApiError;
use conflux_proto::store;
use conflux_raft::Read;

use super::{TenantRow, config::not_found, cursor, failed};
use crate::store::scope as row;

/// An application or an environment with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// The application.
    pub app: String,
    /// The environment; none: this is of the application.
    pub env: Option<String>,
    /// Its record.
    pub row: store::Scope,
}

/// One of them.
pub fn scope(rows: &dyn Read, tenant: &TenantRow, app: &str, env: Option<&str>) -> Result<Scope, ApiError> {
    let found = row::get(rows, tenant.id, app, env).map_err(failed)?;
    let missing = || match env {
        Some(env) => not_found(format_args!("environment {app}/{env}")),
        None => not_found(format_args!("application {app}")),
    };
    Ok(Scope { app: app.to_owned(), env: env.map(str::to_owned), row: found.ok_or_else(missing)? })
}

/// A page of the applications, or of the environments of one, by name; and the cursor of the next page (empty: this was the
/// last). `visible` says of a name whether the reader may know of it.
pub fn list_scopes(
    rows: &dyn Read,
    tenant: &TenantRow,
    app: Option<&str>,
    limit: u32,
    cursor: &str,
    visible: &dyn Fn(&str) -> bool,
) -> Result<(Vec<Scope>, String), ApiError> {
    let size = super::page_size(limit)?;
    let place = cursor::name(cursor)?;
    let (mut page, mut more): (Vec<Scope>, bool) = (Vec::new(), false);
    let visit = |name: &str, row: store::Scope| {
        if !visible(name) {
            return Ok(ControlFlow::Continue(()));
        }
        if page.len() == size {
            more = true;
            return Ok(ControlFlow::Break(()));
        }
        page.push(match app {
            Some(app) => Scope { app: app.to_owned(), env: Some(name.to_owned()), row },
            None => Scope { app: name.to_owned(), env: None, row },
        });
        Ok(ControlFlow::Continue(()))
    };
    match app {
        Some(app) => row::each_env(rows, tenant.id, app, place.as_deref(), visit),
        None => row::each_app(rows, tenant.id, place.as_deref(), visit),
    }
    .map_err(failed)?;
    let next = match page.last() {
        Some(last) if more => cursor::of_name(last.env.as_deref().unwrap_or(&last.app)),
        _ => String::new(),
    };
    Ok((page, next))
}
