//! Comparing two environments of an application, and bringing what is released in one into the other.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code, FieldProblem},
    grant::Action,
    ids::{AppName, ConfigName, EnvName},
};
use conflux_proto::{store, v1};
use conflux_raft::View;

use super::{
    changesets::{MAX_BYTES, MAX_STEPS, apply},
    content::off_runtime,
    steps::{self, Present, Wanted},
};
use crate::{
    format::Format,
    query::{self, Released, TenantRow},
    schema::{self, MAX_VIOLATIONS},
    serve::{
        call::Call,
        conditions::{Demand, Level},
        reading::{Stamp, Weight, read},
    },
    shard::Shard,
};

/// Two environments of an application.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The application.
    pub app: AppName,
    /// Where things come from.
    pub from: EnvName,
    /// Where they are to go.
    pub to: EnvName,
}

/// How a config of one environment is to that of the same name in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same content in the same format is released by default.
    Same,
    /// Another is.
    Differs,
    /// It is, or has a default release, only where things come from.
    OnlyFrom,
    /// Only where they would go.
    OnlyTo,
}

/// A config in one of the environments.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// Its id, format, ..
    pub config: v1::Config,
    /// What is released by default, else the latest; none: there is no version.
    pub version: Option<store::Version>,
    /// Whether that is released by default.
    pub released: bool,
    /// Its content.
    pub content: Option<Bytes>,
}

/// A config of either environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// How they are to each other.
    pub relation: Relation,
    /// Where things come from.
    pub from: Option<Side>,
    /// Where they would go.
    pub to: Option<Side>,
}

/// Bytes of contents that one comparison reads. Beyond them it says which differ, but not how.
const MAX_CONTENTS: usize = 8 << 20;

/// Compares what is released by default. Contents are there of those that are not the same, as far as there is room for them.
pub async fn compare(
    shard: &Arc<Shard>,
    call: &Call,
    pair: Pair,
    demand: Demand,
) -> Result<(Stamp, Vec<Compared>), ApiError> {
    if pair.from == pair.to {
        return Err(ApiError::invalid("to", "the environment that it is compared with is the same: name another"));
    }
    let room = shard.room_for(MAX_CONTENTS)?;
    let caller = call.clone();
    let look = move |view: &View<'_>, row: &TenantRow| compare_in(view, row, &caller, &pair);
    let found = read(shard, call, demand, Weight::Scan, look).await?;
    drop(room);
    Ok(found)
}

fn compare_in(view: &View<'_>, row: &TenantRow, call: &Call, pair: &Pair) -> Result<Vec<Compared>, ApiError> {
    let mut found: BTreeMap<String, (Option<Released>, Option<Released>)> = BTreeMap::new();
    let readable = |app: &str, env: &str, name: &str| call.may(Action::Read, app, env, name);
    for released in query::released(view, row, pair.app.as_str(), pair.from.as_str(), &readable)? {
        let name = released.config.name.clone();
        found.entry(name).or_default().0 = Some(released);
    }
    for released in query::released(view, row, pair.app.as_str(), pair.to.as_str(), &readable)? {
        let name = released.config.name.clone();
        found.entry(name).or_default().1 = Some(released);
    }
    let mut left = MAX_CONTENTS;
    let mut side = |released: Option<Released>, with_content: bool| {
        let Some(released) = released else { return Ok::<_, ApiError>(None) };
        let size = released.version.as_ref().map_or(0, |v| v.size as usize);
        let content = match with_content && size <= left {
            true => released.content(view, row)?,
            false => None,
        };
        left -= content.as_ref().map_or(0, |c| c.len().min(left));
        let Released { config, version, released } = released;
        Ok(Some(Side { config: query::shown_config(row, config), version, released, content }))
    };
    let compared = found.into_iter().map(|(name, (from, to))| {
        let relation = relation(from.as_ref(), to.as_ref());
        let with_content = relation != Relation::Same;
        Ok(Compared { name, relation, from: side(from, with_content)?, to: side(to, with_content)? })
    });
    compared.collect()
}

