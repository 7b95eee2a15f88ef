//! End-to-end tests: real processes, driven through the gateway.
//!
//! [`Federation`] starts `conflux dev` in a directory of its own and can kill, pause, wipe and
//! restart each member by process id. [`Client`] speaks REST as a tenant does, [`watch`] follows changes
//! over the three transports, [`load`] writes steadily and remembers what was acknowledged.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

pub mod client;
pub mod command;
pub mod federation;
pub mod load;
mod placement;
pub mod raw;
pub mod replica;
pub mod wait;
pub mod watch;

pub use client::Client;
pub use federation::{Federation, Shape};
pub use wait::until;
