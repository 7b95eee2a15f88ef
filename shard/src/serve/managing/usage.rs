//! What is used, by how many clients, and whom other rules would reach. Read from this member's memory, beside its state.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::ApiError,
    grant::Action,
    ids::{ConfigId, TenantId},
    release::{self, ReleaseRule, Strategy},
};
use conflux_proto::{store, v1};
use conflux_raft::View;

use super::{PageAsked, seen::readable};
use crate::{
    query::{self, Filter, TenantRow},
    serve::{
        call::Call,
        conditions::Demand,
        reading::{Stamp, Weight, read},
    },
    shard::Shard,
    usage::{
        ConfigSeen,
        impact::{self, Impact},
    },
};

/// What would be released.
#[derive(Debug, Clone)]
pub enum Proposed {
    /// These rules in place of those that stand.
    Rules(Vec<ReleaseRule>),
    /// This version (none: a new one) by this strategy.
    Release(Option<u64>, Strategy),
}

/// Whom it would reach, of the clients seen lately. Nothing is written.
pub async fn impact(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    proposed: Proposed,
    demand: Demand,
) -> Result<(Stamp, v1::Config, Impact), ApiError> {
    let (caller, member) = (call.clone(), shard.clone());
    let from = move |view: &View<'_>, row: &TenantRow| {
        let config = readable(view, row, &caller, id)?;
        let then = rules_then(&config, &proposed)?;
        let impact = impact_of(&member, caller.tenant, &config, &then)?;
        Ok((query::shown_config(row, config), impact))
    };
    let (at, (config, impact)) = read(shard, call, demand, Weight::Scan, from).await?;
    Ok((at, config, impact))
}

/// Whom the rules `then` would reach that stand on this config in place of its own.
pub fn impact_of(
    shard: &Shard,
    tenant: TenantId,
    config: &store::Config,
    then: &[ReleaseRule],
) -> Result<Impact, ApiError> {
    let seen = shard.usage.config(tenant, &config.app, &config.env, &config.name);
    Ok(impact::of(config.id, &query::rules_of(&config.rules)?, then, &seen))
}

/// The rules that would stand.
fn rules_then(config: &store::Config, proposed: &Proposed) -> Result<Vec<ReleaseRule>, ApiError> {
    let known = |version: u64, field: String| match version {
        1.. if version <= config.latest_version => Ok(()),
        _ => Err(ApiError::invalid(
            field,
            format!("there is no version {version}: the latest is {}", config.latest_version),
        )),
    };
    match proposed {
        Proposed::Rules(rules) => {
            release::validate(rules)?;
            for (i, rule) in rules.iter().enumerate() {
                known(rule.version, format!("rules[{i}].version"))?;
            }
            Ok(rules.clone())
        }
        Proposed::Release(version, strategy) => {
            if let Some(version) = version {
                known(*version, "version".to_owned())?;
            }
            let version = version.unwrap_or(config.latest_version + 1);
            release::plan(&query::rules_of(&config.rules)?, version, strategy)
        }
    }
}

/// A config and what is known of its use.
#[derive(Debug, Clone)]
pub struct UsedConfig {
    /// Its record.
    pub config: v1::Config,
    /// What is known.
    pub seen: ConfigSeen,
}

/// The use of the configs that the caller may list.
pub async fn usage(
    shard: &Arc<Shard>,
    call: &Call,
    filter: Filter,
    page: PageAsked,
    demand: Demand,
) -> Result<(Stamp, Vec<UsedConfig>, String), ApiError> {
    let (caller, member) = (call.clone(), shard.clone());
    let from = move |view: &View<'_>, row: &TenantRow| {
        let (configs, next) = listed(view, row, &caller, &filter, page.limit, &page.cursor)?;
        Ok((configs.into_iter().map(|config| used(&member, caller.tenant, config)).collect(), next))
    };
    let (at, (configs, next)) = read(shard, call, demand, Weight::Scan, from).await?;
    Ok((at, configs, next))
}

/// Those that nobody has fetched for so long (zero: ever), as far as this member knows; none that is younger itself.
pub async fn unused(
    shard: &Arc<Shard>,
    call: &Call,
    filter: Filter,
    idle: Duration,
    page: PageAsked,
    demand: Demand,
) -> Result<(Stamp, Vec<UsedConfig>, String), ApiError> {
    let (caller, member) = (call.clone(), shard.clone());
    let from = move |view: &View<'_>, row: &TenantRow| {
        let now_ms = member.node.group_time_ms();
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let wanted = |used: &UsedConfig| {
            let old = now_ms.saturating_sub(used.config.created_ms) >= idle_ms;
            old && used.seen.last.is_none_or(|last| !idle.is_zero() && last >= idle)
        };
        // Pages of what is looked at, not of what is found: a cursor is a place in the listing.
        let limit = if page.limit == 0 { query::MAX_PAGE as u32 } else { page.limit };
        let (configs, next) = listed(view, row, &caller, &filter, limit, &page.cursor)?;
        let found = configs.into_iter().map(|config| used(&member, caller.tenant, config)).filter(wanted);
        Ok((found.collect(), next))
    };
    let (at, (configs, next)) = read(shard, call, demand, Weight::Scan, from).await?;
    Ok((at, configs, next))
}

fn listed(
    view: &View<'_>,
    row: &TenantRow,
    call: &Call,
    filter: &Filter,
    limit: u32,
    cursor: &str,
) -> Result<(Vec<v1::Config>, String), ApiError> {
    let visible = |app: &str, env: &str, name: &str| call.may(Action::List, app, env, name);
    query::list(view, row, filter, limit, cursor, &visible)
}

fn used(shard: &Shard, tenant: TenantId, config: v1::Config) -> UsedConfig {
    let seen = shard.usage.config(tenant, &config.app, &config.env, &config.name);
    UsedConfig { config, seen }
}
