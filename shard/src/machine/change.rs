//! A user's write under way: what every operation needs, and the steps that several share.

use bytes::Bytes;
use conflux_common::{error::ApiError, ids::ConfigId, planted};
use conflux_proto::{internal::FeedEvent, log::ShardCommand, quotas::effective, store, v1};
use conflux_raft::{Entry, FatalError, Tx};

use super::{
    audit::{self, Note},
    input::NewVersion,
    precondition::{self, Condition},
    scopes, served,
    stop::{Stop, quota},
};
use crate::{
    query,
    store::{config, content, event, version},
};

/// A user's write under way: one operation, or the steps of a changeset. What a refused one has written is taken back.
pub(super) struct Change<'c, 'tx> {
    /// The rows.
    pub tx: &'c mut Tx<'tx>,
    /// The tenant's row, written back at the end.
    pub tenant: store::Tenant,
    /// Who asked.
    pub command: &'c ShardCommand,
    /// What the operation under way demands.
    pub condition: Condition,
    /// Group time.
    pub now_ms: u64,
    /// The replicated level under which it is applied.
    level: u32,
    /// What happened so far.
    events: Vec<store::StoredEvent>,
    /// The same for the audit record.
    notes: Vec<Note>,
}

/// What a change has made.
pub(super) struct Made {
    /// The tenant's row, with the new revision if there is one.
    pub tenant: store::Tenant,
    /// What the followers are told.
    pub events: Vec<FeedEvent>,
}

/// What happened to a config, as the event says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Created,
    Versioned,
    Released,
    Updated,
    Deleted,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Created => "created",
            Kind::Versioned => "versioned",
            Kind::Released => "released",
            Kind::Updated => "updated",
            Kind::Deleted => "deleted",
        }
    }
}

/// What happened to an application or an environment, as the event says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopeKind {
    Created,
    Changed,
    Deleted,
}

impl ScopeKind {
    const fn name(self) -> &'static str {
        match self {
            ScopeKind::Created => "scope_created",
            ScopeKind::Changed => "scope_changed",
            ScopeKind::Deleted => "scope_deleted",
        }
    }
}

impl<'c, 'tx> Change<'c, 'tx> {
    /// Begins a write to this tenant.
    pub fn new(tx: &'c mut Tx<'tx>, tenant: store::Tenant, command: &'c ShardCommand, entry: &Entry<'_>) -> Self {
        let condition = Condition::of(command);
        let (now_ms, level) = (entry.stamp_ms, entry.level);
        Self { tx, tenant, command, condition, now_ms, level, events: Vec::new(), notes: Vec::new() }
    }

    /// The one revision of everything that this change does.
    fn revision(&self) -> u64 {
        self.tenant.revision + 1
    }

    /// Refuses the operation if what it demands does not hold of the config as it is.
    pub fn demand(&self, config: Option<&store::Config>) -> Result<(), Stop> {
        if planted::has("blind_swap") {
            return Ok(());
        }
        Ok(precondition::check(self.condition, config)?)
    }

    /// Says in the audit record what was done. [`commit`](Self::commit) does it for changes of a config.
    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Adds to what the audit record says of the last thing done.
    pub fn remark(&mut self, text: &str) {
        if let Some(note) = self.notes.last_mut() {
            note.summary.push_str("; ");
            note.summary.push_str(text);
        }
    }

    /// Gives the whole its revision and its audit record, if anything happened.
    pub fn finish(mut self) -> Made {
        if !self.events.is_empty() {
            self.tenant.revision = self.revision();
            let row = store::StoredRevision { events: self.events.clone() };
            event::put(self.tx, self.tenant.id, self.tenant.revision, &row);
        }
        audit::append(self.tx, &mut self.tenant, self.command, self.now_ms, &self.notes);
        Made { tenant: self.tenant, events: self.events.into_iter().map(query::feed_event).collect() }
    }

