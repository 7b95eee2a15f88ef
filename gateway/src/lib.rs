//! The gateway: the door (pingora) and the lanes behind it. OVERVIEW.md says how a request flows.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

pub mod authenticate;
pub mod budget;
pub mod call;
pub mod canonical;
pub mod client_tls;
pub mod directory;
pub mod document;
pub mod door;
pub mod edge;
pub mod identity;
pub mod lanes;
pub mod listener;
pub mod mirror;
pub mod openapi;
pub mod operator;
pub mod placement;
pub mod refused;
pub mod respond;
pub mod routes;
pub mod run;
pub mod self_service;
pub mod session_adapter;
pub mod settings;
pub mod strip;
pub mod threads;
pub mod upstream;
pub mod usage;
pub mod watch;

pub use document::{Document, Sheet};
pub use openapi::openapi;
pub use run::{RunError, run};
pub use settings::GatewaySettings;
