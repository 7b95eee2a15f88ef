//! No process ends by itself: not by a log that was found short, not by a broken invariant inside, not by a panic.

use super::Evidence;
use crate::world::trace;

/// An assertion of openraft's debug builds that asserts too much: a leader that was deposed a moment ago has the new leader's log, and
/// its replication task, which is about to see that and to stop, computes a range from its own last entry to the new leader's. A release
/// build takes that range for an empty one.
const HARMLESS: &str = "read_log_entries received reversed range";

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    if let Some((host, why)) = evidence.history.ended.borrow().first() {
        return Err(format!("{host} ended: {why}"));
    }
    match trace::panics().into_iter().find(|panic| !panic.contains(HARMLESS)) {
        None => Ok(()),
        Some(panic) => Err(panic),
    }
}
