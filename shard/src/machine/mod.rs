//! The replicated state machine of a shard: commands in, rows, answers and notices out. Deterministic.
//!
//! `app` is the page to read first: it shows the order in which a command is checked.

mod app;
mod audit;
mod change;
mod changeset;
mod create_config;
mod create_version;
mod delete_config;
mod drafts;
mod expire;
mod input;
mod invariants;
mod levels;
mod lifecycle;
pub mod limits;
mod moving;
pub mod notice;
pub(crate) mod precondition;
mod promotion;
mod prune;
mod publish;
mod put_config;
pub(crate) mod remembered;
mod rollback;
mod rules;
mod scopes;
mod served;
mod set_releases;
mod stop;
mod tally;
mod update_config;

#[cfg(test)]
pub(crate) mod tests;

pub use app::Machine;
pub(crate) use change::content_quota;
pub use notice::{ChangeSink, Notice, TenantState};
pub(crate) use tally::travels;
