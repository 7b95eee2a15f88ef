//! The state machine as a proposer sees it: commands in, answers and reads out.

pub(crate) mod bench;
mod idempotency;
mod invariants;
mod lifecycle;
mod model;
mod tenancy;
mod writes;