fn relation(from: Option<&Released>, to: Option<&Released>) -> Relation {
    let default = |side: Option<&Released>| side.filter(|r| r.released).and_then(|r| r.version.clone());
    match (default(from), default(to)) {
        (Some(a), Some(b)) if a.sha256 == b.sha256 && a.format == b.format && a.media_type == b.media_type => {
            Relation::Same
        }
        (Some(_), Some(_)) => Relation::Differs,
        (Some(_), None) => Relation::OnlyFrom,
        (None, Some(_)) => Relation::OnlyTo,
        // Neither is released by default: nothing would be promoted.
        (None, None) if from.is_some() && to.is_some() => Relation::Same,
        (None, None) if from.is_some() => Relation::OnlyFrom,
        (None, None) => Relation::OnlyTo,
    }
}

/// What is promoted.
#[derive(Debug, Clone)]
pub struct Promoted {
    /// The environments.
    pub pair: Pair,
    /// These configs only; empty: all that are released by default where things come from.
    pub names: Vec<ConfigName>,
    /// Of the changeset and its versions.
    pub description: String,
    /// What a comparison showed of each config where they go, by its name: its ETag's revision, 0 where it was not there.
    /// A config that is another now is not overwritten. Empty: as it is now.
    pub seen: BTreeMap<String, u64>,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// A config that was, or would be, promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// Its name.
    pub name: String,
    /// The version that was released where it comes from.
    pub from_version: u64,
    /// Whether it is new where it goes.
    pub created: bool,
    /// The version there; 0 in a dry run.
    pub to_version: u64,
    /// What in the content is against the schema of the config that it would go to. With any, nothing is promoted.
    pub violations: Vec<FieldProblem>,
}

/// Puts the contents that are released by default in one environment into the other: one changeset, all or nothing. Rules with
/// labels or a share stay as they are there. Answers the revision (none: nothing was to be done) and what was done.
pub async fn promote(
    shard: &Arc<Shard>,
    call: &Call,
    asked: Promoted,
) -> Result<(Option<v1::ChangesetResponse>, Vec<Promotion>), ApiError> {
    if asked.pair.from == asked.pair.to {
        return Err(ApiError::invalid("to", "the environment that it is promoted to is the same: name another"));
    }
    let _room = shard.room_for(MAX_BYTES)?;
    let (caller, asked) = (call.clone(), Arc::new(asked));
    let wish = asked.clone();
    let look = move |view: &View<'_>, row: &TenantRow| plan(view, row, &caller, &wish);
    let demand = Demand::at(Level::Linearizable);
    let planned = read(shard, call, demand, Weight::Scan, look).await?.1;
    let (steps, mut promotions): (Vec<_>, Vec<_>) =
        off_runtime(move || Ok(checked(planned))).await?.into_iter().unzip();
    if steps.is_empty() || asked.dry_run {
        return Ok((None, promotions));
    }
    if let Some(error) = refusal(&promotions) {
        return Err(error);
    }
    let description = match asked.description.as_str() {
        "" => format!("promoted from {}", asked.pair.from),
        given => given.to_owned(),
    };
    let answer = apply(shard, call, &description, steps).await?;
    for (promotion, made) in promotions.iter_mut().zip(&answer.results) {
        promotion.to_version = made.version;
    }
    Ok((Some(answer), promotions))
}

/// What is to be done for one config.
struct Planned {
    step: conflux_proto::log::Step,
    promotion: Promotion,
    wanted: Wanted,
    /// Of the config where it goes; empty: none.
    schema: String,
}

/// Holds each content against the schema where it goes. That schema stays: each step demands its config as it was planned.
fn checked(planned: Vec<Planned>) -> Vec<(conflux_proto::log::Step, Promotion)> {
    let check = |planned: Planned| {
        let Planned { step, promotion, wanted, schema } = planned;
        // A format that this binary knows no more is checked by nothing.
        let format = Format::from_name(&wanted.format).unwrap_or(Format::Binary);
        let violations = match schema::check_content(format, &wanted.content, &schema) {
            Ok(()) => Vec::new(),
            Err(e) if e.details.is_empty() => vec![FieldProblem { field: "content".into(), description: e.message }],
            Err(e) => e.details,
        };
        (step, Promotion { violations, ..promotion })
    };
    planned.into_iter().map(check).collect()
}

