//! Look-ups that found no tenant here, remembered a moment, so that made-up ids cannot make this shard hammer placement.

use std::{collections::HashMap, time::Duration};

use conflux_common::ids::{Epoch, TenantId};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a refusal stands. A tenant that placement gives to this shard meanwhile is announced by `EnsureTenant`, which
/// does not ask here.
const STANDS: Duration = Duration::from_secs(1);
/// How many are remembered.
const MAX: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Refusal {
    until: Instant,
    /// The epoch of placement's record; `None`: it has no record.
    placed: Option<Epoch>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    known: Mutex<HashMap<TenantId, Refusal>>,
}

impl Refusals {
    /// Whether a look-up for this epoch would surely find the tenant elsewhere or nowhere, as a moment ago.
    pub fn stands(&self, id: TenantId, wanted: Epoch, now: Instant) -> bool {
        let known = self.known.lock();
        known.get(&id).is_some_and(|r| r.until > now && r.placed.is_none_or(|placed| placed >= wanted))
    }

    /// The epoch of placement's record, as the last look-up found it; 0: none.
    pub fn placed(&self, id: TenantId) -> Epoch {
        self.known.lock().get(&id).and_then(|r| r.placed).unwrap_or(Epoch(0))
    }

    /// Remembers that the tenant is not here.
    pub fn note(&self, id: TenantId, placed: Option<Epoch>, now: Instant) {
        let mut known = self.known.lock();
        if known.len() >= MAX && !known.contains_key(&id) {
            known.retain(|_, r| r.until > now);
            if known.len() >= MAX {
                return; // the bound on look-ups under way still holds
            }
        }
        known.insert(id, Refusal { until: now + STANDS, placed });
    }

    /// The tenant is here after all.
    pub fn forget(&self, id: TenantId) {
        self.known.lock().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A newer epoch than placement had then is news: it must be looked up; anything else is not asked again at once.
    #[test]
    fn a_refusal_stands_for_a_moment_and_for_no_newer_epoch() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        refusals.note(TenantId(1), Some(Epoch(3)), now);
        refusals.note(TenantId(2), None, now);
        assert!(refusals.stands(TenantId(1), Epoch(3), now));
        assert!(!refusals.stands(TenantId(1), Epoch(4), now));
        assert!(refusals.stands(TenantId(2), Epoch(9), now));
        assert!(!refusals.stands(TenantId(3), Epoch(1), now));
        refusals.forget(TenantId(2));
        assert!(!refusals.stands(TenantId(2), Epoch(9), now));
        assert!(!refusals.stands(TenantId(1), Epoch(3), now + STANDS));
    }

    /// Junk ids must not fill the memory.
    #[test]
    fn what_is_remembered_is_bounded() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for id in 0..(2 * MAX as u64) {
            refusals.note(TenantId(id), None, now);
        }
        assert_eq!(refusals.known.lock().len(), MAX);
        refusals.note(TenantId(u64::MAX), None, now + STANDS);
        assert_eq!(refusals.known.lock().len(), 1);
    }
}
