//! Export and import of an application or environment as an archive.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    grant::Action,
    ids::{AppName, EnvName, RevisionMark},
};
use conflux_proto::{
    log::{self, Step, step::Op},
    release::from_wire,
    store, v1,
};
use conflux_raft::View;
use sha2::{Digest, Sha256};

use super::{
    Sent,
    changesets::apply,
    steps::{self, Present, Wanted},
};
use crate::{
    archive::{self, Archive, ArchiveError, Entry, FORMAT, Kept, Manifest, Opened, bounds},
    query::{self, Released, TenantRow},
    serve::{
        call::Call,
        conditions::{Demand, Level},
        reading::{Stamp, Weight, read},
    },
    shard::Shard,
};

/// What is exported. Empty parts select all; `prefix` is of names.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The application.
    pub app: String,
    /// The environment.
    pub env: String,
    /// How names begin.
    pub prefix: String,
}

/// An archive of what the caller may read.
pub async fn export(
    shard: &Arc<Shard>,
    call: &Call,
    selection: Selection,
    demand: Demand,
) -> Result<(Stamp, Bytes), ApiError> {
    // The archive itself and one content; the contents are read one by one.
    let room = shard.room_for(bounds::ARCHIVE * 2)?;
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| export_of(view, row, &caller, &selection);
    let (at, bytes) = read(shard, call, demand, Weight::Scan, from).await?;
    drop(room);
    Ok((at, bytes))
}

fn export_of(view: &View<'_>, row: &TenantRow, call: &Call, selection: &Selection) -> Result<Bytes, ApiError> {
    let visible = |app: &str, env: &str, name: &str| {
        name.starts_with(&selection.prefix) && call.may(Action::Read, app, env, name)
    };
    let found = query::released(view, row, &selection.app, &selection.env, &visible)?;
    let mut writer = archive::Writer::default();
    let mut configs = Vec::with_capacity(found.len());
    for released in &found {
        let entry = entry_of(released)?;
        if let (Some(file), Some(content)) = (&entry.file, released.content(view, row)?) {
            writer.add(file, &content).map_err(too_much)?;
        }
        configs.push(entry);
    }
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let manifest = Manifest {
        format_version: FORMAT,
        app: given(&selection.app),
        env: given(&selection.env),
        revision: query::mark(row, row.revision).to_string(),
        configs,
    };
    writer.finish(&manifest).map_err(too_much)
}

/// What to do about an archive that nobody could import.
fn too_much(error: ArchiveError) -> ApiError {
    let mut refused = ApiError::from(error);
    refused.message = format!(
        "{}: export less at once, by `env=` or, within one environment, by `prefix=` of the names",
        refused.message
    );
    refused
}

fn entry_of(released: &Released) -> Result<Entry, ApiError> {
    let Released { config: c, version, released } = released;
    let rules = c.rules.iter().map(from_wire).collect::<Result<Vec<_>, _>>()?;
    let default = conflux_common::release::default_rule(&rules).cloned();
    let kept = c.retention.unwrap_or_default();
    Ok(Entry {
        file: version.as_ref().map(|_| Entry::file_of(&c.app, &c.env, &c.name)),
        format: version.as_ref().map_or_else(|| c.format.clone(), |v| v.format.clone()),
        description: c.description.clone(),
        tags: c.tags.clone(),
        schema: c.schema.clone(),
        retention: Kept { max_versions: kept.max_versions, max_age_days: kept.max_age_days },
        version: version.as_ref().map_or(0, |v| v.number),
        sha256: version.as_ref().map(|v| hex::encode(&v.sha256)).unwrap_or_default(),
        released: *released,
        rules: default.into_iter().collect(),
        app: c.app.clone(),
        env: c.env.clone(),
        name: c.name.clone(),
    })
}

/// Where an archive is put.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// In place of the archive's own application; none: as the archive says.
    pub app: Option<AppName>,
    /// In place of the archive's own environment.
    pub env: Option<EnvName>,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// What became of a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// Its content, release or record is another.
    Changed,
    /// It was like that already.
    Unchanged,
}

/// A config of an import.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Its application.
    pub app: String,
    /// Its environment.
    pub env: String,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// Puts what is in an archive in place: in changesets, each all or nothing. The same archive again changes nothing, so that one
