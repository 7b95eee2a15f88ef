//! Two environments of an application: what differs, and bringing it from one to the other.

use std::{collections::BTreeMap, sync::Arc};

use axum::{body::Body, extract::State, response::Response};
use conflux_common::{
    error::{ApiError, FieldProblem},
    ids::RevisionMark,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{asked::Asked, params::Demanded};
use crate::{
    query::shown_hash,
    serve::{
        admission::Refused,
        answer, body,
        conditions::Level,
        managing::{self, Compared, Pair, Promoted, Promotion, Relation, Side},
    },
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(compare)).routes(routes!(promote))
}

/// How the configs of two environments are to each other.
#[derive(Debug, Serialize, ToSchema)]
pub struct Comparison {
    app: String,
    from: String,
    to: String,
    /// By name.
    configs: Vec<ComparedConfig>,
}

/// A config of either environment.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComparedConfig {
    name: String,
    /// `same`, `differs`, `only_in_from` or `only_in_to`: of what is released by default.
    relation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<ComparedSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<ComparedSide>,
    /// From `to` as it is to `to` as a promotion would make it, as a unified diff. Absent where nothing differs, where the
    /// contents are no text, and beyond 8 MiB of contents in one answer; at most 256 KiB of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// A config in one of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComparedSide {
    config_id: String,
    /// What is released by default, else the latest; 0: there is none.
    version: u64,
    hash: String,
    format: String,
    /// Whether that version is released by default.
    released: bool,
    /// The config's ETag.
    etag: String,
}

impl From<&Side> for ComparedSide {
    fn from(side: &Side) -> Self {
        let version = side.version.as_ref();
        Self {
            config_id: side.config.id.clone(),
            version: version.map_or(0, |v| v.number),
            hash: version.map(|v| shown_hash(&v.sha256)).unwrap_or_default(),
            format: version.map_or_else(|| side.config.format.clone(), |v| v.format.clone()),
            released: side.released,
            etag: side.config.etag.clone(),
        }
    }
}

/// Bytes of diffs in one answer.
const MAX_DIFFS: usize = 2 << 20;

fn compared(found: &[Compared]) -> Vec<ComparedConfig> {
    let mut left = MAX_DIFFS;
    let shape = |c: &Compared| {
        let diff = diff_of(c).filter(|diff| diff.len() <= left);
        left -= diff.as_ref().map_or(0, String::len);
        ComparedConfig {
            name: c.name.clone(),
            relation: match c.relation {
                Relation::Same => "same",
                Relation::Differs => "differs",
                Relation::OnlyFrom => "only_in_from",
                Relation::OnlyTo => "only_in_to",
            },
            from: c.from.as_ref().map(ComparedSide::from),
            to: c.to.as_ref().map(ComparedSide::from),
            diff,
        }
    };
    found.iter().map(shape).collect()
}

/// What a promotion would change in the content.
fn diff_of(compared: &Compared) -> Option<String> {
    if matches!(compared.relation, Relation::Same | Relation::OnlyTo) {
        return None;
    }
    let text = |side: &Side| String::from_utf8(side.content.as_ref()?.to_vec()).ok();
    let new = text(compared.from.as_ref().filter(|side| side.released)?)?;
    let old = match &compared.to {
        None => String::new(),
        // What is there but not released by default is not what a promotion is compared with.
        Some(side) if !side.released => String::new(),
        Some(side) => text(side)?,
    };
    Some(crate::diff::text(("as it is", &old), ("promoted", &new)).text)
}

/// Compare two environments of an application.
///
/// By what is released by default, of the configs that the caller may read in each. The diffs show what a promotion would change.
#[utoipa::path(
    get, path = "/compare", tag = "environments",
    params(
        ("app" = String, Query, description = "The application."),
        ("from" = String, Query, description = "The environment that things come from."),
        ("to" = String, Query, description = "The environment that they would go to."),
        Demanded
    ),
    responses((status = 200, description = "Each config of either.", body = Comparison))
)]
async fn compare(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let (app, from, to) = (asked.param("app"), asked.param("from"), asked.param("to"));
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let pair = pair(&app, &from, &to)?;
    let (at, found) = managing::compare(&shard, &asked.call, pair, demand).await?;
    let work = move || Comparison { app, from, to, configs: compared(&found) };
    let comparison = conflux_common::blocking::spawn_blocking(work)
        .await
        .map_err(|e| ApiError::new(conflux_common::error::Code::Internal, format!("comparing failed: {e}")))?;
    Ok(answer::json(&at, &comparison))
}

