//! Configs, and the one-step PUT of a file.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use conflux_proto::v1::WriteResponse;
use http::{StatusCode, header};

use super::asked::Asked;
use crate::{
    machine::limits::MAX_CONTENT_BYTES,
    query::Filter,
    serve::{
        admission::Refused,
        answer,
        body::{Fields, MAX_JSON, collect},
        conditions::{Conditions, Level},
        managing::{self, Place, Sent},
    },
    shard::Shard,
};

/// `PUT /api/v1/tenants/{tenant}/apps/{app}/envs/{env}/configs/{name}`: the body is the content.
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

/// `POST /api/v1/mgt/{tenant}/configs`
pub async fn create(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let conditions = Conditions::read(&asked.headers)?;
    let whole = collect(&shard, &asked.call, &asked.headers, body, MAX_JSON).await?;
    let mut fields = Fields::read(&whole).await?;
    let place = Place::new(&fields.required("app")?, &fields.required("env")?, &fields.required("name")?)?;
    let content = fields.optional_content()?;
    let with_content = content.is_some();
    let sent = Sent {
        content: content.unwrap_or_default(),
        format: fields.text("format")?.unwrap_or_default(),
        media_type: String::new(),
        description: fields.text("description")?.unwrap_or_default(),
    };
    let tags = fields.texts("tags")?;
    fields.finish()?;
    let made = managing::create_config(&shard, &asked.call, place, sent, with_content, tags, conditions).await?;
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

/// `GET /api/v1/mgt/{tenant}/configs`
pub async fn list(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let filter =
        Filter { app: asked.param("app"), env: asked.param("env"), name: asked.param("name"), tag: asked.param("tag") };
    let page = asked.page()?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::list_configs(&shard, &asked.call, filter, page, demand).await?;
    Ok(answer::json(&at, &answer::configs_shape(&found)))
}

/// `GET /api/v1/mgt/{tenant}/configs/{id}`
pub async fn show(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::config(&shard, &asked.call, id, demand).await?;
    Ok(answer::json_with_etag(&at, &found.etag, &answer::config_shape(&found)))
}

/// `DELETE /api/v1/mgt/{tenant}/configs/{id}`
pub async fn delete(State(shard): State<Arc<Shard>>, asked: Asked) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let conditions = Conditions::read(&asked.headers)?;
    let made = managing::delete_config(&shard, &asked.call, asked.part("id")?, conditions).await?;
    Ok(answer::written(&made, StatusCode::OK, None))
}
