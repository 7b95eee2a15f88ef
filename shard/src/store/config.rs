//! Configs by id, and their ids by name.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{
    after,
    keys::{Family, Key},
    parse, read, scan, write,
};

/// The config with this id.
pub fn get(rows: &dyn Read, tenant: u64, config: u64) -> Result<Option<store::Config>, FatalError> {
    read(rows, &Key::Config { tenant, config })
}

/// The id of the config with this name.
pub fn id_of(rows: &dyn Read, tenant: u64, app: &str, env: &str, name: &str) -> Result<Option<u64>, FatalError> {
    let key = Key::ConfigName { tenant, app, env, name };
    rows.get(&key.encode())?.map(|value| id(&key, &value)).transpose()
}

fn id(key: &Key<'_>, value: &[u8]) -> Result<u64, FatalError> {
    let bytes =
        value.try_into().map_err(|_| FatalError(format!("the row {key:?} is no number; restore this member")))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The config with this name.
pub fn by_name(
    rows: &dyn Read,
    tenant: u64,
    app: &str,
    env: &str,
    name: &str,
) -> Result<Option<store::Config>, FatalError> {
    match id_of(rows, tenant, app, env, name)? {
        Some(config) => get(rows, tenant, config),
        None => Ok(None),
    }
}

/// Sets the config's row; with `new` its name too.
pub fn put(tx: &mut Tx<'_>, tenant: u64, row: &store::Config, new: bool) {
    write(tx, &Key::Config { tenant, config: row.id }, row);
    if new {
        let key = Key::ConfigName { tenant, app: &row.app, env: &row.env, name: &row.name };
        tx.put(key.encode(), row.id.to_be_bytes());
    }
}

/// Removes the config's row and its name.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, row: &store::Config) {
    tx.delete(&Key::Config { tenant, config: row.id }.encode());
    tx.delete(&Key::ConfigName { tenant, app: &row.app, env: &row.env, name: &row.name }.encode());
}

/// Visits the tenant's configs by id.
pub fn each(
    rows: &dyn Read,
    tenant: u64,
    mut visit: impl FnMut(store::Config) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    scan(rows, Family::Config.tenant_range(tenant), true, |key, value| visit(parse(&key, value)?))
}

/// Where a listing goes on: behind this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The application.
    pub app: String,
    /// The environment.
    pub env: String,
    /// The config's name.
    pub name: String,
}

/// Visits names and ids in the order of application, environment and name, behind `place`, within an application and an
/// environment of it where they are given.
pub fn each_name(
    rows: &dyn Read,
    tenant: u64,
    app: Option<&str>,
    env: Option<&str>,
    place: Option<&Place>,
    mut visit: impl FnMut(&str, &str, &str, u64) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    let (mut from, mut to) = Family::ConfigName.tenant_range(tenant);
    if let Some(app) = app {
        from.extend_from_slice(app.as_bytes());
        if let Some(env) = env {
            from.push(0);
            from.extend_from_slice(env.as_bytes());
        }
        to = from.clone();
        // The separator is 0: everything of this prefix is below the same prefix with 1.
        to.push(1);
        from.push(0);
    }
    if let Some(place) = place {
        let key = Key::ConfigName { tenant, app: &place.app, env: &place.env, name: &place.name }.encode();
        from = from.max(after(key));
    }
    if from >= to {
        return Ok(());
    }
    scan(rows, (from, to), true, |key, value| match key {
        Key::ConfigName { app, env, name, .. } => visit(app, env, name, id(&key, value)?),
        _ => Ok(ControlFlow::Break(())),
    })
}
