//! What is different between two versions; whether a content would be taken.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{asked::Asked, params::Demanded};
use crate::{
    diff,
    schema::Violation,
    serve::{
        admission::Refused,
        answer, body,
        conditions::Level,
        managing::{self, ComparedVersions, Sent},
    },
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(validate))
}

/// What is different between two versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionDiff {
    /// The number of the first version.
    from: u64,
    /// The number of the second.
    to: u64,
    /// A unified diff, empty where nothing is different; null where one of them is no text.
    text: Option<String>,
    /// The text was cut at 256 KiB: it can be read, and not be applied.
    text_truncated: bool,
    /// By value, at most 1,000; null where one of them has no values (plaintext, binary), or is not what its format says.
    changes: Option<Vec<ValueChange>>,
    /// There are more changes.
    truncated: bool,
}

/// A value that is different.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValueChange {
    /// A JSON pointer: into the first version for what was removed, else into the second.
    #[schema(examples("/server/port"))]
    path: String,
    /// added, removed or changed
    kind: &'static str,
    /// What it was; absent where it was added. Long values are cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    from: Option<serde_json::Value>,
    /// What it is; absent where it was removed. Long values are cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    to: Option<serde_json::Value>,
}

impl From<diff::Change> for ValueChange {
    fn from(change: diff::Change) -> Self {
        Self { path: change.path, kind: change.kind.name(), from: change.from, to: change.to }
    }
}

impl From<ComparedVersions> for VersionDiff {
    fn from(compared: ComparedVersions) -> Self {
        let ComparedVersions { from, to, difference } = compared;
        let (text, text_truncated) = difference.text.map(|t| (t.text, t.truncated)).unzip();
        let (changes, truncated) = difference.values.map(|v| (v.changes, v.truncated)).unzip();
        Self {
            from,
            to,
            text,
            text_truncated: text_truncated.unwrap_or_default(),
            changes: changes.map(|list| list.into_iter().map(ValueChange::from).collect()),
            truncated: truncated.unwrap_or_default(),
        }
    }
}

/// Compare two versions.
///
/// As text, and by value for formats that have values: order, comments and layout are nothing to it.
#[utoipa::path(
    get, path = "/configs/{id}/diff", tag = "versions",
    params(
        ("from" = Option<u64>, Query, description = "The number of a version. Else the one before `to`.", minimum = 1),
        ("to" = Option<u64>, Query, description = "The number of a version. Else the latest.", minimum = 1),
        Demanded
    ),
    responses((status = 200, description = "What is different.", body = VersionDiff))
)]
async fn show(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let (from, to) = (asked.version("from")?, asked.version("to")?);
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, compared) = managing::diff_versions(&shard, &asked.call, id, from, to, demand).await?;
    Ok(answer::json(&at, &VersionDiff::from(compared)))
}

/// A content to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentToValidate {
    /// The content, as text.
    content: Option<String>,
    /// The same in base64; send one of them.
    content_base64: Option<String>,
    /// The name that the config would have: its end may tell the format.
    name: Option<String>,
    format: Option<String>,
    /// A JSON Schema or, for flat formats, lines like `port: integer 1..65535`.
    schema: Option<String>,
}

/// What is wrong with a content.
#[derive(Debug, Serialize, ToSchema)]
pub struct Validated {
    /// Nothing is.
    valid: bool,
    /// What it was read as.
    format: &'static str,
    /// At most 100.
    violations: Vec<Wrong>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct Wrong {
    /// A JSON pointer to the value; empty: the whole content.
    #[schema(examples("/server/port"))]
    path: String,
    /// The line, from 1; 0: not known.
    line: usize,
    /// The column, from 1; 0: not known.
    column: usize,
    message: String,
}

impl From<Violation> for Wrong {
    fn from(violation: Violation) -> Self {
        let Violation { path, place, message } = violation;
        Self { path, line: place.line, column: place.column, message }
    }
}

/// Look at a content without writing anything.
///
/// Checks it as a write would: its format and, if one is given, a schema. What is wrong is the answer, not an error.
#[utoipa::path(
    post, path = "/configs/validate", tag = "configs", request_body = ContentToValidate,
    responses((status = 200, description = "What is wrong with it, if anything.", body = Validated))
)]
async fn validate(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let (given, _room) = body::read::<ContentToValidate>(&shard, &asked.call, &asked.headers, body).await?;
    let sent = Sent {
        content: body::required_content("", given.content, given.content_base64)?,
        format: given.format.unwrap_or_default(),
        ..Default::default()
    };
    let name = given.name.unwrap_or_default();
    let schema = given.schema.unwrap_or_default();
    let (at, format, found) = managing::validate(&shard, &asked.call, &name, sent, schema).await?;
    let violations: Vec<Wrong> = found.into_iter().map(Wrong::from).collect();
    Ok(answer::json(&at, &Validated { valid: violations.is_empty(), format: format.name(), violations }))
}
