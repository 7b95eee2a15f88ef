//! API keys and roles: the rows of the embedded directory. Their rules are in [`directory`](crate::directory).

use bytes::Bytes;
use conflux_common::error::Code;
use conflux_proto::{
    internal::{KeyRecord, RoleName, RoleRecord, change},
    log::placement_answer::Result as Answer,
};
use conflux_raft::{FatalError, Read, Tx};

use super::{Effect, Stop, invalid, refuse, tenants};
use crate::{
    directory::{keys, roles},
    store::{
        Family, Key,
        rows::{exists, list, list_keys, load, mark, remove, save},
    },
};

/// The ids of a tenant's keys; of operators' with an empty name.
pub fn keys_of(rows: &impl Read, tenant: &str) -> Result<Vec<String>, FatalError> {
    let (from, to) = Key::of_tenant(Family::KeyOfTenant, tenant);
    let rows = list_keys(rows, (&from, &to), keys::MAX_KEYS)?;
    Ok(rows.into_iter().filter_map(|k| if let Key::KeyOfTenant { key, .. } = k { Some(key) } else { None }).collect())
}

/// A tenant's own roles.
pub fn roles_of(rows: &impl Read, tenant: &str) -> Result<Vec<RoleRecord>, FatalError> {
    let (from, to) = Key::of_tenant(Family::Role, tenant);
    Ok(list(rows, (&from, &to), roles::MAX_ROLES)?.into_iter().map(|(_, role)| role).collect())
}

fn no_tenant(name: &str) -> Stop {
    invalid("tenant", format!("there is no tenant {name:?}, or it is being deleted"))
}

pub(super) fn put_key(tx: &mut Tx<'_>, now_ms: u64, key: KeyRecord) -> Result<Effect, Stop> {
    keys::check(&key, now_ms)?;
    if !key.operator && !tenants::is_open(tx, &key.tenant)? {
        return Err(no_tenant(&key.tenant));
    }
    for (i, role) in key.roles.iter().enumerate() {
        let own = Key::Role { tenant: key.tenant.clone(), name: role.clone() };
        if !roles::is_built_in(role) && !exists(tx, &own)? {
            let why = "no such role in this tenant; built in are reader, writer, publisher and admin";
            return Err(invalid(format!("roles[{i}]"), why));
        }
    }
    let row = Key::ApiKey(key.id.clone());
    if exists(tx, &row)? {
        return Err(refuse(Code::AlreadyExists, format!("key {} exists already", key.id)));
    }
    if keys_of(tx, &key.tenant)?.len() >= keys::MAX_KEYS {
        return Err(refuse(Code::ResourceExhausted, format!("there are {} keys already: revoke some", keys::MAX_KEYS)));
    }
    let key = KeyRecord { created_ms: now_ms, ..key };
    save(tx, &row, &key);
    mark(tx, &Key::KeyOfTenant { tenant: key.tenant.clone(), key: key.id.clone() });
    let answer = KeyRecord { secret_hash: Bytes::new(), ..key.clone() };
    Ok(Effect::new(Answer::Key(answer), [change::Change::Key(key)]))
}

pub(super) fn revoke_key(tx: &mut Tx<'_>, id: &str) -> Result<Effect, Stop> {
    let Some(key) = load::<KeyRecord>(tx, &Key::ApiKey(id.to_owned()))? else {
        return Err(refuse(Code::NotFound, "there is no such key"));
    };
    remove(tx, &Key::ApiKey(id.to_owned()));
    remove(tx, &Key::KeyOfTenant { tenant: key.tenant, key: id.to_owned() });
    Ok(Effect::new(Answer::Done(true), [change::Change::KeyGone(id.to_owned())]))
}

pub(super) fn put_role(tx: &mut Tx<'_>, role: RoleRecord) -> Result<Effect, Stop> {
    roles::check(&role)?;
    if !tenants::is_open(tx, &role.tenant)? {
        return Err(no_tenant(&role.tenant));
    }
    let row = Key::Role { tenant: role.tenant.clone(), name: role.name.clone() };
    match load::<RoleRecord>(tx, &row)? {
        Some(known) if known == role => return Ok(Effect::new(Answer::Done(false), [])),
        Some(_) => {}
        None if roles_of(tx, &role.tenant)?.len() >= roles::MAX_ROLES => {
            let why = format!("the tenant has {} roles already: delete some", roles::MAX_ROLES);
            return Err(refuse(Code::ResourceExhausted, why));
        }
        None => {}
    }
    save(tx, &row, &role);
    Ok(Effect::new(Answer::Done(true), [change::Change::Role(role)]))
}

/// Refused while a key has the role: the key would silently lose what its holder relies on.
pub(super) fn delete_role(tx: &mut Tx<'_>, role: RoleName) -> Result<Effect, Stop> {
    let row = Key::Role { tenant: role.tenant.clone(), name: role.name.clone() };
    if role.tenant.is_empty() || !exists(tx, &row)? {
        return Err(refuse(Code::NotFound, "there is no such role of this tenant's own"));
    }
    for id in keys_of(tx, &role.tenant)? {
        let key: Option<KeyRecord> = load(tx, &Key::ApiKey(id.clone()))?;
        if key.is_some_and(|k| k.roles.contains(&role.name)) {
            let why = format!("role {:?} is in use by key {id}: revoke that key first", role.name);
            return Err(refuse(Code::FailedPrecondition, why));
        }
    }
    remove(tx, &row);
    Ok(Effect::new(Answer::Done(true), [change::Change::RoleGone(role)]))
}

/// Removes all keys and roles of a tenant: bounded by [`keys::MAX_KEYS`] and [`roles::MAX_ROLES`].
pub(super) fn remove_all(tx: &mut Tx<'_>, tenant: &str) -> Result<Vec<change::Change>, FatalError> {
    let mut changes = Vec::new();
    for id in keys_of(tx, tenant)? {
        remove(tx, &Key::ApiKey(id.clone()));
        remove(tx, &Key::KeyOfTenant { tenant: tenant.to_owned(), key: id.clone() });
        changes.push(change::Change::KeyGone(id));
    }
    for role in roles_of(tx, tenant)? {
        remove(tx, &Key::Role { tenant: tenant.to_owned(), name: role.name.clone() });
        changes.push(change::Change::RoleGone(RoleName { tenant: role.tenant, name: role.name }));
    }
    Ok(changes)
}
