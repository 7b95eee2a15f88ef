//! What `/metrics` says of the edge. Held, since looking a counter up costs more than counting.

use std::sync::OnceLock;

use metrics::{Counter, counter, gauge};

/// A counter that is looked up when it is first used: before that there may be nobody to record it.
pub struct Lazy {
    name: &'static str,
    counter: OnceLock<Counter>,
}

impl Lazy {
    const fn new(name: &'static str) -> Self {
        Self { name, counter: OnceLock::new() }
    }

    /// Counts.
    pub fn increment(&self, by: u64) {
        self.counter.get_or_init(|| counter!(self.name)).increment(by);
    }
}

/// See the module.
pub struct Counters {
    /// Fetches that were answered here.
    pub hits: Lazy,
    /// Stale fetches of one config that went to a shard.
    pub misses: Lazy,
    /// Fetches that were answered beyond the bound.
    pub outages: Lazy,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            hits: Lazy::new("conflux_gateway_edge_hits_total"),
            misses: Lazy::new("conflux_gateway_edge_misses_total"),
            outages: Lazy::new("conflux_gateway_edge_outage_answers_total"),
        }
    }
}

impl Counters {
    /// What is held.
    pub fn tell(&self, bytes: u64, sets: usize, tenants: usize) {
        gauge!("conflux_gateway_edge_bytes").set(bytes as f64);
        gauge!("conflux_gateway_edge_sets").set(sets as f64);
        gauge!("conflux_gateway_edge_tenants").set(tenants as f64);
    }

    /// A fill ended so: `filled`, `changed`, `refused`.
    pub fn filled(&self, outcome: &'static str) {
        counter!("conflux_gateway_edge_fills_total", "outcome" => outcome).increment(1);
    }
}
