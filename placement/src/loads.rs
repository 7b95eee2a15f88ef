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

/// The revisions of tenants some time ago: they are the tenants' own, and go with them from shard to shard.
#[derive(Debug, Default)]
pub struct Loads(Mutex<HashMap<u64, Point>>);

/// A tenant's revision at one moment.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Instant,
    revision: u64,
}

impl Point {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    fn load(&self, now: &TenantLoad, at: Instant) -> Load {
        let writes = now.revision.saturating_sub(self.revision) as f64;
        let thousandths =
            |per_second: f64| if per_second.is_finite() { (per_second * 1000.0).max(0.0) as u64 } else { 0 };
        Load {
            bytes: now.row_bytes,
            milliwrites: thousandths(writes / self.age(at).as_secs_f64()),
            millifetches: thousandths(now.fetches_per_second),
        }
    }
}

type Answers = Vec<(String, Result<(Instant, LoadsResponse), ApiError>)>;

impl Loads {
    /// Asks the shards; twice, a second apart, if of a tenant nothing is known of some time ago.
    pub async fn gather(&self, shards: &Shards, groups: &[GroupRecord]) -> Told {
        let mut answers = ask(shards, groups).await;
        if self.note(&answers) {
            sleep(INTERVAL).await;
            answers = ask(shards, groups).await;
        }
        let points = self.0.lock();
        let loads = |at: Instant, answer: LoadsResponse| {
            let load = |t: &TenantLoad| Some((t.tenant_id, points.get(&t.tenant_id)?.load(t, at)));
            answer.tenants.iter().filter(|t| is_own(t)).filter_map(load).collect()
        };
        let told = |answer: Result<_, ApiError>| answer.map(|(at, answer)| loads(at, answer)).map_err(|e| e.message);
        answers.into_iter().map(|(shard, answer)| (shard, told(answer))).collect()
    }

    /// Begins to count where nothing is known, or only of long ago; whether that is the case. What is known stays: plans that
    /// follow each other see one average.
    fn note(&self, answers: &Answers) -> bool {
        let mut points = self.0.lock();
        let mut begins = false;
        let mut known = HashMap::new();
        for (at, answer) in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
            for t in answer.tenants.iter().filter(|t| is_own(t)) {
                let fits = |p: &Point| p.age(*at) <= OLDEST && p.revision <= t.revision;
                let point = points.get(&t.tenant_id).copied().filter(fits);
                let point = point.unwrap_or(Point { at: *at, revision: t.revision });
                begins |= point.age(*at) < INTERVAL;
                known.insert(t.tenant_id, point);
            }
        }
        *points = known;
        begins
    }
}

/// A copy that is not finished, or what is left of one that moved, has no load of its own.
fn is_own(t: &TenantLoad) -> bool {
    !matches!(t.state.as_str(), "importing" | "prepared" | "moved" | "absent")
}

async fn ask(shards: &Shards, groups: &[GroupRecord]) -> Answers {
    let each = groups.iter().cloned().map(|group| async move {
        let answer = shards.loads(&group, Instant::now() + CALL).await;
        (group.name, answer.map(|answer| (Instant::now(), answer)))
    });
    stream::iter(each).buffer_unordered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(tenant_id: u64, revision: u64) -> TenantLoad {
        TenantLoad { tenant_id, revision, row_bytes: 7, state: "active".into(), ..Default::default() }
    }

    /// Writes are counted between two answers, and nonsense is no load.
    #[test]
    fn writes_are_the_difference_of_two_answers() {
        let start = Instant::now();
        let point = Point { at: start, revision: 100 };
        let later = start + Duration::from_secs(4);
        assert_eq!(point.load(&tenant(1, 110), later), Load { bytes: 7, milliwrites: 2500, millifetches: 0 });
        let fetches = |fetches_per_second| TenantLoad { fetches_per_second, ..tenant(1, 100) };
        assert_eq!(point.load(&fetches(f64::NAN), later).millifetches, 0);
        assert_eq!(point.load(&fetches(1.5), later).millifetches, 1500);
    }

    /// What is known of a tenant goes with it to another shard; it is asked for again where it is new, too old, or restored.
    #[test]
    fn points_follow_their_tenants() {
        let (loads, start) = (Loads::default(), Instant::now());
        let said = |shard: &str, at, tenants| vec![(shard.to_owned(), Ok((at, LoadsResponse { tenants })))];
        assert!(loads.note(&said("a", start, vec![tenant(1, 100)])));
        let later = start + INTERVAL;
        let moved = TenantLoad { state: "moved".into(), ..tenant(1, 0) };
        let mut both = said("b", later, vec![tenant(1, 110)]);
        both.extend(said("a", later, vec![moved]));
        assert!(!loads.note(&both));
        assert_eq!(loads.0.lock()[&1].revision, 100);
        assert!(loads.note(&said("b", later, vec![tenant(1, 110), tenant(2, 5)])), "a new tenant");
        assert!(loads.note(&said("b", later, vec![tenant(1, 50)])), "a restored one begins anew");
        assert!(loads.note(&said("b", later + OLDEST * 2, vec![tenant(1, 900)])), "yesterday's is of no use");
        loads.note(&said("b", later, vec![]));
        assert!(loads.0.lock().is_empty());
    }
}
