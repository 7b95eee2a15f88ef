//! A replicated state machine on openraft and RocksDB: [`RaftNode<App>`](RaftNode).
//!
//! The only crate that names openraft. `OVERVIEW.md` beside this crate is the page to read first.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

pub mod app;
pub mod backup;
pub(crate) mod barrier;
pub(crate) mod bootstrap;
pub(crate) mod clock;
pub mod cluster_routes;
pub(crate) mod codec;
pub(crate) mod compaction;
pub(crate) mod confirm;
pub(crate) mod database;
pub(crate) mod disk;
pub mod error;
pub(crate) mod fatal;
pub(crate) mod freshness;
pub(crate) mod link;
pub(crate) mod log_store;
pub(crate) mod membership;
pub(crate) mod metrics;
pub(crate) mod network;
pub mod node;
pub(crate) mod observe;
pub(crate) mod propose;
pub(crate) mod relocate;
pub(crate) mod replica;
pub(crate) mod service;
pub(crate) mod snapshot;
pub(crate) mod state_store;
pub mod status;
pub(crate) mod storage;
#[cfg(test)]
mod testing;
pub(crate) mod types;
pub mod view;
pub(crate) mod wire;

// The support of the integration tests, for tests that must reach inside.
#[cfg(test)]
extern crate self as conflux_raft;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use app::{App, Applied, Entry};
pub use cluster_routes::cluster_routes;
pub use error::{FatalError, OpenError, ProposeError, ReadError};
pub use node::{Committed, RaftNode};
pub use state_store::Admission;
pub use status::{DiskStatus, Freshness, GroupStatus, MemberStatus};
pub use view::{Read, Tx, View};
