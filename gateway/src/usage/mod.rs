//! What clients fetch, counted beside the answers and told to the shards: for reports on what is used, by how many, and whom
//! a release would reach (ADR 2). A report, not a fact: a gateway that dies takes its last seconds of it along.

mod report;
mod sketch;

use std::net::IpAddr;

use conflux_common::{distinct, fetch, grant::Principal, ids::TenantId, labels::Labels};
use conflux_proto::v1::FetchRequest;
use http::HeaderMap;
use parking_lot::Mutex;
use std::time::Instant;

pub use self::{report::Reporter, sketch::Sketch};
use crate::{
    call::{Call, Kind},
    canonical::Target,
};

/// Clients are spread over so many counters, so that those of different threads seldom meet.
const COUNTERS: usize = 16;

/// A fetch that is under way, as far as it will be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    tenant: TenantId,
    /// `app/env/name`, or `app/env` for all of an environment.
    what: String,
    labels: Labels,
    /// Of principal, address and labels.
    client: u64,
}

impl Fetch {
    /// What a call fetches; none where it is no fetch, or one that the shard will refuse.
    pub fn of(
        call: &Call,
        target: &Target,
        headers: &HeaderMap,
        body: &[u8],
        tenant: TenantId,
        principal: &Principal,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        let (what, labels) = match call.kind {
            Kind::Fetch => (what(target)?.to_owned(), fetch::labels(headers).ok()?),
            Kind::GrpcFetch => {
                let asked = message(body)?;
                let labels = Labels::new(asked.labels).ok()?;
                (format!("{}/{}/{}", asked.app, asked.env, asked.name), labels)
            }
            _ => return None,
        };
        Some(Self::new(tenant, what, labels, principal, address))
    }

    /// Of what (`app/env/name`) these labels ask for.
    pub fn new(tenant: TenantId, what: String, labels: Labels, principal: &Principal, address: Option<IpAddr>) -> Self {
        let address = address.map(|a| a.to_string()).unwrap_or_default();
        let named = labels.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let client = distinct::hash([principal.name.as_bytes(), address.as_bytes()].into_iter().chain(named));
        Self { tenant, what, labels, client }
    }
}

/// `{app}/{env}/{name}` of `/api/v1/fetch/config/{t}/{app}/{env}/{name}`, or `{app}/{env}`.
fn what(target: &Target) -> Option<&str> {
    let rest =
        target.path.strip_prefix("/api/v1/fetch/config/").or(target.path.strip_prefix("/api/v1/fetch/configs/"))?;
    rest.split_once('/').map(|(_tenant, what)| what)
}

/// The one message of an unary gRPC call. A compressed one is not read: it is then not counted.
fn message(framed: &[u8]) -> Option<FetchRequest> {
    match framed.split_at_checked(5)? {
        ([0, ..], message) => prost::Message::decode(message).ok(),
        _ => None,
    }
}

/// The counters. What a fetch adds is bounded in time and memory; it never waits for a report that is being sent.
#[derive(Default)]
pub struct Usage {
    counters: [Mutex<Sketch>; COUNTERS],
}

impl Usage {
    /// Counts a fetch that was answered with what is released, or with "not modified".
    pub fn count(&self, fetch: &Fetch) {
        let counter = &self.counters[fetch.client as usize % COUNTERS];
        counter.lock().count(fetch, Instant::now());
    }

    /// All that was counted since the last time.
    pub fn take(&self) -> Sketch {
        let mut all = Sketch::default();
        for counter in &self.counters {
            // Its lock is held only for this move.
            let part = std::mem::take(&mut *counter.lock());
            all.merge(part);
        }
        all
    }
}

#[cfg(test)]
mod tests;
