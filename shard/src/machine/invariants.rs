//! What must hold of the rows, each named once. Checked on the rows that a command touched.
//!
//! | row | holds |
//! |---|---|
//! | `Tenant` | the revision is dense, the history and the audit chain hold exactly what is above their floors, counts are those of the rows |
//! | `Config` | rules, latest, previous default and promotion point at versions that exist, copies are those of versions that rules point at; the name leads to it; its last change is in the history |
//! | `ConfigName`, `App`, `Env` | lead to what they name, and are counted |
//! | `Version`, `Draft` | the content is there and has their size; what is pointed at does not go |
//! | `Content` | is there exactly while it is referred to, and is what its hash says |
//! | `Promotion` | one for each config that has a promotion, at its time |
//! | `Idempotency` | something says when it is forgotten |
//!
//! What only the whole of a tenant shows (every reference counted, every version and draft) is checked by the model's tests.

mod releases;

use std::ops::ControlFlow;

use conflux_common::ids::ConfigId;
use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};
use prost::Message;
use sha2::{Digest, Sha256};

use super::notice::TenantState;
use crate::{
    query,
    store::{
        audit, config, content, event, idempotency,
        keys::{Family, Key},
        scan, scope, tenant, version,
    },
};

/// Checks what must hold of every row that this command touched; the text names what fails.
pub(super) fn check(tx: &Tx<'_>) -> Result<(), String> {
    let fatal = |e: FatalError| e.to_string();
    for (key, value) in tx.touched() {
        let key = Key::decode(key).map_err(|e| e.to_string())?;
        if !matches!(key, Key::Tenant { .. }) && going(tx, key.tenant()).map_err(fatal)? {
            continue;
        }
        let broken = match (key, value.is_some()) {
            (Key::Tenant { tenant }, true) => tenant_row(tx, tenant).map_err(fatal)?,
            (Key::Config { tenant, config }, true) => config_row(tx, tenant, config).map_err(fatal)?,
            (Key::ConfigName { tenant, app, env, name }, set) => {
                let led = if set { name_row(tx, tenant, [app, env, name]).map_err(fatal)? } else { None };
                led.or(count_of_names(tx, tenant).map_err(fatal)?)
            }
            (Key::Version { tenant, config, number }, true) => {
                version_row(tx, tenant, config, number).map_err(fatal)?
            }
            (Key::Version { tenant, config, number }, false) => {
                gone_version(tx, tenant, config, number).map_err(fatal)?
            }
            (Key::App { tenant, app }, set) => app_row(tx, tenant, app, set).map_err(fatal)?,
            (Key::Env { tenant, app, env }, set) => env_row(tx, tenant, app, env, set).map_err(fatal)?,
            (Key::Draft { tenant, config, number }, set) => {
                releases::draft_row(tx, tenant, config, number, set).map_err(fatal)?
            }
            (Key::Promotion { tenant, due_ms, config }, set) => {
                releases::promotion_row(tx, tenant, due_ms, config, set).map_err(fatal)?
            }
            (Key::Leftover { tenant, config }, true) => leftover_row(tx, tenant, config).map_err(fatal)?,
            (Key::Content { tenant, sha256 } | Key::ContentReferences { tenant, sha256 }, _) => {
                content_rows(tx, tenant, sha256).map_err(fatal)?
            }
            (Key::Idempotency { tenant, scope }, true) => key_row(tx, tenant, scope).map_err(fatal)?,
            _ => None,
        };
        if let Some(why) = broken {
            return Err(format!("{key:?}: {why}"));
        }
    }
    Ok(())
}

/// The rows of a tenant that is being deleted go in the order of their keys: they agree no more.
fn going(rows: &dyn Read, tenant: u64) -> Result<bool, FatalError> {
    let row = tenant::get(rows, tenant)?;
    Ok(row.is_none_or(|row| query::state_of(&row) != Some(TenantState::Active)))
}

type Broken = Result<Option<&'static str>, FatalError>;

