//! A shard group: whole tenants with their configuration, versions, releases and event history.
//!
//! `OVERVIEW.md` beside this crate is the page to read first. The domain is pure: [`machine`] applies commands to the
//! rows of [`store`], [`query`] reads them, [`mod@format`] checks content before it is proposed. Around it stand what
//! this process serves ([`serve`]), the [`feed`] of changes to gateways, and [`ownership`], which follows placement.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

pub mod archive;
pub mod backup;
pub mod diff;
pub mod feed;
pub mod format;
pub mod machine;
pub mod ownership;
mod propose;
pub mod query;
mod report;
pub mod retention;
mod run;
pub mod schema;
pub mod serve;
mod settings;
mod shard;
pub mod store;
pub mod transfer;
mod upkeep;
pub mod usage;

pub use run::{RunError, run};
pub use serve::rest::openapi;
pub use settings::ShardSettings;
pub use shard::{Node, Shard};
