//! The part of the state machine that the modules under test name.

#[path = "../../src/machine/limits.rs"]
pub mod limits;
