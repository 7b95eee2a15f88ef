//! What clients fetched lately, as the gateways tell it (ADR 2): in the memory of every member, bounded, never in the log.
//!
//! `book` keeps it, [`Usage`] is the handle that calls share, [`impact`] says whom new rules would reach.

mod book;
mod follow;
pub mod impact;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use conflux_common::{distinct::Distinct, ids::TenantId, labels::Labels};
use conflux_proto::internal::{ConfigUse, LabelsUse, ReportUseRequest};
use parking_lot::Mutex;

use self::book::Book;
pub use self::{book::Bounds, follow::run};

/// Who was not seen for so long is not counted among the clients of late.
pub const LATELY: Duration = Duration::from_secs(24 * 3600);

/// What is known of the use of a config.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigSeen {
    /// For how long this member has been told of the tenant.
    pub observed: Duration,
    /// How long ago the last fetch was; none: none was seen.
    pub last: Option<Duration>,
    /// Fetches seen.
    pub fetches: u64,
    /// The different clients of late.
    pub clients: Distinct,
    /// The label sets of late, the last seen first.
    pub label_sets: Vec<LabelsSeen>,
    /// How often a label set found no room, or was given up for another.
    pub dropped: u64,
}

/// What is known of the clients with one set of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelsSeen {
    /// What they carry.
    pub labels: Labels,
    /// Fetches seen.
    pub fetches: u64,
    /// The different clients of late.
    pub clients: Distinct,
    /// How long ago the last fetch was.
    pub last: Duration,
}

/// The handle.
pub struct Usage(Mutex<Book>);

impl Default for Usage {
    fn default() -> Self {
        Self(Mutex::new(Book::new(Bounds::default())))
    }
}

impl Usage {
    /// Takes a report, of tenants that are `here` only. What cannot be read of it is passed over.
    pub fn take(&self, report: ReportUseRequest, here: impl Fn(TenantId) -> bool) {
        let now = Instant::now();
        for tenant in report.tenants.into_iter().filter(|t| here(TenantId(t.tenant_id))) {
            // One tenant at a time: readers need not wait for the whole report.
            let mut book = self.0.lock();
            for config in tenant.configs {
                take_config(&mut book, tenant.tenant_id, config, now);
            }
        }
    }

    /// Keeps what is known of these tenants only, and notes since when each has been looked at.
    pub fn keep(&self, here: &[TenantId]) {
        self.0.lock().keep(here, Instant::now());
    }

    /// Fetches a second of a tenant, on average since this member has been told of it.
    pub fn fetches_per_second(&self, tenant: TenantId) -> f64 {
        self.0.lock().fetches_per_second(tenant.0, Instant::now())
    }

    /// What is known of one config; fetches of its whole environment count.
    pub fn config(&self, tenant: TenantId, app: &str, env: &str, name: &str) -> ConfigSeen {
        self.0.lock().config(tenant, &format!("{app}/{env}/{name}"), &format!("{app}/{env}"), Instant::now())
    }
}

fn take_config(book: &mut Book, tenant: u64, told: ConfigUse, now: Instant) {
    let Ok(clients) = Distinct::try_from(told.clients.as_ref()) else { return };
    let key = match told.name.as_str() {
        "" => format!("{}/{}", told.app, told.env),
        name => format!("{}/{}/{name}", told.app, told.env),
    };
    let last = before(now, told.age_ms);
    book.config_used(tenant, &key, told.fetches, last, &clients, told.dropped, now);
    for LabelsUse { labels, fetches, age_ms, clients } in told.labels {
        let (Ok(labels), Ok(clients)) = (Labels::try_from(labels), Distinct::try_from(clients.as_ref())) else {
            continue;
        };
        book.labels_used(tenant, &key, labels, fetches, before(now, age_ms), &clients, now);
    }
}

/// The moment that was so long ago, on our own monotonic clock: clocks are never compared between machines.
fn before(now: Instant, age_ms: u64) -> Instant {
    now.checked_sub(Duration::from_millis(age_ms)).unwrap_or(now)
}
