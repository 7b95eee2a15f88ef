//! `conflux.v1.ConfigService/Watch`.

use std::{pin::Pin, sync::Arc};

use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    status::to_status,
    v1::{
        self,
        config_service_server::{ConfigService, ConfigServiceServer},
    },
};
use futures::Stream;
use http::Request as HttpRequest;
use tonic::{Request, Response, Status};
use tower::Service;

use super::{
    Lane, WatchRequest, frame,
    selection::Wish,
    watcher::{Opening, Output, Watcher},
};
use crate::{identity::Identity, respond::refuse, routes::TenantRoute, session_adapter::Answer};

/// A watch's one message is small.
const MAX_REQUEST: usize = 64 * 1024;

/// What the door found out, for the service behind tonic.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) identity: Identity,
    pub(super) route: TenantRoute,
    pub(super) request_id: String,
}

pub(super) async fn serve(lane: &Arc<Lane>, request: WatchRequest) -> Answer {
    let WatchRequest { parts, body, identity, route, request_id, style } = request;
    let mut http = HttpRequest::from_parts(parts, tonic::body::Body::new(body));
    http.extensions_mut().insert(Found { identity, route, request_id: request_id.clone() });
    let service = Watching { lane: lane.clone() };
    let mut server = ConfigServiceServer::new(service).max_decoding_message_size(MAX_REQUEST);
    match server.call(http).await {
        Ok(response) => {
            let mut response = response;
            if let Ok(id) = http::HeaderValue::from_str(&request_id) {
                response.headers_mut().insert(conflux_common::headers::REQUEST_ID, id);
            }
            Answer::from(response)
        }
        Err(never) => refuse(&ApiError::new(Code::Internal, never.to_string()), style, &request_id),
    }
}

/// The service behind tonic.
pub(super) struct Watching {
    pub(super) lane: Arc<Lane>,
}

#[tonic::async_trait]
impl ConfigService for Watching {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn fetch(&self, _: Request<v1::FetchRequest>) -> Result<Response<v1::FetchResponse>, Status> {
        // The door sends fetches elsewhere.
        Err(Status::unimplemented("fetches are not answered by the watch lane"))
    }

    async fn watch(&self, mut request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let found = request.extensions_mut().remove::<Found>();
        let Found { identity, route, request_id } =
            found.ok_or_else(|| Status::internal("the door did not say who watches"))?;
        let opening = Opening { identity, route, wish: Wish::from(request.into_inner()), transport: "grpc" };
        let watcher = Watcher::open(&self.lane, opening).await.map_err(|e| to_status(&e, &request_id))?;
        Ok(Response::new(Box::pin(messages(watcher, request_id))))
    }
}

fn messages(watcher: Watcher, request_id: String) -> impl Stream<Item = Result<v1::WatchResponse, Status>> {
    let first = frame::message(watcher.scope(), watcher.at(), None);
    let then = futures::stream::unfold(Some(watcher), move |watcher| {
        let request_id = request_id.clone();
        async move {
            let mut watcher = watcher?;
            let message = match watcher.next().await {
                Output::Change(told) => Ok(frame::message(watcher.scope(), watcher.at(), Some(&told))),
                Output::Progress => Ok(frame::message(watcher.scope(), watcher.at(), None)),
                Output::End(error) => return Some((Err(to_status(&error, &request_id)), None)),
            };
            Some((message, Some(watcher)))
        }
    });
    futures::StreamExt::chain(futures::stream::once(std::future::ready(Ok(first))), then)
}
