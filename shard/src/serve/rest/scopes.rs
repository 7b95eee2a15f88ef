//! Applications and environments.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use conflux_common::error::ApiError;
use conflux_proto::v1::WriteResponse;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    params::{Demanded, Paged},
};
use crate::{
    query::Scope,
    serve::{
        admission::Refused,
        answer, body,
        conditions::{Conditions, Level},
        managing::{self, ScopeName},
    },
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new()
        .routes(routes!(list_apps, make_app))
        .routes(routes!(show_app, describe_app, delete_app))
        .routes(routes!(list_envs, make_env))
        .routes(routes!(show_env, describe_env, delete_env))
}

/// An application.
#[derive(Debug, Serialize, ToSchema)]
pub struct App {
    name: String,
    description: String,
    /// How many environments it has.
    envs: u64,
    /// Milliseconds since 1970.
    created_ms: u64,
    /// Who made it, or its first config.
    created_by: String,
    /// Milliseconds since 1970: when it was described last.
    updated_ms: u64,
}

impl From<Scope> for App {
    fn from(Scope { app, row, .. }: Scope) -> Self {
        Self {
            name: app,
            description: row.description,
            envs: row.members,
            created_ms: row.created_ms,
            created_by: row.created_by,
            updated_ms: row.updated_ms,
        }
    }
}

/// An environment of an application.
#[derive(Debug, Serialize, ToSchema)]
pub struct Env {
    app: String,
    name: String,
    description: String,
    /// How many configs it has.
    configs: u64,
    /// Milliseconds since 1970.
    created_ms: u64,
    /// Who made it, or its first config.
    created_by: String,
    /// Milliseconds since 1970: when it was described last.
    updated_ms: u64,
}

impl From<Scope> for Env {
    fn from(Scope { app, env, row }: Scope) -> Self {
        Self {
            app,
            name: env.unwrap_or_default(),
            description: row.description,
            configs: row.members,
            created_ms: row.created_ms,
            created_by: row.created_by,
            updated_ms: row.updated_ms,
        }
    }
}

/// A page of applications, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Apps {
    apps: Vec<App>,
    /// For the next page; empty: this was the last.
    next_cursor: String,
}

/// A page of environments, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Envs {
    envs: Vec<Env>,
    /// For the next page; empty: this was the last.
    next_cursor: String,
}

/// A new application or environment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScope {
    name: String,
    description: Option<String>,
}

/// What is to be changed of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeChange {
    description: String,
}

/// What a change of an application or environment made.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScopeWritten {
    app: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    /// The tenant's revision of this change.
    revision: String,
    /// Whether it is new.
    created: bool,
}

/// List applications, by name.
///
/// Those in which the caller may list or read something.
#[utoipa::path(
    get, path = "/apps", tag = "apps", params(Paged, Demanded),
    responses((status = 200, description = "A page of applications.", body = Apps))
)]
async fn list_apps(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let (page, demand) = (asked.page()?, asked.demand(Level::Leader)?);
    asked.no_more_params()?;
    let (at, (found, next_cursor)) = managing::list_scopes(&shard, &asked.call, None, page, demand).await?;
    Ok(answer::json(&at, &Apps { apps: found.into_iter().map(App::from).collect(), next_cursor }))
}

/// Make an application.
///
/// The first config of one makes it too. Needs `write` on `app/*/*`.
#[utoipa::path(
    post, path = "/apps", tag = "apps", request_body = NewScope,
    responses((status = 201, description = "Made.", body = ScopeWritten))
)]
async fn make_app(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    no_conditions(&asked)?;
    let (new, _room) = body::read::<NewScope>(&shard, &asked.call, &asked.headers, body).await?;
    let name = ScopeName { app: new.name.parse().map_err(ApiError::from)?, env: None };
    make(&shard, &asked, name, new.description).await
}

/// Show an application.
#[utoipa::path(
    get, path = "/apps/{app}", tag = "apps", params(Demanded),
    responses((status = 200, description = "Its record.", body = App))
)]
async fn show_app(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::scope(&shard, &asked.call, app_of(&asked)?, demand).await?;
    Ok(answer::json(&at, &App::from(found)))
}

/// Describe an application.
#[utoipa::path(
    patch, path = "/apps/{app}", tag = "apps", request_body = ScopeChange,
    responses((status = 200, description = "Described.", body = ScopeWritten))
)]
async fn describe_app(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    let name = app_of(&asked)?;
    describe(&shard, &asked, name, body).await
}

/// Delete an application that has no environments.
///
/// 412 while it has some. Needs `delete` on `app/*/*`.
#[utoipa::path(
    delete, path = "/apps/{app}", tag = "apps",
    responses((status = 200, description = "Deleted.", body = ScopeWritten))
)]
async fn delete_app(State(shard): State<Arc<Shard>>, asked: Asked) -> Result<Response, Refused> {
    let name = app_of(&asked)?;
    delete(&shard, &asked, name).await
}

