//! REST: paths to functions. Each handler reads its parts, calls one function, and shapes the answer.
//!
//! # How a handler is added
//! The table of routes and the document of the API (`/openapi.json`) are one thing: [`OpenApiRouter`].
//!
//! 1. The body is a struct beside the handler: `#[derive(Deserialize, ToSchema)] #[serde(deny_unknown_fields)]`, with a
//!    doc comment on each field that its name does not explain. `body::read::<NewThing>(..)` reads it; an error names the
//!    field's path. Use `Option` for what may be absent or null; where null means something else, `conflux_common::body::given`.
//!    Not `#[serde(flatten)]` and no untagged enum: both lose the path. What serde cannot check is refused with
//!    `ApiError::invalid("changes[2].put.name", ..)`.
//! 2. The answer is a struct in [`shown`] or beside the handler: `#[derive(Serialize, ToSchema)]` with a `From` for what
//!    the domain answers. `answer::json`, `answer::json_with_etag`, `answer::written` take it.
//! 3. The handler has a doc comment (first line: what a user reads in a list; then the details) and `#[utoipa::path(..)]`
//!    with method, path (below `/api/v1/mgt/{tenant}`: without it), tag, query parameters and headers (those of many calls are
//!    in `params`), body, and the successful answers. Parts of the path, `Idempotency-Key`, the headers of every answer,
//!    security and the errors that any such call may answer are added where the document is put together (`cli/src/openapi`);
//!    name an error here only if it means something special.
//! 4. `routes!(get_one, put_one)` in the module's `routes()`: handlers of ONE path in each; and `routes()` in `table`.
//! 5. `docs/api.md` for users, a test in `shard/tests/serving`.

mod archives;
mod asked;
mod audit;
mod changesets;
mod comparing;
mod configs;
mod drafts;
mod environments;
mod fetch;
mod params;
mod publishing;
mod releases;
mod scopes;
pub mod shown;
mod usage;
mod versions;

use std::sync::Arc;

use axum::Router;
use conflux_common::error::{ApiError, Code};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::admission::Refused;
use crate::shard::Shard;

/// The routes.
pub fn routes(shard: Arc<Shard>) -> Router {
    let (router, _) = table().split_for_parts();
    router.fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(shard)
}

/// The same as a document.
pub fn openapi() -> OpenApi {
    table().into_openapi()
}

/// Management calls are served with and without the tenant in the path; their first words (`configs`) name no tenant.
fn table() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new()
        .routes(routes!(fetch::one))
        .routes(routes!(fetch::all))
        .routes(routes!(configs::put))
        .nest("/api/v1/mgt/{tenant}", management())
        .nest("/api/v1/mgt", management())
}

/// What is served below `/api/v1/mgt/{tenant}`.
fn management() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new()
        .merge(configs::routes())
        .merge(versions::routes())
        .merge(releases::routes())
        .merge(comparing::routes())
        .merge(usage::routes())
        .merge(environments::routes())
        .merge(archives::routes())
        .merge(scopes::routes())
        .merge(audit::routes())
        .merge(publishing::routes())
        .merge(drafts::routes())
        .merge(changesets::routes())
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

    /// Paths that contradict one another would stop the process at its start; and what is served is in the document.
    #[test]
    fn every_route_is_in_the_document() {
        let (router, document) = table().split_for_parts();
        assert!(router.has_routes());
        let paths = &document.paths.paths;
        for with_tenant in paths.keys().filter_map(|path| path.strip_prefix("/api/v1/mgt/{tenant}")) {
            assert!(paths.contains_key(&format!("/api/v1/mgt{with_tenant}")), "{with_tenant}");
        }
        assert!(paths.contains_key("/api/v1/fetch/config/{tenant}/{app}/{env}/{name}"));
    }
}
