//! What this process serves on its one mTLS port: REST, public gRPC, internal gRPC, `/_cluster`.
//!
//! [`admission`] is passed by every call. Then REST (`rest`) and gRPC (`grpc`) call the same functions
//! ([`fetching`], [`managing`]), which read ([`reading`]) and write ([`writing`]).

pub mod admission;
mod answer;
mod body;
pub mod call;
pub mod conditions;
pub mod fetching;
mod grpc;
mod internal;
pub mod managing;
pub mod reading;
pub mod rest;
mod restored;
pub mod writing;

use std::sync::Arc;

use axum::{Router, middleware::from_fn};

use crate::shard::Shard;

/// Everything that the service port answers.
pub fn router(shard: Arc<Shard>) -> Router {
    rest::routes(shard.clone())
        .route_service("/conflux.v1.ConfigService/{method}", grpc::config_service(shard.clone()))
        .route_service("/conflux.v1.ManagementService/{method}", grpc::management_service(shard.clone()))
        .route_service("/conflux.internal.v1.ShardService/{method}", internal::shard_service(shard.clone()))
        .merge(conflux_raft::cluster_routes(shard.node.clone()))
        .merge(restored::routes(shard.clone()))
        .layer(from_fn(admission::admit))
}
