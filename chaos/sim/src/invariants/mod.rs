//! What must hold: one file for each invariant. Each looks at the whole history after the end of a run.

mod acknowledged_writes;
mod audit_chain;
mod convergence;
mod durable_promises;
mod honest_age;
mod idempotency;
mod linearizable;
mod one_owner;
mod processes_live;
mod seen_effects;
mod watch_sequence;

use std::collections::BTreeMap;

use crate::{
    clients::Tenant,
    history::{History, Violation},
    observe::Observed,
};

/// All that an invariant can look at.
pub struct Evidence<'e> {
    /// What clients asked and were told.
    pub history: &'e History,
    /// States over time.
    pub observed: &'e [Observed],
    /// The tenants.
    pub tenants: &'e [Tenant],
    /// Where each tenant was in the end, by its place in the list.
    pub homes: &'e BTreeMap<usize, String>,
    /// The run came to its end: all that was to come about has.
    pub complete: bool,
}

/// An invariant: its name, and what of the evidence breaks it.
type Invariant = (&'static str, fn(&Evidence<'_>) -> Result<(), String>);

/// Every invariant that is looked at after the end. Liveness is looked at by the run itself (`run.rs`).
pub const ALL: [Invariant; 11] = [
    ("processes live", processes_live::check),
    ("durable promises", durable_promises::check),
    ("convergence of replicas", convergence::check),
    ("one owner", one_owner::check),
    ("acknowledged writes", acknowledged_writes::check),
    ("writes without effect", seen_effects::check),
    ("idempotency", idempotency::check),
    ("linearizability", linearizable::check),
    ("honest age", honest_age::check),
    ("watch sequence", watch_sequence::check),
    ("audit chain", audit_chain::check),
];

/// All violations.
pub fn check(evidence: &Evidence<'_>) -> Vec<Violation> {
    let broken =
        ALL.iter().filter_map(|(invariant, check)| check(evidence).err().map(|what| Violation { invariant, what }));
    evidence.history.seen.borrow().iter().cloned().chain(broken).collect()
}
