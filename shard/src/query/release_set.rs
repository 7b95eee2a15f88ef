//! All that decides what clients are served of one config: its rules, and the versions that they point at.

use std::collections::BTreeSet;

use conflux_common::{
    error::{ApiError, Code},
    ids::{AppName, ConfigName, EnvName},
};
use conflux_proto::internal::{ReleaseSetRequest, ReleaseSetResponse, ReleasedVersion};
use conflux_raft::Read;

use super::{
    TenantRow, config_by_name,
    fetch::{Fetched, Resolved, served},
};

/// The release set of a config, for a gateway that answers fetches of it by itself. That there is no such config is an answer
/// too. A rule that points at nothing leaves no version: who is served by it asks the shard, as before.
pub fn release_set(
    rows: &dyn Read,
    tenant: &TenantRow,
    asked: &ReleaseSetRequest,
) -> Result<ReleaseSetResponse, ApiError> {
    let mut set =
        ReleaseSetResponse { revision: tenant.revision, incarnation: tenant.incarnation, ..Default::default() };
    let named = asked.app.parse::<AppName>().is_ok()
        && asked.env.parse::<EnvName>().is_ok()
        && asked.name.parse::<ConfigName>().is_ok();
    if !named {
        return Ok(set);
    }
    let config = match config_by_name(rows, tenant, &asked.app, &asked.env, &asked.name) {
        Ok(config) => config,
        Err(error) if error.code == Code::NotFound => return Ok(set),
        Err(error) => return Err(error),
    };
    set.config_id = config.id;
    let numbers: BTreeSet<u64> = config.rules.iter().map(|rule| rule.version).collect();
    let mut resolved = Vec::new();
    let mut bytes = 0;
    for number in numbers {
        let Some(version) = served(rows, tenant, &config, number)? else { continue };
        bytes += version.size;
        resolved.push(Resolved { config: config.clone(), version });
    }
    if bytes > asked.max_bytes {
        set.too_large = true;
        return Ok(set);
    }
    for resolved in resolved {
        let Fetched { version, content, media_type, etag, hash, .. } = resolved.fetched(rows, tenant)?;
        set.versions.push(ReleasedVersion { number: version, content, media_type, etag, hash });
    }
    set.rules = config.rules;
    Ok(set)
}
