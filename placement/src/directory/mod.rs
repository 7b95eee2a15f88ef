//! The embedded directory of identities: what keys and roles may look like, and what roles grant. Pure; the rows are
//! written by [`machine`](crate::machine), and gateways mirror them through the change stream.

pub mod keys;
pub mod roles;