fn pair(app: &str, from: &str, to: &str) -> Result<Pair, ApiError> {
    let named = |field: &'static str, text: &str| match text {
        "" => Err(ApiError::invalid(field, "missing")),
        _ => Ok(()),
    };
    named("app", app)?;
    named("from", from)?;
    named("to", to)?;
    Ok(Pair { app: app.parse()?, from: from.parse()?, to: to.parse()? })
}

/// What is to be promoted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPromotion {
    app: String,
    from: String,
    to: String,
    /// These configs only; absent: all that are released by default in `from` and may be read there.
    names: Option<Vec<String>>,
    /// Of the versions that are made.
    description: Option<String>,
    /// The ETag in `to` of each config that was compared, by its name; an empty one: it was not there. A config that is another now
    /// is not overwritten: 412.
    expected: Option<BTreeMap<String, String>>,
    /// Only say what would be done.
    dry_run: Option<bool>,
}

/// What was promoted, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub struct PromotionReport {
    app: String,
    from: String,
    to: String,
    /// Those that are not the same already.
    promoted: Vec<PromotedConfig>,
    /// Of the one change that it was; absent: nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    dry_run: bool,
}

/// A config that was, or would be, promoted.
#[derive(Debug, Serialize, ToSchema)]
pub struct PromotedConfig {
    name: String,
    from_version: u64,
    /// Absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_version: Option<u64>,
    /// It is new in `to`.
    created: bool,
    /// In a dry run: what is against the schema of the config in `to`. With any, a promotion is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<FieldProblem>,
}

impl From<Promotion> for PromotedConfig {
    fn from(p: Promotion) -> Self {
        let to_version = (p.to_version > 0).then_some(p.to_version);
        Self { name: p.name, from_version: p.from_version, to_version, created: p.created, violations: p.violations }
    }
}

/// Promote what is released in one environment to another.
///
/// Puts the contents that are released by default in `from` into `to`, and releases them there by default: one change, all or nothing.
/// Rules with labels or a share stay as they are in `to`. Needs `read` in `from`, `write` and `publish` in `to`. At most 100 configs
/// and 4 MiB at once. Each content is held against the schema that its config has in `to`: a dry run tells what is against it, a promotion is
/// refused then.
#[utoipa::path(
    post, path = "/promote", tag = "environments", request_body = NewPromotion,
    responses((status = 200, description = "What was done.", body = PromotionReport))
)]
async fn promote(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let (new, _room) = body::read::<NewPromotion>(&shard, &asked.call, &asked.headers, body).await?;
    let dry_run = new.dry_run.unwrap_or(false);
    let pair = pair(&new.app, &new.from, &new.to)?;
    let names = new.names.unwrap_or_default();
    let names = names.iter().enumerate().map(|(i, name)| {
        name.parse()
            .map_err(|e: conflux_common::ids::InvalidName| ApiError::invalid(format!("names[{i}]"), e.to_string()))
    });
    let seen =
        new.expected.unwrap_or_default().into_iter().map(|(name, etag)| Ok((name.clone(), revision(&name, &etag)?)));
    let wish = Promoted {
        pair,
        names: names.collect::<Result<_, _>>()?,
        description: new.description.unwrap_or_default(),
        seen: seen.collect::<Result<_, ApiError>>()?,
        dry_run,
    };
    let (made, promoted) = managing::promote(&shard, &asked.call, wish).await?;
    let report = PromotionReport {
        app: new.app,
        from: new.from,
        to: new.to,
        promoted: promoted.into_iter().map(PromotedConfig::from).collect(),
        revision: made.map(|made| made.revision),
        dry_run,
    };
    Ok(answer::plain(StatusCode::OK, &report))
}

/// The revision in an ETag; 0 for none.
fn revision(name: &str, etag: &str) -> Result<u64, ApiError> {
    if etag.is_empty() {
        return Ok(0);
    }
    let mark: Option<RevisionMark> = etag.trim_matches('"').parse().ok();
    mark.map(|mark| mark.revision.0)
        .ok_or_else(|| ApiError::invalid(format!("expected.{name}"), "an ETag, as /compare shows it"))
}
