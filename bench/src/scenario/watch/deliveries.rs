//! Who was told of what, and when the last one was.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Of all watchers of one measurement.
#[derive(Default)]
pub struct Deliveries {
    /// By revision: how many watchers have had it, and when the last of them had it.
    seen: Mutex<HashMap<u64, (usize, Option<Instant>)>>,
    /// Watches that ended by themselves.
    pub ended: AtomicU64,
}

impl Deliveries {
    /// A watcher was told.
    pub fn note(&self, revision: u64) {
        let now = Instant::now();
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(revision).or_default();
        *seen = (seen.0 + 1, Some(now));
    }

    /// A watch ended; whether it is the first.
    pub fn note_end(&self) -> bool {
        self.ended.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// How many watchers have had a revision, and when the last of them had it.
    pub fn of(&self, revision: u64) -> (usize, Option<Instant>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&revision).copied().unwrap_or_default()
    }
}
