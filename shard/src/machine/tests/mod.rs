//! The state machine as a proposer sees it: commands in, answers and reads out.

pub(crate) mod bench;
mod changesets;
mod commands;
mod idempotency;
mod invariants;
mod lifecycle;
mod model;
mod moving;
mod publishing;
mod served;
mod tenancy;
mod whole;
mod writes;
