//! The protobuf contracts of Conflux, their generated code, and the conversions to the domain.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

/// The generated code, in the shape of the packages, since messages refer to one another by it.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, rustdoc::all)]
mod conflux {
    pub mod v1 {
        tonic::include_proto!("conflux.v1");
        /// The descriptors of `conflux.v1`, for gRPC reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/conflux.v1.bin"));
    }
    pub mod internal {
        pub mod v1 {
            tonic::include_proto!("conflux.internal.v1");
        }
    }
    pub mod log {
        pub mod v1 {
            tonic::include_proto!("conflux.log.v1");
        }
    }
    pub mod store {
        pub mod v1 {
            tonic::include_proto!("conflux.store.v1");
        }
    }
}

/// Between the processes of one federation.
pub use conflux::internal::v1 as internal;
/// What is in the Raft logs.
pub use conflux::log::v1 as log;
/// What is in the state databases.
pub use conflux::store::v1 as store;
/// What clients speak.
pub use conflux::v1;
pub mod audit;
pub mod caller;
pub mod context;
pub mod principal;
mod principal_header;
pub mod quotas;
pub mod release;
pub mod status;
