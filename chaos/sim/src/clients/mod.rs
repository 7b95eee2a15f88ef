//! Those who use the federation: as a gateway does, on the members' service ports, with a gateway's certificate.

pub mod caller;
pub mod operator;
pub mod reader;
pub mod routes;
pub mod watcher;
pub mod writer;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use conflux_common::tls::TlsContext;

use crate::history::{History, Register};

/// How many tenants there are.
pub const TENANTS: usize = 3;
/// How many configs each has.
pub const CONFIGS: usize = 3;

/// What a simulation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The federation is founded.
    Boot,
    /// Faults and load.
    Harm,
    /// No more faults; load goes on.
    Heal,
    /// No more load.
    Quiet,
}

/// A tenant that was made.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its id; 0: not made yet.
    pub id: u64,
}

/// What all clients share.
pub struct Shared {
    /// What happened.
    pub history: Rc<History>,
    /// What is being done.
    pub phase: Cell<Phase>,
    /// The tenants.
    pub tenants: RefCell<Vec<Tenant>>,
}

impl Shared {
    /// Nothing yet.
    pub fn new(history: Rc<History>) -> Self {
        let tenant = |n| Tenant { name: format!("tenant-{n}"), id: 0 };
        Self { history, phase: Cell::new(Phase::Boot), tenants: RefCell::new((0..TENANTS).map(tenant).collect()) }
    }
}

/// The name of a config.
pub fn config_name(register: Register) -> String {
    format!("config-{}", register.config)
}

/// The application and the environment of all configs.
pub const APP: &str = "shop";
/// See [`APP`].
pub const ENV: &str = "prod";

/// One gateway: its certificate, and what it knows.
pub struct Gateway {
    /// The name of its host.
    pub name: String,
    /// Its certificate.
    pub tls: TlsContext,
    /// Where tenants are, and its connections.
    pub routes: routes::Routes,
    /// What all share.
    pub shared: Rc<Shared>,
}
