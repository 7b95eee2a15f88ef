//! Public gRPC `conflux.v1`: the same functions as REST, in another skin.

mod fetch;
mod management;

use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    status::to_status,
    v1::{config_service_server::ConfigServiceServer, management_service_server::ManagementServiceServer},
};
use tonic::{Request, Status};

use super::{
    call::Call,
    conditions::{Demand, Level},
};
use crate::shard::Shard;
use std::sync::Arc;

/// A message holds a changeset: as much as an entry of the log.
const MAX_MESSAGE: usize = 4 << 20;

/// `conflux.v1.ConfigService`.
pub fn config_service(shard: Arc<Shard>) -> ConfigServiceServer<fetch::Fetch> {
    ConfigServiceServer::new(fetch::Fetch { shard }).max_decoding_message_size(MAX_MESSAGE)
}

/// `conflux.v1.ManagementService`.
pub fn management_service(shard: Arc<Shard>) -> ManagementServiceServer<management::Management> {
    ManagementServiceServer::new(management::Management { shard }).max_decoding_message_size(MAX_MESSAGE)
}

/// The call that the port admitted.
fn call<T>(request: &Request<T>) -> Result<Call, Status> {
    let missing = || ApiError::new(Code::Internal, "a call passed the port without being admitted");
    request.extensions().get::<Call>().cloned().ok_or_else(|| to_status(&missing(), ""))
}

/// The consistency field of a request.
fn level(wire: i32, default: Level) -> Result<Level, ApiError> {
    use conflux_proto::v1::Consistency;
    match Consistency::try_from(wire) {
        Ok(Consistency::Unspecified) => Ok(default),
        Ok(Consistency::Stale) => Ok(Level::Stale),
        Ok(Consistency::Leader) => Ok(Level::Leader),
        Ok(Consistency::Linearizable) => Ok(Level::Linearizable),
        Err(_) => Err(ApiError::invalid("consistency", "one of STALE, LEADER, LINEARIZABLE")),
    }
}

/// Management reads see the caller's own writes: the leader's state.
const LEADER: Demand = Demand { level: Level::Leader, min_revision: None };
