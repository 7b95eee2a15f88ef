//! The placement group: shards, tenants, routes and the directory of identities.
//!
//! `OVERVIEW.md` beside this crate is the page to read first.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

pub mod app;
pub mod backup;
pub mod directory;
pub mod invariants;
pub mod loads;
pub mod machine;
pub mod planner;
pub mod reconcile;
pub mod run;
pub mod scheduler;
pub mod serve;
pub mod service;
pub mod settings;
pub mod store;

pub use app::Placement;
pub use run::{RunError, run};
pub use serve::openapi;
pub use settings::PlacementSettings;
