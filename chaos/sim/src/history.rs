//! What clients asked and were told, and what was seen of the members: the material of the invariants.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use conflux_common::error::Code;

/// A moment: its order among all moments, and when it was, in milliseconds since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Counts up.
    pub order: u64,
    /// Simulated time.
    pub at_ms: u64,
}

/// Which config of which tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register {
    /// By its place in the list of tenants.
    pub tenant: usize,
    /// By number.
    pub config: usize,
}

/// What a write was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The revision of the tenant that it made.
    pub revision: u64,
    /// The version of the config.
    pub version: u64,
    /// The config's ETag.
    pub etag: String,
    /// Under which epoch of the tenant.
    pub epoch: u64,
    /// The shard that did it: the one that answered, if no other try can have been the one.
    pub shard: Option<String>,
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It took effect.
    Done(Written),
    /// It did not, and never will.
    Refused(Code),
    /// Nobody knows.
    Unknown,
}

/// A write.
#[derive(Debug, Clone)]
pub struct Put {
    /// Of what.
    pub register: Register,
    /// What it says: of each write another.
    pub content: String,
    /// Its idempotency key; a repetition has the same key and content.
    pub key: String,
    /// The ETag that the config had to have.
    pub if_match: Option<String>,
    /// First sent.
    pub began: Moment,
    /// Answered, or given up.
    pub ended: Moment,
    /// How.
    pub outcome: Ended,
}

/// How current a read had to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Any replica, of honest age.
    Stale,
    /// All that was acknowledged before.
    Linearizable,
}

/// A read that was answered.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Of what.
    pub register: Register,
    /// How current.
    pub level: Level,
    /// What it had to have seen; 0: nothing.
    pub min_revision: u64,
    /// The try that was answered was sent.
    pub began: Moment,
    /// Answered.
    pub ended: Moment,
    /// The member that answered.
    pub member: String,
    /// The revision of the tenant that the answer reflects.
    pub revision: u64,
    /// How old the answer says that it is.
    pub age_ms: u64,
    /// The version and its content; none: there was no such config.
    pub found: Option<(u64, String)>,
}

/// What a watcher was told.
#[derive(Debug, Clone)]
pub enum Told {
    /// It joined after this revision.
    Joined(u64),
    /// The events of this revision: config, version.
    Revision(u64, Vec<(String, u64)>),
    /// All up to this revision has been told.
    Mark(u64),
}

/// All of it.
#[derive(Default)]
pub struct History {
    order: Cell<u64>,
    /// Writes, in the order in which they ended.
    pub puts: RefCell<Vec<Put>>,
    /// Reads, likewise.
    pub fetches: RefCell<Vec<Fetch>>,
    /// What each watcher was told, by the watcher's name and the tenant.
    pub watched: RefCell<BTreeMap<(String, usize), Vec<Told>>>,
    /// Processes that ended by themselves, and why.
    pub ended: RefCell<Vec<(String, String)>>,
    /// Violations that were seen while they happened.
    pub seen: RefCell<Vec<Violation>>,
    /// Moves that were accepted.
    pub moves: Cell<u64>,
    /// Calls that were made.
    pub calls: Cell<u64>,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl History {
    /// Now.
    pub fn moment(&self) -> Moment {
        self.order.set(self.order.get() + 1);
        Moment { order: self.order.get(), at_ms: crate::world::libc::time().as_millis() as u64 }
    }

    /// A process has ended by itself.
    pub fn process_ended(&self, host: &str, why: &str) {
        self.ended.borrow_mut().push((host.to_owned(), why.to_owned()));
    }

    /// A watcher was told something.
    pub fn told(&self, watcher: &str, tenant: usize, told: Told) {
        self.watched.borrow_mut().entry((watcher.to_owned(), tenant)).or_default().push(told);
    }

    /// An invariant was seen broken.
    pub fn violated(&self, invariant: &'static str, what: String) {
        self.seen.borrow_mut().push(Violation { invariant, what });
    }
}
