//! Applications and environments.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{
    after,
    keys::{Family, Key},
    parse, read, scan, write,
};

/// An application; with an environment, that environment of it.
fn key<'a>(tenant: u64, app: &'a str, env: Option<&'a str>) -> Key<'a> {
    match env {
        Some(env) => Key::Env { tenant, app, env },
        None => Key::App { tenant, app },
    }
}

/// The row of an application, or of an environment of it.
pub fn get(rows: &dyn Read, tenant: u64, app: &str, env: Option<&str>) -> Result<Option<store::Scope>, FatalError> {
    read(rows, &key(tenant, app, env))
}

/// Sets the row.
pub fn put(tx: &mut Tx<'_>, tenant: u64, app: &str, env: Option<&str>, row: &store::Scope) {
    write(tx, &key(tenant, app, env), row);
}

/// Removes the row.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, app: &str, env: Option<&str>) {
    tx.delete(&key(tenant, app, env).encode());
}

/// Visits the applications by name, behind `place`.
pub fn each_app(
    rows: &dyn Read,
    tenant: u64,
    place: Option<&str>,
    mut visit: impl FnMut(&str, store::Scope) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    let (mut from, to) = Family::App.tenant_range(tenant);
    if let Some(app) = place {
        from = after(Key::App { tenant, app }.encode());
    }
    scan(rows, (from, to), true, |key, value| match key {
        Key::App { app, .. } => visit(app, parse(&key, value)?),
        _ => Ok(ControlFlow::Break(())),
    })
}

/// Visits the environments of an application by name, behind `place`.
pub fn each_env(
    rows: &dyn Read,
    tenant: u64,
    app: &str,
    place: Option<&str>,
    mut visit: impl FnMut(&str, store::Scope) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    let (mut from, _) = Family::Env.tenant_range(tenant);
    from.extend_from_slice(app.as_bytes());
    // The separator is 0: everything of this application is below the same prefix with 1.
    let to = [from.as_slice(), &[1]].concat();
    from.push(0);
    if let Some(env) = place {
        from = after(Key::Env { tenant, app, env }.encode());
    }
    scan(rows, (from, to), true, |key, value| match key {
        Key::Env { env, .. } => visit(env, parse(&key, value)?),
        _ => Ok(ControlFlow::Break(())),
    })
}