/// Every violation, its field below the config's name; none: everything fits.
fn refusal(promotions: &[Promotion]) -> Option<ApiError> {
    let wrong: Vec<&Promotion> = promotions.iter().filter(|p| !p.violations.is_empty()).collect();
    let first = wrong.first()?;
    let more = if wrong.len() > 1 { format!(" (and {} configs more)", wrong.len() - 1) } else { String::new() };
    let FieldProblem { field, description } = first.violations.first()?;
    let why = format!("{} does not fit the schema where it would go: {field}: {description}{more}", first.name);
    let all =
        wrong.iter().flat_map(|p| p.violations.iter().map(|v| (format!("{}.{}", p.name, v.field), &v.description)));
    let error = ApiError::new(Code::InvalidArgument, why);
    Some(all.take(MAX_VIOLATIONS).fold(error, |error, (field, description)| error.with_detail(field, description)))
}

fn plan(view: &View<'_>, row: &TenantRow, call: &Call, asked: &Promoted) -> Result<Vec<Planned>, ApiError> {
    let Pair { app, from, to } = &asked.pair;
    let sources = sources(view, row, call, asked)?;
    let (mut planned, mut bytes) = (Vec::new(), 0);
    for source in sources {
        let name = source.config.name.clone();
        call.require(&[Action::Read], app.as_str(), from.as_str(), &name)?;
        call.require(&[Action::Write, Action::Publish], app.as_str(), to.as_str(), &name)?;
        let present = Present::find(view, row, app.as_str(), to.as_str(), &name)?;
        if let Some(seen) = asked.seen.get(&name) {
            let now = present.as_ref().map_or(0, |p| p.config.revision);
            if now != *seen {
                let why = format!("{app}/{to}/{name} was changed since it was compared: compare again");
                return Err(ApiError::new(Code::FailedPrecondition, why));
            }
        }
        let Some(version) = &source.version else { continue };
        // Only what is not there yet is read.
        let same = present.as_ref().and_then(|p| p.default.as_ref()).is_some_and(|there| {
            there.sha256 == version.sha256 && there.format == version.format && there.media_type == version.media_type
        });
        if same {
            continue;
        }
        let wanted = Wanted {
            app: app.to_string(),
            env: to.to_string(),
            name: name.clone(),
            format: version.format.clone(),
            media_type: version.media_type.clone(),
            content: source.content(view, row)?.unwrap_or_default(),
            sha256: version.sha256.clone(),
            description: match asked.description.as_str() {
                "" => format!("promoted from {from}, version {}", version.number),
                given => given.to_owned(),
            },
        };
        let created = present.is_none();
        if let Some(step) = steps::release(&wanted, present.as_ref()) {
            bytes += steps::content_bytes(&step);
            let schema = present.as_ref().map(|p| p.config.schema.clone()).unwrap_or_default();
            let from_version = version.number;
            let promotion = Promotion { name, from_version, created, to_version: 0, violations: Vec::new() };
            planned.push(Planned { step, promotion, wanted, schema });
        }
        if planned.len() > MAX_STEPS || bytes > MAX_BYTES {
            let why = format!(
                "more than {MAX_STEPS} configs or {} MiB would change at once: promote them in parts, with `names`",
                MAX_BYTES >> 20
            );
            return Err(ApiError::invalid("names", why));
        }
    }
    Ok(planned)
}

/// The configs to promote: those that are named, else all that are released by default and may be read.
fn sources(view: &View<'_>, row: &TenantRow, call: &Call, asked: &Promoted) -> Result<Vec<Released>, ApiError> {
    let Pair { app, from, .. } = &asked.pair;
    if asked.names.is_empty() {
        let readable = |app: &str, env: &str, name: &str| call.may(Action::Read, app, env, name);
        let all = query::released(view, row, app.as_str(), from.as_str(), &readable)?;
        return Ok(all.into_iter().filter(|source| source.released).collect());
    }
    let named = asked.names.iter().enumerate().map(|(i, name)| {
        // One that the caller may not read is, to him, not there.
        call.require(&[Action::Read], app.as_str(), from.as_str(), name.as_str())?;
        let config = query::config_by_name(view, row, app.as_str(), from.as_str(), name.as_str())?;
        let source = Released::of(view, row, config)?;
        match source.released {
            true => Ok(source),
            false => {
                Err(ApiError::invalid(format!("names[{i}]"), format!("{app}/{from}/{name} has no default release")))
            }
        }
    });
    named.collect()
}