/// List the environments of an application, by name.
///
/// Those in which the caller may list or read something.
#[utoipa::path(
    get, path = "/apps/{app}/envs", tag = "apps", params(Paged, Demanded),
    responses((status = 200, description = "A page of environments.", body = Envs))
)]
async fn list_envs(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let (page, demand) = (asked.page()?, asked.demand(Level::Leader)?);
    asked.no_more_params()?;
    let app = asked.part("app")?;
    let (at, (found, next_cursor)) = managing::list_scopes(&shard, &asked.call, Some(app), page, demand).await?;
    Ok(answer::json(&at, &Envs { envs: found.into_iter().map(Env::from).collect(), next_cursor }))
}

/// Make an environment.
///
/// The first config in one makes it too. Needs `write` on `app/env/*`.
#[utoipa::path(
    post, path = "/apps/{app}/envs", tag = "apps", request_body = NewScope,
    responses((status = 201, description = "Made.", body = ScopeWritten))
)]
async fn make_env(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    no_conditions(&asked)?;
    let (new, _room) = body::read::<NewScope>(&shard, &asked.call, &asked.headers, body).await?;
    let name = ScopeName { app: asked.part("app")?, env: Some(new.name.parse().map_err(ApiError::from)?) };
    make(&shard, &asked, name, new.description).await
}

/// Show an environment.
#[utoipa::path(
    get, path = "/apps/{app}/envs/{env}", tag = "apps", params(Demanded),
    responses((status = 200, description = "Its record.", body = Env))
)]
async fn show_env(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::scope(&shard, &asked.call, env_of(&asked)?, demand).await?;
    Ok(answer::json(&at, &Env::from(found)))
}

/// Describe an environment.
#[utoipa::path(
    patch, path = "/apps/{app}/envs/{env}", tag = "apps", request_body = ScopeChange,
    responses((status = 200, description = "Described.", body = ScopeWritten))
)]
async fn describe_env(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    let name = env_of(&asked)?;
    describe(&shard, &asked, name, body).await
}

/// Delete an environment that has no configs.
///
/// 412 while it has some. Needs `delete` on `app/env/*`.
#[utoipa::path(
    delete, path = "/apps/{app}/envs/{env}", tag = "apps",
    responses((status = 200, description = "Deleted.", body = ScopeWritten))
)]
async fn delete_env(State(shard): State<Arc<Shard>>, asked: Asked) -> Result<Response, Refused> {
    let name = env_of(&asked)?;
    delete(&shard, &asked, name).await
}

fn app_of(asked: &Asked) -> Result<ScopeName, ApiError> {
    Ok(ScopeName { app: asked.part("app")?, env: None })
}

fn env_of(asked: &Asked) -> Result<ScopeName, ApiError> {
    Ok(ScopeName { app: asked.part("app")?, env: Some(asked.part("env")?) })
}

/// They have no ETag; a condition that would be ignored is refused.
fn no_conditions(asked: &Asked) -> Result<(), ApiError> {
    asked.no_more_params()?;
    if Conditions::read(&asked.headers)? != Conditions::default() {
        return Err(ApiError::invalid("If-Match", "applications and environments have no ETag: leave conditions out"));
    }
    Ok(())
}

async fn make(
    shard: &Arc<Shard>,
    asked: &Asked,
    name: ScopeName,
    description: Option<String>,
) -> Result<Response, Refused> {
    let made = managing::make_scope(shard, &asked.call, name.clone(), description.unwrap_or_default()).await?;
    Ok(written(StatusCode::CREATED, name, made))
}

async fn describe(shard: &Arc<Shard>, asked: &Asked, name: ScopeName, body: Body) -> Result<Response, Refused> {
    no_conditions(asked)?;
    let (change, _room) = body::read::<ScopeChange>(shard, &asked.call, &asked.headers, body).await?;
    let made = managing::describe_scope(shard, &asked.call, name.clone(), change.description).await?;
    Ok(written(StatusCode::OK, name, made))
}

async fn delete(shard: &Arc<Shard>, asked: &Asked, name: ScopeName) -> Result<Response, Refused> {
    no_conditions(asked)?;
    let made = managing::delete_scope(shard, &asked.call, name.clone()).await?;
    Ok(written(StatusCode::OK, name, made))
}

fn written(status: StatusCode, name: ScopeName, made: WriteResponse) -> Response {
    let env = name.env.map(String::from);
    let shown = ScopeWritten { app: name.app.into(), env, revision: made.revision, created: made.created };
    answer::plain(status, &shown)
}
