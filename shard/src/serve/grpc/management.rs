//! `conflux.v1.ManagementService`.

use std::sync::Arc;

use conflux_common::{error::ApiError, ids::ConfigId, release::ReleaseRule};
use conflux_proto::{
    release::from_wire,
    status::to_status,
    v1::{self, management_service_server::ManagementService},
};
use tonic::{Request, Response, Status};

use super::{LEADER, call, level};
use crate::{
    query::Filter,
    serve::{
        call::Call,
        conditions::{Conditions, Demand, Level},
        managing::{self, Creation, PageAsked, Place, Sent},
    },
    shard::Shard,
};

/// The service.
pub struct Management {
    pub(super) shard: Arc<Shard>,
}

/// What a handler works with: who asks, under which conditions, what.
struct Asked<T> {
    call: Call,
    conditions: Result<Conditions, ApiError>,
    body: T,
}

fn asked<T>(request: Request<T>) -> Result<Asked<T>, Status> {
    let call = call(&request)?;
    let conditions = Conditions::read(request.metadata().as_ref());
    Ok(Asked { call, conditions, body: request.into_inner() })
}

/// The answer, or its error as a status with the request's id.
fn answer<T>(call: &Call, outcome: Result<T, ApiError>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|e| to_status(&e, &call.request_id))
}

fn id(text: &str) -> Result<ConfigId, ApiError> {
    Ok(text.parse()?)
}

fn rules(wire: &[v1::ReleaseRule]) -> Result<Vec<ReleaseRule>, ApiError> {
    let rule = |(i, wire)| {
        from_wire(wire).map_err(|e| match e.details.first() {
            Some(d) => ApiError::invalid(format!("rules[{i}].{}", d.field), d.description.clone()),
            None => e,
        })
    };
    wire.iter().enumerate().map(rule).collect()
}

#[tonic::async_trait]
impl ManagementService for Management {
    async fn put_config(&self, r: Request<v1::PutConfigRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async {
            let place = Place::new(&body.app, &body.env, &body.name)?;
            let sent = Sent {
                content: body.content,
                format: body.format,
                media_type: String::new(),
                description: body.description,
            };
            managing::put_config(&self.shard, &call, place, sent, conditions?).await
        };
        answer(&call, outcome.await)
    }

    async fn create_config(&self, r: Request<v1::CreateConfigRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async {
            let place = Place::new(&body.app, &body.env, &body.name)?;
            let sent = Sent {
                content: body.content,
                format: body.format,
                media_type: String::new(),
                description: body.description,
            };
            let with_content = !sent.content.is_empty();
            managing::create_config(
                &self.shard,
                &call,
                Creation { place, sent, with_content, tags: body.tags, schema: body.schema, retention: None },
                conditions?,
            )
            .await
        };
        answer(&call, outcome.await)
    }

    async fn get_config(&self, r: Request<v1::GetConfigRequest>) -> Result<Response<v1::Config>, Status> {
        let Asked { call, body, .. } = asked(r)?;
        let outcome = async {
            let demand = Demand::at(level(body.consistency, Level::Leader)?);
            Ok(managing::config(&self.shard, &call, id(&body.id)?, demand).await?.1)
        };
        answer(&call, outcome.await)
    }

    async fn list_configs(
        &self,
        r: Request<v1::ListConfigsRequest>,
    ) -> Result<Response<v1::ListConfigsResponse>, Status> {
        let Asked { call, body, .. } = asked(r)?;
        let filter = Filter { app: body.app, env: body.env, name: body.name, tag: body.tag };
        let page = PageAsked { limit: body.limit, cursor: body.cursor };
        let outcome = managing::list_configs(&self.shard, &call, filter, page, LEADER).await;
        answer(&call, outcome.map(|(_, page)| page))
    }

    async fn delete_config(&self, r: Request<v1::DeleteConfigRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async { managing::delete_config(&self.shard, &call, id(&body.id)?, conditions?).await };
        answer(&call, outcome.await)
    }

    async fn create_version(
        &self,
        r: Request<v1::CreateVersionRequest>,
    ) -> Result<Response<v1::WriteResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async {
            let sent = Sent {
                content: body.content,
                format: body.format,
                media_type: String::new(),
                description: body.description,
            };
            managing::create_version(&self.shard, &call, id(&body.id)?, sent, body.schema, conditions?).await
        };
        answer(&call, outcome.await)
    }

    async fn get_version(&self, r: Request<v1::GetVersionRequest>) -> Result<Response<v1::Version>, Status> {
        let Asked { call, body, .. } = asked(r)?;
        let outcome = async { Ok(managing::version(&self.shard, &call, id(&body.id)?, body.number, LEADER).await?.1) };
        answer(&call, outcome.await)
    }

    async fn list_versions(
        &self,
        r: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let Asked { call, body, .. } = asked(r)?;
        let outcome = async {
            let page = PageAsked { limit: body.limit, cursor: body.cursor };
            Ok(managing::list_versions(&self.shard, &call, id(&body.id)?, page, LEADER).await?.1)
        };
        answer(&call, outcome.await)
    }

    async fn get_releases(&self, r: Request<v1::GetReleasesRequest>) -> Result<Response<v1::Releases>, Status> {
        let Asked { call, body, .. } = asked(r)?;
        let outcome = async { Ok(managing::releases(&self.shard, &call, id(&body.id)?, LEADER).await?.1) };
        answer(&call, outcome.await)
    }

    async fn set_releases(&self, r: Request<v1::SetReleasesRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async {
            let rules = rules(&body.rules)?;
            managing::set_releases(&self.shard, &call, id(&body.id)?, &rules, conditions?).await
        };
        answer(&call, outcome.await)
    }
}
