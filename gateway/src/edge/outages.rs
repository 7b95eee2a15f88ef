//! Shards that did not answer a moment ago: what is held will do at once, but for one request in a while that asks again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use conflux_common::ids::GroupName;
use parking_lot::Mutex;

/// A shard of which an answer is held has so long to give a younger one.
const PATIENCE: Duration = Duration::from_secs(1);
/// After it did not, it is left alone for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub struct Outages(Mutex<HashMap<GroupName, Instant>>);

impl Outages {
    /// How long this group is to be asked; None: not at all, just now.
    pub fn patience(&self, group: &GroupName, now: Instant) -> Option<Duration> {
        let mut out = self.0.lock();
        match out.get_mut(group) {
            Some(until) if now < *until => None,
            // This one asks; the others wait for what it finds.
            Some(until) => {
                *until = now + PATIENCE;
                Some(PATIENCE)
            }
            None => Some(PATIENCE),
        }
    }

    /// It did not answer.
    pub fn note(&self, group: &GroupName, now: Instant) {
        self.0.lock().insert(group.clone(), now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In an outage clients must not each wait for what the one before has just found out.
    #[test]
    fn one_asks_and_the_others_do_not_wait() {
        let (outages, group) = (Outages::default(), "a".parse().unwrap());
        let now = Instant::now();
        assert_eq!(outages.patience(&group, now), Some(PATIENCE), "nothing is known of an outage");
        outages.note(&group, now);
        assert_eq!(outages.patience(&group, now), None);
        assert_eq!(outages.patience(&group, now + PAUSE), Some(PATIENCE));
        assert_eq!(outages.patience(&group, now + PAUSE), None, "one is asking");
        assert_eq!(outages.patience(&"b".parse().unwrap(), now), Some(PATIENCE));
    }
}