/// The revision counter is dense, and the history holds exactly the revisions above its floor.
fn tenant_row(rows: &dyn Read, id: u64) -> Broken {
    let Some(row) = tenant::get(rows, id)? else { return Ok(Some("gone")) };
    match query::state_of(&row) {
        None => return Ok(Some("a state that does not exist")),
        Some(TenantState::Active) => {}
        // The sum says for these what must hold; what it is made of is another shard's.
        Some(
            TenantState::Deleting
            | TenantState::Importing
            | TenantState::Prepared
            | TenantState::Frozen
            | TenantState::Moved
            | TenantState::Absent,
        ) => return Ok(None),
        Some(TenantState::Deleted) => return only_tombstone(rows, id),
    }
    if row.event_floor > row.revision {
        return Ok(Some("the history begins after the present revision"));
    }
    // From the floor on: to look from the first key would be to pass over everything that was deleted of late.
    let (_, end) = Family::Event.tenant_range(id);
    let floor = Key::Event { tenant: id, revision: row.event_floor }.encode();
    let edge = |forward| -> Result<Option<u64>, FatalError> {
        let mut found = None;
        scan(rows, (floor.clone(), end.clone()), forward, |key, _| {
            if let Key::Event { revision, .. } = key {
                found = Some(revision);
            }
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    };
    let expected = (row.revision > row.event_floor).then_some((row.event_floor + 1, row.revision));
    if edge(true)?.zip(edge(false)?) != expected {
        return Ok(Some("the history does not hold exactly the revisions above its floor"));
    }
    if let Some(broken) = end_of_chain(rows, &row)? {
        return Ok(Some(broken));
    }
    content_bytes(rows, &row)
}

/// The audit chain ends with the hash that the tenant's row has, and holds exactly the records above its floor.
fn end_of_chain(rows: &dyn Read, row: &store::Tenant) -> Broken {
    let mut last = None;
    audit::each_back(rows, row.id, 0, |record| {
        last = Some(record);
        Ok(ControlFlow::Break(()))
    })?;
    let mut first = None;
    audit::each(rows, row.id, row.audit_floor, |record| {
        first = Some(record.seq);
        Ok(ControlFlow::Break(()))
    })?;
    let expected = (row.audit_seq > row.audit_floor).then_some((row.audit_floor + 1, row.audit_seq));
    if first.zip(last.as_ref().map(|r| r.seq)) != expected {
        return Ok(Some("the audit chain does not hold exactly the records above its floor"));
    }
    match last {
        Some(last) if last.hash != row.audit_hash || last.hash != conflux_proto::audit::hash(&last) => {
            Ok(Some("the audit chain does not end with the tenant's hash"))
        }
        _ => Ok(None),
    }
}

/// Names and contents are recounted only where that is quick, since it reads them all: so many names, so many bytes.
const QUICK_NAMES: u64 = 1_000;
const QUICK_BYTES: u64 = 64 << 10;

/// The bytes of contents are counted.
fn content_bytes(rows: &dyn Read, row: &store::Tenant) -> Broken {
    if row.content_bytes > QUICK_BYTES {
        return Ok(None);
    }
    let mut bytes = 0;
    scan(rows, Family::Content.tenant_range(row.id), true, |_, value| {
        let content = store::Content::decode(value).map_err(|e| FatalError(e.to_string()))?;
        bytes += content.data.len() as u64;
        Ok(if bytes > row.content_bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok((bytes != row.content_bytes).then_some("the count of content bytes is not that of the contents"))
}

/// An application counts its environments.
fn app_row(rows: &dyn Read, tenant: u64, app: &str, there: bool) -> Broken {
    let mut envs = 0;
    scope::each_env(rows, tenant, app, None, |_, _| {
        envs += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    let counted = scope::get(rows, tenant, app, None)?.map(|row| row.members);
    Ok((counted != there.then_some(envs) || !there && envs > 0)
        .then_some("an application does not count its environments"))
}

/// An environment counts its configs, and its application is there.
fn env_row(rows: &dyn Read, tenant: u64, app: &str, env: &str, there: bool) -> Broken {
    let counted = scope::get(rows, tenant, app, Some(env))?.map(|row| row.members);
    if counted.is_some_and(|counted| counted > QUICK_NAMES) {
        return Ok(None);
    }
    let mut configs = 0;
    config::each_name(rows, tenant, Some(app), Some(env), None, |_, _, _, _| {
        configs += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    if counted != there.then_some(configs) || !there && configs > 0 {
        return Ok(Some("an environment does not count its configs"));
    }
    let orphan = there && scope::get(rows, tenant, app, None)?.is_none();
    Ok(orphan.then_some("an environment is of no application"))
}

/// Nothing of a deleted tenant is left but its tombstone.
fn only_tombstone(rows: &dyn Read, id: u64) -> Broken {
    let mut left = false;
    for family in Family::ALL.into_iter().filter(|f| *f != Family::Tenant) {
        scan(rows, family.tenant_range(id), true, |_, _| {
            left = true;
            Ok(ControlFlow::Break(()))
        })?;
    }
    Ok(left.then_some("rows are left of a deleted tenant"))
}

/// Every rule's version exists, the latest too, the name leads to the config, and its last change has happened.
fn config_row(rows: &dyn Read, tenant: u64, id: u64) -> Broken {
    let Some(row) = config::get(rows, tenant, id)? else { return Ok(Some("gone")) };
    let numbers = row.rules.iter().map(|r| r.version).chain((row.latest_version > 0).then_some(row.latest_version));
    for number in numbers {
        if version::get(rows, tenant, id, number)?.is_none() {
            return Ok(Some("a rule or the latest version points at a version that does not exist"));
        }
    }
    if let Some(broken) = releases::promised(rows, tenant, &row)? {
        return Ok(Some(broken));
    }
    if version::get(rows, tenant, id, row.latest_version + 1)?.is_some() {
        return Ok(Some("there is a version after the latest"));
    }
    if let Some(broken) = releases::copies(rows, tenant, &row)? {
        return Ok(Some(broken));
    }
    if count_of_versions(rows, tenant, &row)? == Some(false) {
        return Ok(Some("the count of versions is not that of their rows"));
    }
    if scope::get(rows, tenant, &row.app, Some(&row.env))?.is_none() {
        return Ok(Some("its environment is missing"));
    }
    if config::id_of(rows, tenant, &row.app, &row.env, &row.name)? != Some(id) {
        return Ok(Some("its name does not lead to it"));
    }
    let owner = tenant::get(rows, tenant)?.unwrap_or_default();
    if row.revision == 0 || row.revision > owner.revision || row.id > owner.next_config_id {
        return Ok(Some("its revision or id was never given out"));
    }
    if row.revision <= owner.event_floor {
        return Ok(None); // its last change is no longer in the history
    }
    let mut told = false;
    event::each(rows, tenant, row.revision - 1, row.revision, |_, stored, _| {
        let of_it = |e: &store::StoredEvent| e.event.as_ref().is_some_and(|e| e.config_id == ConfigId(id).to_string());
        told = stored.events.iter().any(|e| of_it(e) && e.rules_after == row.rules);
        Ok(ControlFlow::Break(()))
    })?;
    Ok((!told).then_some("the event of its last change is missing or tells otherwise"))
}

/// Whether the versions are counted rightly; none where there are too many to look each time.
fn count_of_versions(rows: &dyn Read, tenant: u64, row: &store::Config) -> Result<Option<bool>, FatalError> {
    const QUICK: u64 = 64;
    if row.versions > QUICK {
        return Ok(None);
    }
    let mut count = 0;
    version::each_back(rows, tenant, row.id, 0, |_| {
        count += 1;
        Ok(if count > row.versions { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(Some(count == row.versions))
}

/// Every name is counted.
fn count_of_names(rows: &dyn Read, tenant: u64) -> Broken {
    let counted = tenant::get(rows, tenant)?.unwrap_or_default().configs;
    if counted > QUICK_NAMES {
        return Ok(None);
    }
    let mut names = 0;
    config::each_name(rows, tenant, None, None, None, |_, _, _, _| {
        names += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((names != counted).then_some("the count of configs is not that of their names"))
}

/// A name leads to a config of that name.
fn name_row(rows: &dyn Read, tenant: u64, names: [&str; 3]) -> Broken {
    let [app, env, name] = names;
    let row = config::by_name(rows, tenant, app, env, name)?;
    let same = |row: &store::Config| [row.app.as_str(), &row.env, &row.name] == names;
    Ok((!row.as_ref().is_some_and(same)).then_some("does not lead to a config of this name"))
}

/// A version's content is there and has its size.
fn version_row(rows: &dyn Read, tenant: u64, config: u64, number: u64) -> Broken {
    let Some(row) = version::get(rows, tenant, config, number)? else { return Ok(Some("gone")) };
    match content::get(rows, tenant, &row.sha256)? {
        Some(data) if data.len() as u64 == row.size => Ok(None),
        Some(_) => Ok(Some("its content has another size")),
        None => Ok(Some("its content is missing")),
    }
}

/// A version that is served, or the latest, does not go while its config is there.
fn gone_version(rows: &dyn Read, tenant: u64, config: u64, number: u64) -> Broken {
    let Some(row) = config::get(rows, tenant, config)? else { return Ok(None) };
    Ok(crate::retention::is_held(&row, number).then_some("a version went that its config still points at"))
}

/// Versions are left over of no config that can be seen.
fn leftover_row(rows: &dyn Read, tenant: u64, config: u64) -> Broken {
    Ok(config::get(rows, tenant, config)?.is_some().then_some("its config is still there"))
}

/// A content is there exactly while it is referred to, and is what its hash says.
fn content_rows(rows: &dyn Read, tenant: u64, sha256: [u8; 32]) -> Broken {
    let count = content::references(rows, tenant, &sha256)?;
    match content::get(rows, tenant, &sha256)? {
        None if count == 0 => Ok(None),
        Some(data) if count > 0 => {
            let hash: [u8; 32] = Sha256::digest(&data).into();
            Ok((hash != sha256).then_some("the content is not what its hash says"))
        }
        _ => Ok(Some("content and references do not agree")),
    }
}

/// A remembered answer will be forgotten.
fn key_row(rows: &dyn Read, tenant: u64, scope: [u8; 32]) -> Broken {
    let Some(row) = idempotency::get(rows, tenant, scope)? else { return Ok(Some("gone")) };
    if row.expires_ms <= tenant::get(rows, tenant)?.map_or(0, |owner| owner.forgotten_ms) {
        return Ok(Some("nobody looks any more for what is forgotten at its time"));
    }
    let index = Key::IdempotencyExpiry { tenant, expires_ms: row.expires_ms, scope }.encode();
    Ok(rows.get(&index)?.is_none().then_some("nothing says when it is forgotten"))
}
