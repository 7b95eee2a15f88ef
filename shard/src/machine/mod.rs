//! The replicated state machine of a shard: commands in, rows, answers and notices out. Deterministic.
//!
//! `app` is the page to read first: it shows the order in which a command is checked.

mod app;
mod change;
mod create_config;
mod create_version;
mod delete_config;
mod expire;
mod input;
mod invariants;
mod lifecycle;
pub mod limits;
pub mod notice;
mod precondition;
mod put_config;
mod remembered;
mod set_releases;
mod stop;

#[cfg(test)]
pub(crate) mod tests;

pub use app::Machine;
pub use notice::{ChangeSink, Notice, TenantState};