    /// The config with this id; NOT_FOUND otherwise.
    pub fn config(&self, id: u64) -> Result<store::Config, Stop> {
        Ok(query::get_config(&*self.tx, &self.tenant, ConfigId(id))?)
    }

    /// A config that is not stored yet, with the next id.
    pub fn new_config(&mut self, app: &str, env: &str, name: &str, format: &str) -> Result<store::Config, Stop> {
        let max = effective(self.tenant.quotas.as_ref()).configs;
        if self.tenant.configs >= max {
            return Err(quota("configs", max, "configs in a tenant"));
        }
        scopes::enter(self, app, env)?;
        self.tenant.configs += 1;
        self.tenant.next_config_id += 1;
        Ok(store::Config {
            id: self.tenant.next_config_id,
            app: app.to_owned(),
            env: env.to_owned(),
            name: name.to_owned(),
            format: format.to_owned(),
            created_ms: self.now_ms,
            created_by: self.command.principal.clone(),
            ..Default::default()
        })
    }

    /// Adds the version and makes it the config's latest. The content must have been checked.
    pub fn add_version(&mut self, config: &mut store::Config, new: &NewVersion<'_>) -> Result<(), Stop> {
        let max = effective(self.tenant.quotas.as_ref()).versions;
        if config.versions >= max {
            return Err(quota("versions", max, "versions kept of a config"));
        }
        let number = config.latest_version + 1;
        self.store_content(new.sha256, new.content)?;
        let row = store::Version {
            number,
            sha256: new.sha256.clone(),
            format: new.format.to_owned(),
            description: new.description.to_owned(),
            created_by: self.command.principal.clone(),
            created_ms: self.now_ms,
            size: new.content.len() as u64,
            media_type: new.media_type.to_owned(),
            schema: new.schema.to_owned(),
        };
        version::put(self.tx, self.tenant.id, config.id, &row);
        config.latest_version = number;
        config.versions += 1;
        self.tenant.versions += 1;
        Ok(())
    }

    /// Sets the config's row; with `new` its name too. No operation sets it by itself.
    pub fn put_config(&mut self, config: &mut store::Config, new: bool) -> Result<(), FatalError> {
        served::renew(&*self.tx, self.tenant.id, config, self.level)?;
        config::put(self.tx, self.tenant.id, config, new);
        Ok(())
    }

    /// Whether the config's latest version is this already: the description is the same, or none is given.
    pub fn is_latest(&self, config: &store::Config, new: &NewVersion<'_>) -> Result<bool, FatalError> {
        let latest = version::get(&*self.tx, self.tenant.id, config.id, config.latest_version)?;
        Ok(latest.is_some_and(|v| {
            v.sha256 == *new.sha256
                && v.format == new.format
                && v.media_type == new.media_type
                && v.schema == new.schema
                && (new.description.is_empty() || v.description == new.description)
        }))
    }

    /// The revision of everything that is done so far, as it is shown.
    pub fn present_mark(&self) -> String {
        let revision = if self.events.is_empty() { self.tenant.revision } else { self.revision() };
        query::mark(&self.tenant, revision).to_string()
    }

    /// Stores a content for one version or draft more, within the tenant's quotas.
    pub fn store_content(&mut self, sha256: &[u8], data: &Bytes) -> Result<(), Stop> {
        let quotas = effective(self.tenant.quotas.as_ref());
        let size = data.len() as u64;
        if size > quotas.config_bytes {
            return Err(content_quota(size, quotas.config_bytes).into());
        }
        // Only what grows is refused: a content that is there already is counted once.
        let grows = content::references(&*self.tx, self.tenant.id, sha256)? == 0;
        if grows && self.tenant.content_bytes + size > quotas.total_bytes {
            return Err(quota("total_bytes", quotas.total_bytes, "bytes of contents in a tenant, each counted once"));
        }
        Ok(content::acquire(self.tx, &mut self.tenant, sha256, data)?)
    }

