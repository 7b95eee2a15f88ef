//! Size and load of all tenants, as the leaders of their shards say when they are asked. Writes a second are the difference of two
//! answers: of this one and one of some time ago, which is kept in memory.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use conflux_common::error::ApiError;
use conflux_proto::internal::{GroupRecord, LoadsResponse, TenantLoad};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::reconcile::Shards;

/// For one shard's answer.
const CALL: Duration = Duration::from_secs(5);
/// Shards asked at once.
const AT_ONCE: usize = 16;
/// Between two answers, at least: anything shorter says little.
const INTERVAL: Duration = Duration::from_secs(1);
/// An older answer is of another time of the day.
const OLDEST: Duration = Duration::from_secs(600);

/// What one shard said, or why it said nothing.
pub type Told = BTreeMap<String, Result<HashMap<u64, Load>, String>>;

/// One tenant's size and load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Of all its rows.
    pub bytes: u64,
    /// In thousandths of a write a second.
    pub milliwrites: u64,
    /// In thousandths of a fetch a second.
    pub millifetches: u64,
}

/// The answers of some time ago.
#[derive(Debug, Default)]
pub struct Loads(Mutex<HashMap<String, Sample>>);

/// The revisions of a shard's tenants at one moment.
#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    revisions: HashMap<u64, u64>,
}

impl Sample {
    fn new(answer: &LoadsResponse, at: Instant) -> Self {
        Self { at, revisions: answer.tenants.iter().map(|t| (t.tenant_id, t.revision)).collect() }
    }

    fn load(&self, now: &TenantLoad, at: Instant) -> Load {
        let seconds = at.saturating_duration_since(self.at).as_secs_f64();
        // A tenant that came by a move was not here before: nothing is known of its writes.
        let before = self.revisions.get(&now.tenant_id).copied().unwrap_or(now.revision);
        let writes = now.revision.saturating_sub(before) as f64;
        let thousandths =
            |per_second: f64| if per_second.is_finite() { (per_second * 1000.0).max(0.0) as u64 } else { 0 };
        Load {
            bytes: now.row_bytes,
            milliwrites: thousandths(writes / seconds),
            millifetches: thousandths(now.fetches_per_second),
        }
    }
}

impl Loads {
    /// Asks the shards; one of which nothing is known of some time ago is asked twice, a second apart.
    pub async fn gather(&self, shards: &Shards, groups: &[GroupRecord]) -> Told {
        let each = groups.iter().cloned().map(|group| async move {
            let told = self.of(shards, &group).await;
            (group.name, told)
        });
        stream::iter(each).buffer_unordered(AT_ONCE).collect().await
    }

    async fn of(&self, shards: &Shards, group: &GroupRecord) -> Result<HashMap<u64, Load>, String> {
        let told = |e: ApiError| e.message;
        let mut answer = shards.loads(group, Instant::now() + CALL).await.map_err(told)?;
        let mut now = Instant::now();
        let before = match self.before(&group.name, now) {
            Some(sample) => sample,
            None => {
                let sample = Sample::new(&answer, now);
                sleep(INTERVAL).await;
                answer = shards.loads(group, Instant::now() + CALL).await.map_err(told)?;
                now = Instant::now();
                self.0.lock().insert(group.name.clone(), Sample::new(&answer, now));
                sample
            }
        };
        // A copy that is not finished has no load of its own.
        let own = answer.tenants.iter().filter(|t| !matches!(t.state.as_str(), "importing" | "prepared" | "moved"));
        Ok(own.map(|t| (t.tenant_id, before.load(t, now))).collect())
    }

    /// An earlier answer that is neither too young nor too old. It stays: plans that follow each other see one average.
    fn before(&self, group: &str, now: Instant) -> Option<Sample> {
        let samples = self.0.lock();
        let age = |s: &Sample| now.saturating_duration_since(s.at);
        samples.get(group).filter(|s| (INTERVAL..=OLDEST).contains(&age(s))).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes are counted between two answers; a tenant that was not there before has none yet, and nonsense is no load.
    #[test]
    fn writes_are_the_difference_of_two_answers() {
        let tenant = |tenant_id, revision| TenantLoad { tenant_id, revision, row_bytes: 7, ..Default::default() };
        let start = Instant::now();
        let before = Sample::new(&LoadsResponse { tenants: vec![tenant(1, 100)] }, start);
        let later = start + Duration::from_secs(4);
        assert_eq!(before.load(&tenant(1, 110), later), Load { bytes: 7, milliwrites: 2500, millifetches: 0 });
        assert_eq!(before.load(&tenant(2, 900), later).milliwrites, 0);
        assert_eq!(before.load(&tenant(1, 50), later).milliwrites, 0, "a restored tenant begins anew");
        let fetches = TenantLoad { fetches_per_second: f64::NAN, ..tenant(1, 100) };
        assert_eq!(before.load(&fetches, later).millifetches, 0);
        let fetches = TenantLoad { fetches_per_second: 1.5, ..tenant(1, 100) };
        assert_eq!(before.load(&fetches, later).millifetches, 1500);
    }

    /// An answer is compared with one that is old enough to say something, and not with yesterday's.
    #[test]
    fn answers_have_an_age() {
        let (loads, start) = (Loads::default(), Instant::now());
        loads.0.lock().insert("a".into(), Sample::new(&LoadsResponse::default(), start));
        assert!(loads.before("a", start).is_none() && loads.before("b", start + INTERVAL).is_none());
        assert!(loads.before("a", start + INTERVAL).is_some() && loads.before("a", start + OLDEST).is_some());
        assert!(loads.before("a", start + OLDEST * 2).is_none());
    }
}
