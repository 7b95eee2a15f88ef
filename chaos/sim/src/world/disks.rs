//! The disks of hosts, looked at and harmed from outside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand::{Rng, rngs::SmallRng};
use rocksdb::simulation::{self, Contents};

/// Where a host has its data. Relative, so that no path of a machine is in a trace.
pub fn of(host: &str) -> PathBuf {
    Path::new("data").join(host)
}

/// The power of a host goes: what its databases had not synced is lost, or as much of it as chance says. Returns how many writes.
pub fn power_loss(host: &str, random: &mut SmallRng) -> usize {
    let all = random.random_bool(0.5);
    simulation::power_loss(&of(host), |unsynced| if all { 0 } else { random.random_range(0..=unsynced) })
}

/// What the state of a host holds at this moment; none: it has never begun.
pub fn state(host: &str) -> Option<Contents> {
    let state = of(host).join("state");
    let generation = fs::read_to_string(state.join("current")).ok()?;
    simulation::contents(&state.join(generation.trim()))
}

/// How far the state has been applied, as it is stored; none: nothing was.
pub fn applied(state: &Contents) -> Option<Vec<u8>> {
    state.get("meta", b"last").map(<[u8]>::to_vec)
}
