//! No read is older than it says, nor than it had to be: all that was acknowledged so long before it was asked is in it.

use super::Evidence;
use crate::history::{Ended, Level};

/// Clocks are read once a step of the simulation, and ages are whole milliseconds.
const ROUNDING_MS: u64 = 5;

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    let puts = evidence.history.puts.borrow();
    for fetch in evidence.history.fetches.borrow().iter() {
        if fetch.revision < fetch.min_revision {
            return Err(format!(
                "{} answered revision {} where {} was demanded",
                fetch.member, fetch.revision, fetch.min_revision
            ));
        }
        let since = fetch.began.at_ms.saturating_sub(fetch.age_ms + ROUNDING_MS);
        let missed = puts.iter().find(|put| {
            let acknowledged = matches!(&put.outcome, Ended::Done(written) if written.revision > fetch.revision);
            acknowledged && put.register.tenant == fetch.register.tenant && put.ended.at_ms <= since
        });
        if let Some(put) = missed.filter(|_| fetch.level == Level::Stale) {
            return Err(format!(
                "{} said at {} ms that revision {} of tenant {} is {} ms old, but \"{}\" had been acknowledged at {} ms: \
                 {:?}",
                fetch.member,
                fetch.ended.at_ms,
                fetch.revision,
                fetch.register.tenant,
                fetch.age_ms,
                put.content,
                put.ended.at_ms,
                put.outcome
            ));
        }
    }
    Ok(())
}
