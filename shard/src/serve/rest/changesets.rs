//! Changesets: several writes, all or nothing.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use conflux_common::{error::ApiError, ids::ConfigId, release::ReleaseRule};
use conflux_proto::v1;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    configs::UpdateStep,
    publishing::{PublicationAsked, PublishStep},
    shown::Written,
};
use crate::{
    serve::{
        admission::Refused,
        answer, body,
        conditions::Conditions,
        managing::{self, Place, Planned, Sent},
    },
    shard::Shard,
};

/// Bytes of a changeset's body: what one entry of the log holds.
const MAX_BODY: usize = 4 << 20;

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(apply))
}

/// Several changes, all or nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangesetAsked {
    description: Option<String>,
    /// In this order; each of another config.
    #[schema(min_items = 1, max_items = 100)]
    changes: Vec<ChangeAsked>,
}

/// One change: exactly one of put, publish, rollback, releases, update, delete.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAsked {
    /// Only if the config's ETag is still this one.
    if_match: Option<String>,
    /// Only if the config does not exist.
    if_absent: Option<bool>,
    put: Option<FileAsked>,
    publish: Option<PublishStep>,
    rollback: Option<RollbackStep>,
    releases: Option<ReleasesStep>,
    update: Option<UpdateStep>,
    delete: Option<DeleteStep>,
}

/// A file to put, as the one-step PUT does it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileAsked {
    app: String,
    env: String,
    name: String,
    /// The content, as text.
    content: Option<String>,
    /// The same in base64; send one of them.
    content_base64: Option<String>,
    /// Else by the end of the name, or the content.
    format: Option<String>,
    description: Option<String>,
}

/// Roll back, as `POST /configs/{id}/rollback` does it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackStep {
    id: String,
    version: Option<u64>,
}

/// Replace the rules, as `PUT /configs/{id}/releases` does it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasesStep {
    id: String,
    #[schema(max_items = 100)]
    rules: Vec<ReleaseRule>,
}

/// Delete a config.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteStep {
    id: String,
}

/// What a changeset made.
#[derive(Debug, Serialize, ToSchema)]
pub struct Applied {
    /// The tenant's revision, of all changes together.
    revision: String,
    epoch: u64,
    /// For each change what it made.
    results: Vec<Written>,
}

/// Apply a changeset: several changes, all or nothing, under one revision.
///
/// At most 100 changes and 4 MiB. Each names another config and may have a condition of its own. Fields of errors begin with
/// `changes[i]`. Each change needs what it would need alone.
#[utoipa::path(
    post, path = "/changesets", tag = "changesets", request_body = ChangesetAsked,
    responses((status = 200, description = "All of it is done.", body = Applied))
)]
async fn apply(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        if asked.headers.contains_key(&name) {
            return Err(ApiError::invalid(
                name.as_str(),
                "a changeset's changes have their own `if_match`, `if_absent`",
            )
            .into());
        }
    }
    let (new, _room) = body::read_within::<ChangesetAsked>(&shard, &asked.call, &asked.headers, body, MAX_BODY).await?;
    let changes = new.changes.into_iter().enumerate().map(|(i, change)| {
        let at = format!("changes[{i}]");
        planned(change, &at).and_then(|(planned, conditions)| Ok((planned, conditions?)))
    });
    let changes = changes.collect::<Result<Vec<_>, ApiError>>()?;
    let made = managing::apply_changeset(&shard, &asked.call, new.description.unwrap_or_default(), changes).await?;
    Ok(answered(&made))
}

fn answered(made: &v1::ChangesetResponse) -> Response {
    let applied = Applied {
        revision: made.revision.clone(),
        epoch: made.epoch,
        results: made.results.iter().map(Written::from).collect(),
    };
    let stamp = v1::WriteResponse { revision: made.revision.clone(), epoch: made.epoch, ..Default::default() };
    answer::with_headers_of(&stamp, answer::plain(StatusCode::OK, &applied))
}

type Step = (Planned, Result<Conditions, ApiError>);

/// What a change says; errors name the field below `at`.
fn planned(change: ChangeAsked, at: &str) -> Result<Step, ApiError> {
    let conditions = Conditions::of_step(change.if_match.as_deref().unwrap_or(""), change.if_absent.unwrap_or(false));
    let conditions = conditions.map_err(|e| e.within(at));
    let id = |part: &str, text: &str| -> Result<ConfigId, ApiError> {
        text.parse().map_err(|e| ApiError::from(e).within(&body::below(at, part)))
    };
    let one = match (change.put, change.publish, change.rollback, change.releases, change.update, change.delete) {
        (Some(put), None, None, None, None, None) => file(put, &body::below(at, "put"))?,
        (None, Some(step), None, None, None, None) => {
            let id = id("publish", &step.id)?;
            Planned::Publish(id, PublicationAsked::from(step).read(&body::below(at, "publish"))?)
        }
        (None, None, Some(step), None, None, None) => {
            Planned::Rollback(id("rollback", &step.id)?, step.version.unwrap_or(0))
        }
        (None, None, None, Some(step), None, None) => Planned::Releases(id("releases", &step.id)?, step.rules),
        (None, None, None, None, Some(step), None) => Planned::Update(id("update", &step.id)?, step.into()),
        (None, None, None, None, None, Some(step)) => Planned::Delete(id("delete", &step.id)?),
        _ => {
            let why = "give exactly one of put, publish, rollback, releases, update, delete";
            return Err(ApiError::invalid(at, why));
        }
    };
    Ok((one, conditions))
}

fn file(asked: FileAsked, at: &str) -> Result<Planned, ApiError> {
    let place = Place::new(&asked.app, &asked.env, &asked.name).map_err(|e| e.within(at))?;
    let sent = Sent {
        content: body::required_content(at, asked.content, asked.content_base64)?,
        format: asked.format.unwrap_or_default(),
        media_type: String::new(),
        description: asked.description.unwrap_or_default(),
    };
    Ok(Planned::Put(place, sent))
}
