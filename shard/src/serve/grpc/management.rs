//! `conflux.v1.ManagementService`.

use std::sync::Arc;

use conflux_common::{error::ApiError, ids::ConfigId, labels::Labels, release::ReleaseRule};
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
        managing::{self, Change, Creation, PageAsked, Place, Planned, Publication, Sent, Source},
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
        let filter = Filter { app: body.app, env: body.env, name: body.name, tag: body.tag, ..Default::default() };
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

    async fn update_config(&self, r: Request<v1::UpdateConfigRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async {
            let id = id(&body.id)?;
            managing::update_config(&self.shard, &call, id, change(body), conditions?).await
        };
        answer(&call, outcome.await)
    }

    async fn publish(&self, r: Request<v1::PublishRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async {
            let id = id(&body.id)?;
            managing::publish(&self.shard, &call, id, publication(body)?, conditions?).await
        };
        answer(&call, outcome.await)
    }

    async fn rollback(&self, r: Request<v1::RollbackRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async { managing::rollback(&self.shard, &call, id(&body.id)?, body.version, conditions?).await };
        answer(&call, outcome.await)
    }

    async fn resolve(&self, r: Request<v1::ResolveRequest>) -> Result<Response<v1::ResolveResponse>, Status> {
        let Asked { call, body, .. } = asked(r)?;
        let outcome = async {
            let demand = Demand::at(level(body.consistency, Level::Leader)?);
            let labels = Labels::new(body.labels)?;
            Ok(managing::resolve(&self.shard, &call, id(&body.id)?, labels, demand).await?.1)
        };
        answer(&call, outcome.await)
    }

    async fn apply_changeset(
        &self,
        r: Request<v1::ChangesetRequest>,
    ) -> Result<Response<v1::ChangesetResponse>, Status> {
        let Asked { call, conditions, body } = asked(r)?;
        let outcome = async {
            if conditions? != Conditions::default() {
                return Err(ApiError::invalid("if-match", "a changeset's changes have their own conditions"));
            }
            let changes = body.changes.into_iter().enumerate().map(|(i, change)| {
                let conditions = Conditions::of_step(&change.if_match, change.if_absent);
                let step = conditions.and_then(|conditions| Ok((planned(change.change)?, conditions)));
                step.map_err(|e| e.within(&format!("changes[{i}]")))
            });
            let changes = changes.collect::<Result<Vec<_>, ApiError>>()?;
            managing::apply_changeset(&self.shard, &call, body.description, changes).await
        };
        answer(&call, outcome.await)
    }
}

fn change(body: v1::UpdateConfigRequest) -> Change {
    Change {
        description: body.description,
        tags: body.set_tags.then_some(body.tags),
        schema: body.schema,
        retention: body.retention,
    }
}

fn publication(body: v1::PublishRequest) -> Result<Publication, ApiError> {
    Ok(Publication {
        source: Source::of(body.content, body.draft, body.version)?,
        format: body.format,
        description: body.description,
        schema: body.schema,
        strategy: body.strategy,
        make_default_after_mins: body.make_default_after_mins,
    })
}

fn planned(change: Option<v1::change::Change>) -> Result<Planned, ApiError> {
    use v1::change::Change as Wire;
    Ok(match change {
        Some(Wire::Put(body)) => {
            let place = Place::new(&body.app, &body.env, &body.name)?;
            let (content, format, description) = (body.content, body.format, body.description);
            Planned::Put(place, Sent { content, format, media_type: String::new(), description })
        }
        Some(Wire::Publish(body)) => Planned::Publish(id(&body.id)?, publication(body)?),
        Some(Wire::Rollback(body)) => Planned::Rollback(id(&body.id)?, body.version),
        Some(Wire::Releases(body)) => Planned::Releases(id(&body.id)?, rules(&body.rules)?),
        Some(Wire::Update(body)) => Planned::Update(id(&body.id)?, self::change(body)),
        Some(Wire::Delete(body)) => Planned::Delete(id(&body.id)?),
        None => {
            let why = "give one of put, publish, rollback, releases, update, delete";
            return Err(ApiError::invalid("change", why));
        }
    })
}
