//! Configs, and the one-step PUT of a file.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use conflux_common::body::given;
use conflux_proto::v1::{self, WriteResponse};
use http::{StatusCode, header};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    params::{Conditional, Demanded, Paged},
    shown::{Config, Configs, Retention, Written},
};
use crate::{
    machine::limits::MAX_CONTENT_BYTES,
    query::Filter,
    serve::{
        admission::Refused,
        answer,
        body::{self, collect},
        conditions::{Conditions, Level},
        managing::{self, Change, Creation, Place, Sent},
    },
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, update, delete))
}

/// Put a file in one step.
///
/// Makes the config, or adds a version; and releases it as default. Rules with labels or a share stay. The same content
/// again changes nothing.
#[utoipa::path(
    put, path = "/api/v1/tenants/{tenant}/apps/{app}/envs/{env}/configs/{name}", tag = "configs",
    params(
        ("format" = Option<String>, Query, description = "Else by Content-Type, the end of the name, or the content."),
        ("description" = Option<String>, Query, description = "What this version is for."),
        Conditional
    ),
    request_body(content = [u8], content_type = "*/*", description = "The content, as it is: at most 1 MiB."),
    responses(
        (status = 200, description = "A version was added, or nothing changed.", body = Written),
        (status = 201, description = "The config is new.", body = Written)
    )
)]
pub async fn put(State(shard): State<Arc<Shard>>, mut asked: Asked, body: Body) -> Result<Response, Refused> {
    let place = Place { app: asked.part("app")?, env: asked.part("env")?, name: asked.part("name")? };
    let conditions = Conditions::read(&asked.headers)?;
    let (format, description) = (asked.param("format"), asked.param("description"));
    asked.no_more_params()?;
    let whole = collect(&shard, &asked.call, &asked.headers, body, MAX_CONTENT_BYTES).await?;
    let media_type = asked.header(header::CONTENT_TYPE).to_owned();
    let sent = Sent { content: whole.bytes.clone(), format, media_type, description };
    let made = managing::put_config(&shard, &asked.call, place, sent, conditions).await?;
    Ok(answer_created(&asked, &made))
}

/// A new config.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConfig {
    app: String,
    env: String,
    name: String,
    /// The content of its first version, as text.
    content: Option<String>,
    /// The same in base64; send only one of them.
    content_base64: Option<String>,
    /// Else by the end of the name, or the content.
    format: Option<String>,
    description: Option<String>,
    tags: Option<Vec<String>>,
    /// A JSON Schema or, for flat formats, lines like `port: integer 1..65535`. Every version without one of its own is checked.
    schema: Option<String>,
    /// What of its old versions is kept; absent: all.
    retention: Option<Retention>,
}

/// Create a config.
///
/// With a content it has version 1, which is not released by this. Refused where the config exists.
#[utoipa::path(
    post, path = "/configs", tag = "configs", params(Conditional), request_body = NewConfig,
    responses((status = 201, description = "Created.", body = Written))
)]
async fn create(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let conditions = Conditions::read(&asked.headers)?;
    let (new, _room) = body::read::<NewConfig>(&shard, &asked.call, &asked.headers, body).await?;
    let place = Place::new(&new.app, &new.env, &new.name)?;
    let content = body::content("", new.content, new.content_base64)?;
    let with_content = content.is_some();
    let sent = Sent {
        content: content.unwrap_or_default(),
        format: new.format.unwrap_or_default(),
        media_type: String::new(),
        description: new.description.unwrap_or_default(),
    };
    let tags = new.tags.unwrap_or_default();
    let creation = Creation {
        place,
        sent,
        with_content,
        tags,
        schema: new.schema.unwrap_or_default(),
        retention: new.retention.map(v1::Retention::from),
    };
    let made = managing::create_config(&shard, &asked.call, creation, conditions).await?;
    Ok(answer_created(&asked, &made))
}

/// 201 with the place of a new config, else 200.
fn answer_created(asked: &Asked, made: &WriteResponse) -> Response {
    if !made.created {
        return answer::written(made, StatusCode::OK, None);
    }
    let tenant = asked.call.principal.tenant.as_ref().map(|t| format!("{t}/")).unwrap_or_default();
    let location = format!("/api/v1/mgt/{tenant}configs/{}", made.config_id);
    answer::written(made, StatusCode::CREATED, Some(location))
}

