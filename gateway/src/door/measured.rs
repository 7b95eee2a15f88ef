//! The counters of requests, looked up once for each route and status: looking one up costs more than counting.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use http::StatusCode;
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::RwLock;

#[derive(Clone)]
struct Measured {
    requests: Counter,
    seconds: Histogram,
}

/// Bounded: routes are templates, not paths.
static KNOWN: LazyLock<RwLock<HashMap<(&'static str, StatusCode), Measured>>> = LazyLock::new(RwLock::default);

/// Counts a request of this route that took so long.
pub(super) fn measure(route: &'static str, status: StatusCode, took: Duration) {
    let known = KNOWN.read().get(&(route, status)).cloned();
    let measured = known.unwrap_or_else(|| {
        let new = Measured {
            requests: counter!(
                "conflux_gateway_requests_total", "route" => route, "status" => status.as_str().to_owned()
            ),
            seconds: histogram!("conflux_gateway_request_seconds", "route" => route),
        };
        KNOWN.write().entry((route, status)).or_insert(new).clone()
    });
    measured.requests.increment(1);
    measured.seconds.record(took.as_secs_f64());
}
