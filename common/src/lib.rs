//! Names, labels, release evaluation, grants, errors, settings, TLS and telemetry shared by every part of Conflux.
//!
//! Small and pure where it can be. Never openraft, RocksDB or generated code (DESIGN section 2).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

pub mod api_key;
pub mod blocking;
pub mod body;
pub mod detour;
pub mod dial;
pub mod distinct;
pub mod error;
pub mod failpoint;
pub mod fetch;
pub mod grant;
pub mod headers;
pub mod ids;
pub mod labels;
pub mod net;
pub mod planted;
pub mod quotas;
pub mod reference;
pub mod release;
pub mod respond;
pub mod serve;
pub mod settings;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod throttle;
pub mod tls;