/// that was interrupted is simply done again.
pub async fn import(shard: &Arc<Shard>, call: &Call, bytes: Bytes, to: Destination) -> Result<Vec<Imported>, ApiError> {
    let opened = blocking(move || Ok(Opened::open(bytes)?)).await?;
    let _room = shard.room_for(usize::try_from(opened.unpacked()).unwrap_or(usize::MAX))?;
    let archive = blocking(move || Ok(opened.read()?)).await?;
    let wanted = wanted(archive, &to)?;
    for asked in &wanted {
        let actions = if asked.entry.released { &[Action::Write, Action::Publish][..] } else { &[Action::Write][..] };
        call.require(actions, &asked.entry.app, &asked.entry.env, &asked.entry.name)?;
        if let Some(content) = &asked.content {
            check(asked, content).await?;
        }
    }
    let wanted = Arc::new(wanted);
    let planned = plan(shard, call, wanted.clone()).await?;
    if !to.dry_run {
        carry_out(shard, call, &planned).await?;
    }
    let imported = planned.into_iter().map(|p| {
        let entry = &wanted[p.index].entry;
        Imported { app: entry.app.clone(), env: entry.env.clone(), name: entry.name.clone(), outcome: p.outcome }
    });
    Ok(imported.collect())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let task = conflux_common::blocking::spawn_blocking(work);
    task.await.map_err(|e| ApiError::new(Code::Internal, format!("reading the archive failed: {e}")))?
}

/// A config as the archive has it, where it is to be put.
struct Asked {
    entry: Entry,
    content: Option<Bytes>,
}

fn wanted(archive: Archive, to: &Destination) -> Result<Vec<Asked>, ApiError> {
    let Archive { manifest, contents } = archive;
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    let mut wanted = Vec::with_capacity(contents.len());
    for (mut entry, content) in manifest.configs.into_iter().zip(contents) {
        let before = entry.place();
        if let Some(app) = &to.app {
            entry.app = app.to_string();
        }
        if let Some(env) = &to.env {
            entry.env = env.to_string();
        }
        if let Some(other) = places.insert(entry.place(), before.clone()) {
            let why = format!(
                "{other} and {before} of the archive would both become {}: leave out `app` or `env`, or export one of them",
                entry.place()
            );
            return Err(ApiError::invalid("env", why));
        }
        wanted.push(Asked { entry, content });
    }
    Ok(wanted)
}

/// Syntax, schema and bounds, with the config's place in the error.
async fn check(asked: &Asked, content: &Bytes) -> Result<(), ApiError> {
    let sent = Sent { content: content.clone(), format: asked.entry.format.clone(), ..Default::default() };
    let checked = sent.check(&asked.entry.name, &asked.entry.schema).await;
    checked.map(drop).map_err(|e| ApiError { message: format!("{}: {}", asked.entry.place(), e.message), ..e })
}

/// What is to be done for one config.
struct Planned {
    index: usize,
    outcome: Outcome,
    /// Makes it, or changes its record; what it answers says how to go on.
    record: Option<Step>,
    /// Releases its content.
    release: Option<Step>,
}

async fn plan(shard: &Arc<Shard>, call: &Call, wanted: Arc<Vec<Asked>>) -> Result<Vec<Planned>, ApiError> {
    let from = move |view: &View<'_>, row: &TenantRow| {
        let each = |(index, asked)| plan_one(view, row, index, asked);
        wanted.iter().enumerate().map(each).collect::<Result<Vec<_>, ApiError>>()
    };
    Ok(read(shard, call, Demand::at(Level::Linearizable), Weight::Scan, from).await?.1)
}

fn plan_one(view: &View<'_>, row: &TenantRow, index: usize, asked: &Asked) -> Result<Planned, ApiError> {
    let entry = &asked.entry;
    let present = Present::find(view, row, &entry.app, &entry.env, &entry.name)?;
    let content = asked.content.as_ref().map(|content| wanted_of(entry, content));
    let Some(present) = present else {
        let record = Some(create(entry, content.as_ref()));
        // Its first version: there is none before it.
        let release = content
            .filter(|_| entry.released)
            .map(|_| Step { op: Some(Op::Rollback(log::Rollback { config_id: 0, version: 1 })), ..Default::default() });
        return Ok(Planned { index, outcome: Outcome::Created, record, release });
    };
    let mut record = update(entry, &present.config);
    let mut release = None;
    match content {
        Some(content) if entry.released => release = steps::release(&content, Some(&present)),
        // One change for a config in a changeset: the version comes in the second.
        Some(content) => release = steps::add(&content, &present),
        None => {}
    }
    if record.is_none() {
        record = release.take();
    }
    let outcome = if record.is_some() { Outcome::Changed } else { Outcome::Unchanged };
    Ok(Planned { index, outcome, record, release })
}

