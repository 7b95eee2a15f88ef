//! UpdateConfig: what is said of a config. Its versions and rules stay.

use bytes::Bytes;
use conflux_proto::{log, store, v1};

use super::{
    change::{Change, Kind},
    input,
    stop::Stop,
};
use crate::store::version;

/// Sets what is given; what is absent stays. What stands already changes nothing: no revision, no event.
pub(super) fn update_config(change: &mut Change<'_, '_>, op: &log::UpdateConfig) -> Result<v1::WriteResponse, Stop> {
    let before = change.config(op.config_id)?;
    let mut config = before.clone();
    if let Some(description) = &op.description {
        input::description(description)?;
        config.description = description.clone();
    }
    if op.set_tags {
        config.tags = input::tags(&op.tags)?;
    }
    if let Some(schema) = &op.schema {
        input::schema(schema)?;
        config.schema = schema.clone();
    }
    if op.retention.is_some() {
        config.retention = input::retention(op.retention)?;
    }
    change.demand(Some(&before))?;
    let (version, sha256) = latest(change, &config)?;
    if config == before {
        return Ok(change.unchanged(&config, version, &sha256));
    }
    let said = changed(&before, &config);
    let rules = config.rules.clone();
    let answer = change.commit(Kind::Updated, config, rules, version, &sha256)?;
    change.remark(&said);
    Ok(answer)
}

/// The names of what changed.
fn changed(before: &store::Config, after: &store::Config) -> String {
    let fields = [
        ("description", before.description != after.description),
        ("tags", before.tags != after.tags),
        ("schema", before.schema != after.schema),
        ("retention", before.retention != after.retention),
    ];
    fields.into_iter().filter(|(_, changed)| *changed).map(|(field, _)| field).collect::<Vec<_>>().join(", ")
}

/// The number and the hash of the latest version; 0 where there is none.
pub(super) fn latest(change: &Change<'_, '_>, config: &store::Config) -> Result<(u64, Bytes), Stop> {
    let row = version::get(&*change.tx, change.tenant.id, config.id, config.latest_version)?;
    Ok(row.map_or_else(Default::default, |v| (v.number, v.sha256)))
}
