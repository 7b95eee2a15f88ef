//! REST: paths to functions. Each handler reads its parts, calls one function, and shapes the answer.

mod asked;
mod configs;
mod fetch;
mod releases;
mod versions;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, put},
};
use conflux_common::error::{ApiError, Code};

use super::admission::Refused;
use crate::shard::Shard;

/// The routes.
pub fn routes(shard: Arc<Shard>) -> Router {
    table().with_state(shard)
}

/// Management calls are served with and without the tenant in the path; `configs` names no tenant.
fn table() -> Router<Arc<Shard>> {
    let mut router = Router::new()
        .route("/api/v1/fetch/config/{tenant}/{app}/{env}/{name}", get(fetch::one))
        .route("/api/v1/fetch/configs/{tenant}/{app}/{env}", get(fetch::all))
        .route("/api/v1/tenants/{tenant}/apps/{app}/envs/{env}/configs/{name}", put(configs::put));
    for base in ["/api/v1/mgt/{tenant}/configs", "/api/v1/mgt/configs"] {
        let path = |rest: &str| format!("{base}{rest}");
        router = router
            .route(base, get(configs::list).post(configs::create))
            .route(&path("/{id}"), get(configs::show).delete(configs::delete))
            .route(&path("/{id}/versions"), get(versions::list).post(versions::create))
            .route(&path("/{id}/versions/{number}"), get(versions::show))
            .route(&path("/{id}/releases"), get(releases::show).put(releases::set));
    }
    router.fallback(no_such_path).method_not_allowed_fallback(no_such_method)
}

async fn no_such_path() -> Refused {
    Refused(ApiError::new(Code::NotFound, "no such path"))
}

async fn no_such_method(method: http::Method) -> Refused {
    Refused(ApiError::new(Code::Unimplemented, format!("{method} has no meaning on this path")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths that contradict one another would stop the process at its start.
    #[test]
    fn the_paths_do_not_contradict_one_another() {
        assert!(table().has_routes());
    }
}
