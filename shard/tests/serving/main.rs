//! A shard of one member on loopback, over real TLS, Raft and disk: what its callers see.
//!
//! Placement is another process of another crate; `placement.rs` speaks its wire with records that a test chooses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod caller;
mod contents;
mod feed;
mod fetch;
mod group;
mod grpc;
mod member;
mod ownership;
mod placement;
mod publishing;
mod tenancy;
mod write;
