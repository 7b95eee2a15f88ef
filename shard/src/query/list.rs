//! Listing configs in the order of application, environment and name.

use std::ops::ControlFlow;

use conflux_common::error::ApiError;
use conflux_proto::{store, v1};
use conflux_raft::{FatalError, Read};

use super::{TenantRow, cursor, failed, shown_config};
use crate::store::config::{self as row, Place};

/// Which configs are listed. Empty parts select all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Exactly this application.
    pub app: String,
    /// Exactly this environment.
    pub env: String,
    /// Exactly this name.
    pub name: String,
    /// Names that begin so.
    pub prefix: String,
    /// Configs that have this tag.
    pub tag: String,
    /// Configs of this format.
    pub format: String,
}

/// A page of at most `limit` configs and the cursor of the next page (empty: this was the last). `visible` says of an app,
/// env and name whether the reader may list it. A config that is there during the whole listing is shown exactly once,
/// whatever is written meanwhile.
pub fn list(
    rows: &dyn Read,
    tenant: &TenantRow,
    filter: &Filter,
    limit: u32,
    cursor: &str,
    visible: &dyn Fn(&str, &str, &str) -> bool,
) -> Result<(Vec<v1::Config>, String), ApiError> {
    let size = super::page_size(limit)?;
    let place = cursor::place(cursor)?;
    let given = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    let (app, env) = (given(&filter.app), given(&filter.env));
    let mut page: Vec<store::Config> = Vec::new();
    let mut more = false;
    row::each_name(rows, tenant.id, app.as_deref(), env.as_deref(), place.as_ref(), |app, env, name, id| {
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let wanted = is(&filter.env, env) && is(&filter.name, name) && name.starts_with(&filter.prefix);
        if !wanted || !visible(app, env, name) {
            return Ok(ControlFlow::Continue(()));
        }
        let found = row::get(rows, tenant.id, id)?
            .ok_or_else(|| FatalError(format!("config {id} of tenant {} is only a name", tenant.id)))?;
        let tagged = filter.tag.is_empty() || found.tags.contains(&filter.tag);
        if !tagged || !is(&filter.format, &found.format) {
            return Ok(ControlFlow::Continue(()));
        }
        if page.len() == size {
            more = true;
            return Ok(ControlFlow::Break(()));
        }
        page.push(found);
        Ok(ControlFlow::Continue(()))
    })
    .map_err(failed)?;
    let next = match page.last() {
        Some(c) if more => cursor::of_place(&Place { app: c.app.clone(), env: c.env.clone(), name: c.name.clone() }),
        _ => String::new(),
    };
    Ok((page.into_iter().map(|c| shown_config(tenant, c)).collect(), next))
}
