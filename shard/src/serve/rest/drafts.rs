//! Drafts: contents that wait to become versions.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use conflux_common::ids::ConfigId;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    params::{Conditional, Demanded},
    shown::{Content, Violation, Written},
};
use crate::{
    query,
    serve::{
        admission::Refused,
        answer, body,
        conditions::{Conditions, Level},
        managing::{self, SavedDraft, Sent},
    },
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(list, save)).routes(routes!(show, change, drop_one))
}

/// A draft of a config.
#[derive(Debug, Serialize, ToSchema)]
pub struct Draft {
    config_id: String,
    /// 1, 2, 3 .. within its config; never used again.
    number: u64,
    /// `sha256:` and 64 hexadecimal digits.
    hash: String,
    format: String,
    description: String,
    /// Empty: the config's holds.
    schema: String,
    created_by: String,
    /// Milliseconds since 1970.
    created_ms: u64,
    /// Milliseconds since 1970.
    updated_ms: u64,
    /// Bytes of its content.
    size: u64,
}

impl Draft {
    fn of(config: ConfigId, row: &conflux_proto::store::Draft) -> Self {
        let row = row.clone();
        Self {
            config_id: config.to_string(),
            number: row.number,
            hash: query::shown_hash(&row.sha256),
            format: row.format,
            description: row.description,
            schema: row.schema,
            created_by: row.created_by,
            created_ms: row.created_ms,
            updated_ms: row.updated_ms,
            size: row.size,
        }
    }
}

/// A draft with its content.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeDraft {
    #[serde(flatten)]
    draft: Draft,
    #[serde(flatten)]
    content: Content,
}

/// The drafts of a config, oldest first, without their contents.
#[derive(Debug, Serialize, ToSchema)]
pub struct Drafts {
    config_id: String,
    /// At most 100.
    drafts: Vec<Draft>,
    /// Always empty: all are in one page.
    next_cursor: String,
}

/// What is to be kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftAsked {
    /// The content, as text. It may be wrong.
    content: Option<String>,
    /// The same in base64; send one of them.
    content_base64: Option<String>,
    /// Else the config's.
    format: Option<String>,
    description: Option<String>,
    /// Holds for the version that it becomes in the place of the config's.
    schema: Option<String>,
}

/// What was kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct Kept {
    #[serde(flatten)]
    written: Written,
    /// What is wrong with it: until it is mended it cannot be published.
    violations: Vec<Violation>,
}

/// List a config's drafts.
#[utoipa::path(
    get, path = "/configs/{id}/drafts", tag = "drafts", params(Demanded),
    responses((status = 200, description = "Without their contents.", body = Drafts))
)]
async fn list(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id: ConfigId = asked.part("id")?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::drafts(&shard, &asked.call, id, demand).await?;
    let drafts = found.iter().map(|d| Draft::of(id, &d.row)).collect();
    Ok(answer::json(&at, &Drafts { config_id: id.to_string(), drafts, next_cursor: String::new() }))
}

/// Keep a content as a draft.
///
/// It reaches nobody and makes no revision. What is wrong with it is told, not refused.
#[utoipa::path(
    post, path = "/configs/{id}/drafts", tag = "drafts", params(Conditional), request_body = DraftAsked,
    responses((status = 201, description = "Kept.", body = Kept))
)]
async fn save(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    let saved = keep(&shard, &asked, 0, body).await?;
    Ok(answered(saved, StatusCode::CREATED))
}

/// Change a draft.
#[utoipa::path(
    put, path = "/configs/{id}/drafts/{number}", tag = "drafts", params(Conditional), request_body = DraftAsked,
    responses((status = 200, description = "Kept.", body = Kept))
)]
async fn change(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    let saved = keep(&shard, &asked, asked.number("number")?, body).await?;
    Ok(answered(saved, StatusCode::OK))
}

async fn keep(shard: &Arc<Shard>, asked: &Asked, number: u64, body: Body) -> Result<SavedDraft, Refused> {
    asked.no_more_params()?;
    let id = asked.part("id")?;
    let conditions = Conditions::read(&asked.headers)?;
    let (new, _room) = body::read::<DraftAsked>(shard, &asked.call, &asked.headers, body).await?;
    let sent = Sent {
        content: body::required_content("", new.content, new.content_base64)?,
        format: new.format.unwrap_or_default(),
        media_type: String::new(),
        description: new.description.unwrap_or_default(),
    };
    let schema = new.schema.unwrap_or_default();
    Ok(managing::save_draft(shard, &asked.call, id, number, sent, schema, conditions).await?)
}

fn answered(saved: SavedDraft, status: StatusCode) -> Response {
    let violations = saved.warnings.into_iter().map(Violation::from).collect();
    let kept = Kept { written: Written::from(&saved.made), violations };
    answer::with_headers_of(&saved.made, answer::plain(status, &kept))
}

/// Show a draft with its content.
#[utoipa::path(
    get, path = "/configs/{id}/drafts/{number}", tag = "drafts", params(Demanded),
    responses((status = 200, description = "The draft.", body = WholeDraft))
)]
async fn show(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let (id, number): (ConfigId, u64) = (asked.part("id")?, asked.number("number")?);
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::draft(&shard, &asked.call, id, number, demand).await?;
    let content = Content::from(&found.content.unwrap_or_default());
    Ok(answer::json(&at, &WholeDraft { draft: Draft::of(id, &found.row), content }))
}

/// Drop a draft.
#[utoipa::path(
    delete, path = "/configs/{id}/drafts/{number}", tag = "drafts", params(Conditional),
    responses((status = 200, description = "Dropped.", body = Written))
)]
async fn drop_one(State(shard): State<Arc<Shard>>, asked: Asked) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let conditions = Conditions::read(&asked.headers)?;
    let (id, number) = (asked.part("id")?, asked.number("number")?);
    let made = managing::drop_draft(&shard, &asked.call, id, number, conditions).await?;
    Ok(answer::written(&made, StatusCode::OK, None))
}
