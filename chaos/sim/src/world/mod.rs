//! The simulated machines: time, randomness, network, disks, and the processes of Conflux on them.

pub mod disks;
pub mod hosts;
pub mod libc;
pub mod place;
pub mod trace;

/// Where every log notes what it has promised, outside of the disks that lose power.
pub const WITNESSES: &str = "witnesses";
