//! No process ends by itself: not by a log that was found short, not by a broken invariant inside, not by a panic.

use super::Evidence;
use crate::world::trace;

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    match evidence.history.ended.borrow().first() {
        None => trace::panics().first().map_or(Ok(()), |panic| Err(panic.clone())),
        Some((host, why)) => Err(format!("{host} ended: {why}")),
    }
}