    /// Settles what was done to a config: its row (none for a deletion, which removes it itself), the event, the answer.
    pub fn commit(
        &mut self,
        kind: Kind,
        mut config: store::Config,
        rules_before: Vec<v1::ReleaseRule>,
        version: u64,
        sha256: &[u8],
    ) -> Result<v1::WriteResponse, FatalError> {
        let revision = self.revision();
        config.revision = revision;
        config.updated_ms = self.now_ms;
        let shown = match version {
            0 => None,
            version => version::get(&*self.tx, self.tenant.id, config.id, version)?,
        };
        self.note(Note {
            target: format!("{}/{}/{}", config.app, config.env, config.name),
            config_id: ConfigId(config.id).to_string(),
            summary: audit::summary(kind.name(), &config, &rules_before, shown.as_ref()),
        });
        if kind != Kind::Deleted {
            self.put_config(&mut config, kind == Kind::Created)?;
        }
        let event = v1::Event {
            revision,
            time_ms: self.now_ms,
            r#type: kind.name().to_owned(),
            app: config.app.clone(),
            env: config.env.clone(),
            name: config.name.clone(),
            config_id: ConfigId(config.id).to_string(),
            version,
            hash: query::shown_hash(sha256),
        };
        let stored = store::StoredEvent { event: Some(event), rules_before, rules_after: config.rules.clone() };
        self.events.push(stored);
        Ok(self.answer(&config, version, sha256, kind == Kind::Created, kind != Kind::Deleted))
    }

    /// Settles what was done to an application or an environment: the event and the answer. Its row is the caller's.
    pub fn commit_scope(
        &mut self,
        kind: ScopeKind,
        app: &str,
        env: Option<&str>,
        description: &str,
    ) -> v1::WriteResponse {
        let event = v1::Event {
            revision: self.revision(),
            time_ms: self.now_ms,
            r#type: kind.name().to_owned(),
            app: app.to_owned(),
            env: env.unwrap_or_default().to_owned(),
            ..Default::default()
        };
        self.events.push(store::StoredEvent { event: Some(event), ..Default::default() });
        let target = env.map_or_else(|| app.to_owned(), |env| format!("{app}/{env}"));
        let said = if description.is_empty() { String::new() } else { format!("; {description:?}") };
        let summary = format!("{}{said}", kind.name());
        self.note(Note { target, config_id: String::new(), summary });
        v1::WriteResponse {
            revision: query::mark(&self.tenant, self.revision()).to_string(),
            created: kind == ScopeKind::Created,
            epoch: self.tenant.epoch,
            ..Default::default()
        }
    }

    /// The answer of a write that left an application or environment as it is.
    pub fn unchanged_scope(&self) -> v1::WriteResponse {
        let revision = query::mark(&self.tenant, self.tenant.revision).to_string();
        v1::WriteResponse { revision, epoch: self.tenant.epoch, ..Default::default() }
    }

    /// The answer of a write that left the config as it is: nothing to do.
    pub fn unchanged(&self, config: &store::Config, version: u64, sha256: &[u8]) -> v1::WriteResponse {
        self.answer(config, version, sha256, false, true)
    }

    fn answer(
        &self,
        config: &store::Config,
        version: u64,
        sha256: &[u8],
        created: bool,
        exists: bool,
    ) -> v1::WriteResponse {
        v1::WriteResponse {
            config_id: ConfigId(config.id).to_string(),
            version,
            revision: query::mark(&self.tenant, config.revision).to_string(),
            etag: if exists { query::etag(&self.tenant, config.revision) } else { String::new() },
            created,
            hash: query::shown_hash(sha256),
            epoch: self.tenant.epoch,
            ..Default::default()
        }
    }
}

/// A content beyond the tenant's quota: 413, since a repetition cannot help.
pub(crate) fn content_quota(size: u64, max: u64) -> ApiError {
    let text = format!("quota config_bytes: the content has {size} bytes, at most {max} are allowed in this tenant");
    ApiError::too_large(text)
        .with_detail("quota.config_bytes", format!("at most {max} bytes; an operator can raise it"))
}
