//! What everybody is served who carries no labels: for exports, comparisons and promotions.

use std::ops::ControlFlow;

use bytes::Bytes;
use conflux_common::{error::ApiError, release};
use conflux_proto::store;
use conflux_raft::{FatalError, Read};

use super::{TenantRow, failed, fetch::content_of, rules_of};
use crate::store::{config as row, version};

/// A config with the version that its default rule serves, else with its latest.
#[derive(Debug, Clone, PartialEq)]
pub struct Released {
    /// Its record.
    pub config: store::Config,
    /// The version; none: it has none.
    pub version: Option<store::Version>,
    /// Whether the version is what the default rule serves.
    pub released: bool,
}

impl Released {
    /// Of this config.
    pub fn of(rows: &dyn Read, tenant: &TenantRow, config: store::Config) -> Result<Self, ApiError> {
        let rules = rules_of(&config.rules)?;
        let default = release::default_rule(&rules).map(|rule| rule.version);
        let number = default.unwrap_or(config.latest_version);
        let version = version::get(rows, tenant.id, config.id, number).map_err(failed)?;
        Ok(Self { config, released: default.is_some() && version.is_some(), version })
    }

    /// The content of the version.
    pub fn content(&self, rows: &dyn Read, tenant: &TenantRow) -> Result<Option<Bytes>, ApiError> {
        self.version.as_ref().map(|version| content_of(rows, tenant, version.number, &version.sha256)).transpose()
    }
}

/// The configs of an application and environment (empty: of all) that are `visible`, in the order of their names.
pub fn released(
    rows: &dyn Read,
    tenant: &TenantRow,
    app: &str,
    env: &str,
    visible: &dyn Fn(&str, &str, &str) -> bool,
) -> Result<Vec<Released>, ApiError> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut found = Vec::new();
    row::each_name(rows, tenant.id, given(app).as_deref(), given(env).as_deref(), None, |of_app, of_env, name, id| {
        if (!env.is_empty() && env != of_env) || !visible(of_app, of_env, name) {
            return Ok(ControlFlow::Continue(()));
        }
        let config = row::get(rows, tenant.id, id)?;
        found.push(config.ok_or_else(|| FatalError(format!("config {id} of tenant {} is only a name", tenant.id)))?);
        Ok(ControlFlow::Continue(()))
    })
    .map_err(failed)?;
    found.into_iter().map(|config| Released::of(rows, tenant, config)).collect()
}
