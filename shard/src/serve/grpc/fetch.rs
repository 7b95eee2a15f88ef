//! `conflux.v1.ConfigService`.

use std::sync::Arc;

use conflux_common::{
    error::{ApiError, Code},
    fetch::KnownEtags,
    labels::Labels,
};
use conflux_proto::{
    status::to_status,
    v1::{FetchRequest, FetchResponse, WatchRequest, WatchResponse, config_service_server::ConfigService},
};
use futures::stream::Empty;
use tonic::{Request, Response, Status};

use super::{call, level};
use crate::{
    serve::{
        call::Call,
        conditions::{Demand, Level},
        fetching::{self, FetchAsked},
    },
    shard::Shard,
};

/// The service.
pub struct Fetch {
    pub(super) shard: Arc<Shard>,
}

async fn fetch(shard: &Arc<Shard>, call: &Call, asked: FetchRequest) -> Result<FetchResponse, ApiError> {
    let mut demand = Demand::parse(None, Some(&asked.min_revision), Level::Stale)?;
    demand.level = level(asked.consistency, Level::Stale)?;
    let what = FetchAsked {
        app: asked.app.parse()?,
        env: asked.env.parse()?,
        name: asked.name.parse()?,
        labels: Labels::new(asked.labels)?,
        demand,
        known: KnownEtags::of(&asked.if_none_match),
    };
    let answer = fetching::fetch(shard, call, what).await?;
    Ok(FetchResponse {
        config_id: answer.fetched.config_id.to_string(),
        version: answer.fetched.version,
        content: answer.fetched.content,
        media_type: answer.fetched.media_type,
        etag: answer.fetched.etag,
        hash: answer.fetched.hash,
        revision: answer.stamp.mark.to_string(),
        epoch: answer.stamp.epoch.0,
        age_ms: answer.stamp.age_ms(),
        not_modified: answer.not_modified,
    })
}

#[tonic::async_trait]
impl ConfigService for Fetch {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let call = call(&request)?;
        let answer = fetch(&self.shard, &call, request.into_inner()).await;
        answer.map(Response::new).map_err(|e| to_status(&e, &call.request_id))
    }

    type WatchStream = Empty<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let call = call(&request)?;
        let text = "watches are served by the gateway, which follows the shards' feeds: call it there";
        Err(to_status(&ApiError::new(Code::Unimplemented, text), &call.request_id))
    }
}
