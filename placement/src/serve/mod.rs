//! What a member serves on its service port: operators' REST, `internal.PlacementService`, `/_cluster`.

mod call;
mod changes;
mod follow;
mod holds;
mod keys;
mod moves;
mod page;
mod quotas;
mod rebalance;
mod roles;
mod rpc;
mod shapes;
mod shards;
mod tenants;

use axum::Router;
use conflux_common::error::{ApiError, Code};
use conflux_proto::internal::placement_service_server::PlacementServiceServer;
use conflux_raft::cluster_routes;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

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

/// The operators' calls as a document. Parts of paths, security and errors are added where it is put together.
pub fn openapi() -> OpenApi {
    table().into_openapi()
}

/// Routes and document in one.
fn table() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::show, tenants::remove))
        .routes(routes!(quotas::show, quotas::set))
        .routes(routes!(roles::list_of))
        .routes(routes!(roles::set, roles::remove))
        .routes(routes!(shards::list))
        .routes(routes!(shards::show, shards::change, shards::remove))
        .routes(routes!(moves::list, moves::start))
        .routes(routes!(moves::show))
        .routes(routes!(moves::cancel))
        .routes(routes!(rebalance::show))
        .routes(routes!(holds::show, holds::begin))
        .routes(routes!(holds::renew, holds::release))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::revoke))
        .routes(routes!(roles::list, roles::create))
        .routes(routes!(roles::remove_listed))
}

fn admin(service: Service) -> Router {
    let (router, _) = table().split_for_parts();
    router
        .method_not_allowed_fallback(async |request| {
            call::answer_error(request, ApiError::new(Code::Unimplemented, "this path does not have that method"))
        })
        .fallback(async |request| {
            call::answer_error(request, ApiError::new(Code::NotFound, "there is nothing at this path"))
        })
        .with_state(service)
}
