//! What a member serves on its service port: operators' REST, `internal.PlacementService`, `/_cluster`.

mod call;
mod changes;
mod follow;
mod keys;
mod page;
mod quotas;
mod roles;
mod rpc;
mod shapes;
mod shards;
mod tenants;

use axum::{
    Router,
    routing::{delete, get, patch, put},
};
use conflux_common::error::{ApiError, Code};
use conflux_proto::internal::placement_service_server::PlacementServiceServer;
use conflux_raft::cluster_routes;

use crate::service::Service;

/// gRPC messages here are small; a whole copy travels in many.
const MAX_MESSAGE: usize = 4 << 20;

/// Everything on the service port. The port must put the peer's [`PeerId`](conflux_common::tls::PeerId) into each
/// request, as [`conflux_common::serve`] does: who may call what hangs on it.
pub fn router(service: Service) -> Router {
    let rpc = PlacementServiceServer::new(rpc::Rpc::new(service.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    admin(service.clone())
        .merge(cluster_routes(service.node))
        .route_service("/conflux.internal.v1.PlacementService/{*method}", rpc)
}

fn admin(service: Service) -> Router {
    Router::new()
        .route("/api/v1/admin/tenants", get(tenants::list).post(tenants::create))
        .route("/api/v1/admin/tenants/{name}", get(tenants::show).delete(tenants::remove))
        .route("/api/v1/admin/tenants/{name}/quotas", get(quotas::show).put(quotas::set))
        .route("/api/v1/admin/tenants/{name}/roles", get(roles::list_of))
        .route("/api/v1/admin/tenants/{name}/roles/{role}", put(roles::set).delete(roles::remove))
        .route("/api/v1/admin/shards", get(shards::list))
        .route("/api/v1/admin/shards/{name}", patch(shards::change).get(shards::show))
        .route("/api/v1/admin/keys", get(keys::list).post(keys::create))
        .route("/api/v1/admin/keys/{id}", get(keys::show).delete(keys::revoke))
        .route("/api/v1/admin/roles", get(roles::list).post(roles::create))
        .route("/api/v1/admin/roles/{name}/{role}", delete(roles::remove))
        .method_not_allowed_fallback(async |request| {
            call::answer_error(request, ApiError::new(Code::Unimplemented, "this path does not have that method"))
        })
        .fallback(async |request| {
            call::answer_error(request, ApiError::new(Code::NotFound, "there is nothing at this path"))
        })
        .with_state(service)
}