fn wanted_of(entry: &Entry, content: &Bytes) -> Wanted {
    Wanted {
        app: entry.app.clone(),
        env: entry.env.clone(),
        name: entry.name.clone(),
        format: entry.format.clone(),
        media_type: String::new(),
        content: content.clone(),
        sha256: Bytes::from(Sha256::digest(content).to_vec()),
        description: String::new(),
    }
}

fn retention(kept: Kept) -> v1::Retention {
    v1::Retention { max_versions: kept.max_versions, max_age_days: kept.max_age_days }
}

fn create(entry: &Entry, content: Option<&Wanted>) -> Step {
    let op = Op::CreateConfig(log::CreateConfig {
        app: entry.app.clone(),
        env: entry.env.clone(),
        name: entry.name.clone(),
        format: entry.format.clone(),
        content: content.map(|c| c.content.clone()).unwrap_or_default(),
        sha256: content.map(|c| c.sha256.clone()).unwrap_or_default(),
        description: entry.description.clone(),
        tags: entry.tags.clone(),
        schema: entry.schema.clone(),
        retention: Some(retention(entry.retention)),
    });
    Step { if_absent: true, op: Some(op), ..Default::default() }
}

/// The record as the archive has it; none: it is so already.
fn update(entry: &Entry, config: &store::Config) -> Option<Step> {
    let mut tags = entry.tags.clone();
    tags.sort();
    tags.dedup();
    let kept = config.retention.unwrap_or_default();
    let same = entry.description == config.description
        && tags == config.tags
        && entry.schema == config.schema
        && retention(entry.retention) == kept;
    if same {
        return None;
    }
    let op = Op::UpdateConfig(log::UpdateConfig {
        config_id: config.id,
        description: Some(entry.description.clone()),
        tags,
        set_tags: true,
        schema: Some(entry.schema.clone()),
        retention: Some(retention(entry.retention)),
    });
    Some(Step { if_match: config.revision, op: Some(op), ..Default::default() })
}

/// First the records, then the releases, since one changeset has one change for a config.
async fn carry_out(shard: &Arc<Shard>, call: &Call, planned: &[Planned]) -> Result<(), ApiError> {
    let records: Vec<(usize, Step)> =
        planned.iter().enumerate().filter_map(|(i, p)| Some((i, p.record.clone()?))).collect();
    let mut made: BTreeMap<usize, v1::WriteResponse> = BTreeMap::new();
    for part in parts(records) {
        let (places, steps): (Vec<usize>, Vec<Step>) = part.into_iter().unzip();
        let answer = apply(shard, call, "import", steps).await.map_err(again)?;
        made.extend(places.into_iter().zip(answer.results));
    }
    let mut releases = Vec::new();
    for (i, step) in planned.iter().enumerate().filter_map(|(i, p)| Some((i, p.release.clone()?))) {
        let Some(made) = made.get(&i) else { continue };
        releases.push((i, follow(step, made)?));
    }
    for part in parts(releases) {
        let steps = part.into_iter().map(|(_, step)| step).collect();
        apply(shard, call, "import", steps).await.map_err(again)?;
    }
    Ok(())
}

/// The second step of a config demands what the first one made.
fn follow(mut step: Step, made: &v1::WriteResponse) -> Result<Step, ApiError> {
    let unreadable = || ApiError::new(Code::Internal, "apply answered without an ETag").outcome_unknown();
    let mark: RevisionMark = made.etag.trim_matches('"').parse().map_err(|_| unreadable())?;
    step.if_match = mark.revision.0;
    if let Some(Op::Rollback(op)) = &mut step.op
        && op.config_id == 0
    {
        op.config_id = made.config_id.parse::<conflux_common::ids::ConfigId>().map_err(|_| unreadable())?.0;
    }
    Ok(step)
}

/// Parts that fit into a changeset each.
fn parts(steps: Vec<(usize, Step)>) -> Vec<Vec<(usize, Step)>> {
    let mut parts: Vec<Vec<(usize, Step)>> = Vec::new();
    let mut bytes = 0;
    for (i, step) in steps {
        let size = steps::content_bytes(&step);
        match parts.last_mut() {
            Some(open) if open.len() < super::changesets::MAX_STEPS && bytes + size <= super::changesets::MAX_BYTES => {
                bytes += size;
                open.push((i, step));
            }
            _ => {
                bytes = size;
                parts.push(vec![(i, step)]);
            }
        }
    }
    parts
}

/// An import that another write came between is simply done again.
fn again(error: ApiError) -> ApiError {
    match error.code {
        Code::FailedPrecondition | Code::AlreadyExists => ApiError {
            message: format!(
                "something was changed during the import: import again, what is in place already stays ({})",
                error.message
            ),
            ..error
        },
        _ => error,
    }
}
