//! What is different between two versions; whether a content would be taken.

use std::sync::Arc;

use conflux_common::{error::ApiError, ids::ConfigId};
use conflux_proto::v1;
use conflux_raft::View;

use super::{Sent, content::off_runtime, seen::readable};
use crate::{
    diff::{self, Difference, Side},
    format::Format,
    query::{self, ShownVersion, TenantRow},
    schema::{self, Violation},
    serve::{
        call::Call,
        conditions::{Demand, Level},
        reading::{Stamp, Weight, read},
    },
    shard::Shard,
};

/// Two versions and what is different.
#[derive(Debug)]
pub struct ComparedVersions {
    /// The first one's number.
    pub from: u64,
    /// The second one's.
    pub to: u64,
    /// What is different.
    pub difference: Difference,
}

/// Compares two versions of a config; without `to` the latest, without `from` the one before `to`.
pub async fn diff_versions(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    from: Option<u64>,
    to: Option<u64>,
    demand: Demand,
) -> Result<(Stamp, ComparedVersions), ApiError> {
    let caller = call.clone();
    let both = move |view: &View<'_>, row: &TenantRow| {
        let config = readable(view, row, &caller, id)?;
        let to = to.unwrap_or(config.latest_version);
        let before = || to.checked_sub(1).filter(|n| *n > 0);
        let none = || ApiError::invalid("from", format!("missing: there is no version before {to}"));
        let from = from.or_else(before).ok_or_else(none)?;
        let version = |number| query::get_version(view, row, id, number, ShownVersion::Whole);
        Ok((version(from)?, version(to)?))
    };
    let (at, (from, to)) = read(shard, call, demand, Weight::Scan, both).await?;
    let compared = off_runtime(move || {
        let (from_name, to_name) = (format!("version {}", from.number), format!("version {}", to.number));
        let difference = diff::diff(side(&from_name, &from), side(&to_name, &to));
        Ok(ComparedVersions { from: from.number, to: to.number, difference })
    });
    Ok((at, compared.await?))
}

fn side<'v>(name: &'v str, version: &'v v1::Version) -> Side<'v> {
    Side { name, format: Format::from_name(&version.format).unwrap_or(Format::Binary), content: &version.content }
}

/// What is wrong with a content, by its format and by this schema (empty: none). Nothing is written; the caller must be of the
/// tenant.
pub async fn validate(
    shard: &Arc<Shard>,
    call: &Call,
    config_name: &str,
    sent: Sent,
    schema: String,
) -> Result<(Stamp, Format, Vec<Violation>), ApiError> {
    let format = sent.detect(config_name)?;
    let at = read(shard, call, Demand::at(Level::Stale), Weight::Point, |_, _| Ok(())).await?.0;
    let content = sent.content;
    let found = off_runtime(move || Ok(schema::violations(format, &content, &schema)?)).await?;
    Ok((at, format, found))
}
