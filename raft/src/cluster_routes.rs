//! `/_cluster/..`: what operators ask and tell a Raft group, the same for placement and each shard.
//!
//! | call | answers |
//! |---|---|
//! | `GET /_cluster/status` | [`GroupStatus`](crate::GroupStatus) as this member sees it; any member |
//! | `GET /_cluster/nodes` | its members; any member |
//! | `GET /_cluster/leader` | `{"node_id", "member", "service_address"}`; any member |
//! | `POST /_cluster/leader/transfer` `{"to"?}` | 200 once another member leads; leader only |
//! | `POST /_cluster/nodes` `{"member"}` | 202: it is let in as a learner when it asks; leader only |
//! | `DELETE /_cluster/nodes/{member}` | 204; leader only |
//! | `GET /_cluster/backup` `?follower=true` | the state as a stream (`backup/frames.rs`); any member |

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use conflux_common::{
    error::{ApiError, Code},
    ids::MemberName,
    respond::error_response,
    tls::PeerId,
};
use conflux_proto::context::CallContext;
use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{App, RaftNode};

/// Bodies here are a few names.
const MAX_BODY: usize = 4096;

/// The routes, for the service port of a member. The peer must be an operator, or a gateway that speaks for one
/// ([`CallContext::of`]): the port must put the [`PeerId`] into each request's extensions, as
/// [`conflux_common::serve`] does.
pub fn cluster_routes<A: App>(node: RaftNode<A>) -> Router {
    let backups =
        Router::new().route("/_cluster/backup", get(backup::<A>)).with_state((node.clone(), crate::backup::slots()));
    Router::new()
        .route("/_cluster/status", get(status::<A>))
        .route("/_cluster/nodes", get(nodes::<A>).post(admit::<A>))
        .route("/_cluster/nodes/{member}", delete(remove::<A>))
        .route("/_cluster/leader", get(leader::<A>))
        .route("/_cluster/leader/transfer", post(transfer::<A>))
        .with_state(node)
        .merge(backups)
}

/// An error on its way out, with the request id that the answer shows.
struct Refused(ApiError, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        error_response(&self.0, &self.1).map(Body::from)
    }
}

fn operator(request: &Request) -> Result<CallContext, Refused> {
    let peer = request.extensions().get::<PeerId>();
    let refuse = |error| Refused(error, String::new());
    let context = CallContext::of(peer, request.headers()).map_err(refuse)?;
    match context.require_operator() {
        Ok(()) => Ok(context),
        Err(error) => Err(Refused(error, context.request_id)),
    }
}

async fn body<T: DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    let bytes = axum::body::to_bytes(request.into_body(), MAX_BODY)
        .await
        .map_err(|_| ApiError::too_large(format!("the body may have at most {MAX_BODY} bytes")))?;
    let bytes = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
    serde_json::from_slice(bytes).map_err(|e| ApiError::invalid("body", e.to_string()))
}

async fn backup<A: App>(
    State(state): State<(RaftNode<A>, std::sync::Arc<tokio::sync::Semaphore>)>,
    request: Request,
) -> Result<Response, Refused> {
    let context = operator(&request)?;
    let asked = axum::extract::Query::try_from_uri(request.uri());
    let done = async {
        let axum::extract::Query(asked) = asked.map_err(|e| ApiError::invalid("query", e.body_text()))?;
        crate::backup::serve(state, asked).await
    };
    done.await.map_err(|e| Refused(e, context.request_id))
}

async fn status<A: App>(State(node): State<RaftNode<A>>, request: Request) -> Result<Response, Refused> {
    operator(&request)?;
    let status = node.status().borrow().clone();
    Ok(Json(status).into_response())
}

async fn nodes<A: App>(State(node): State<RaftNode<A>>, request: Request) -> Result<Response, Refused> {
    operator(&request)?;
    let members = node.status().borrow().members.clone();
    Ok(Json(serde_json::json!({ "nodes": members })).into_response())
}

async fn leader<A: App>(State(node): State<RaftNode<A>>, request: Request) -> Result<Response, Refused> {
    let context = operator(&request)?;
    let status = node.status().borrow().clone();
    let leader = status.leader.and_then(|id| status.members.into_iter().find(|m| m.node_id == id));
    match leader {
        Some(m) => Ok(Json(serde_json::json!({
            "node_id": m.node_id, "member": m.member, "service_address": m.service_address
        }))
        .into_response()),
        None => {
            let error = ApiError::new(Code::Unavailable, "this member knows no leader now");
            Err(Refused(error, context.request_id))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    #[serde(default)]
    to: Option<MemberName>,
}

async fn transfer<A: App>(State(node): State<RaftNode<A>>, request: Request) -> Result<Response, Refused> {
    let context = operator(&request)?;
    let done = async {
        let asked: Transfer = body(request).await?;
        node.transfer_leader(asked.to, context.deadline).await?;
        Ok(Json(serde_json::json!({})).into_response())
    };
    done.await.map_err(|e: ApiError| Refused(e, context.request_id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Admit {
    member: MemberName,
}

async fn admit<A: App>(State(node): State<RaftNode<A>>, request: Request) -> Result<Response, Refused> {
    let context = operator(&request)?;
    let done = async {
        let asked: Admit = body(request).await?;
        node.admit(asked.member.clone(), context.deadline).await?;
        let answer = Json(serde_json::json!({ "member": asked.member }));
        Ok((StatusCode::ACCEPTED, answer).into_response())
    };
    done.await.map_err(|e: ApiError| Refused(e, context.request_id))
}

async fn remove<A: App>(
    State(node): State<RaftNode<A>>,
    Path(member): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    let context = operator(&request)?;
    let done = async {
        node.remove(MemberName::new(member)?, context.deadline).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    done.await.map_err(|e: ApiError| Refused(e, context.request_id))
}