/// List configs, by name.
#[utoipa::path(
    get, path = "/configs", tag = "configs",
    params(
        ("app" = Option<String>, Query, description = "Only of this application."),
        ("env" = Option<String>, Query, description = "Only of this environment."),
        ("name" = Option<String>, Query, description = "Only of this name."),
        ("prefix" = Option<String>, Query, description = "Only of names that begin so."),
        ("format" = Option<String>, Query, description = "Only of this format."),
        ("tag" = Option<String>, Query, description = "Only with this tag."),
        Paged, Demanded
    ),
    responses((status = 200, description = "Those that the caller may list.", body = Configs))
)]
async fn list(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let filter = Filter {
        app: asked.param("app"),
        env: asked.param("env"),
        name: asked.param("name"),
        prefix: asked.param("prefix"),
        tag: asked.param("tag"),
        format: asked.param("format"),
    };
    let page = asked.page()?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::list_configs(&shard, &asked.call, filter, page, demand).await?;
    Ok(answer::json(&at, &Configs::from(&found)))
}

/// Show a config's record.
#[utoipa::path(
    get, path = "/configs/{id}", tag = "configs", params(Demanded),
    responses((status = 200, description = "The record.", body = Config,
        headers(("etag" = String, description = "For `If-Match`."))))
)]
async fn show(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::config(&shard, &asked.call, id, demand).await?;
    Ok(answer::json_with_etag(&at, &found.etag, &Config::from(&found)))
}

/// What is said of a config. What is absent stays; null clears.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigChange {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// The whole list.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    tags: Option<Option<Vec<String>>>,
    /// A JSON Schema or, for flat formats, lines like `port: integer 1..65535`. Versions that are there are not looked at.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    schema: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Retention>)]
    retention: Option<Option<Retention>>,
}

/// The same as a step of a changeset, which names its config. The fields stand here again: serde does not refuse unknown ones through
/// `flatten`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateStep {
    /// Of the config.
    pub id: String,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    tags: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    schema: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Retention>)]
    retention: Option<Option<Retention>>,
}

impl From<UpdateStep> for Change {
    fn from(step: UpdateStep) -> Self {
        let UpdateStep { description, tags, schema, retention, .. } = step;
        ConfigChange { description, tags, schema, retention }.into()
    }
}

impl From<ConfigChange> for Change {
    fn from(change: ConfigChange) -> Self {
        Self {
            description: change.description.map(Option::unwrap_or_default),
            tags: change.tags.map(Option::unwrap_or_default),
            schema: change.schema.map(Option::unwrap_or_default),
            retention: change.retention.map(|r| r.map(Into::into).unwrap_or_default()),
        }
    }
}

/// Change what is said of a config: description, tags, schema, retention.
///
/// What is absent stays, null clears. Versions and rules stay.
#[utoipa::path(
    patch, path = "/configs/{id}", tag = "configs", params(Conditional), request_body = ConfigChange,
    responses((status = 200, description = "Changed, or nothing to change.", body = Written))
)]
async fn update(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let id = asked.part("id")?;
    let conditions = Conditions::read(&asked.headers)?;
    let (change, _room) = body::read::<ConfigChange>(&shard, &asked.call, &asked.headers, body).await?;
    let made = managing::update_config(&shard, &asked.call, id, change.into(), conditions).await?;
    Ok(answer::written(&made, StatusCode::OK, None))
}

/// Delete a config with all its versions.
///
/// The name is free again; the id is never used again.
#[utoipa::path(
    delete, path = "/configs/{id}", tag = "configs", params(Conditional),
    responses((status = 200, description = "Deleted.", body = Written))
)]
async fn delete(State(shard): State<Arc<Shard>>, asked: Asked) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let conditions = Conditions::read(&asked.headers)?;
    let made = managing::delete_config(&shard, &asked.call, asked.part("id")?, conditions).await?;
    Ok(answer::written(&made, StatusCode::OK, None))
}
