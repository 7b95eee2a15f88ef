//! The calls that the gateway answers itself, for the document of the API. It serves them without a table of routes
//! ([`crate::call::classify`]), so that each stands here as a function without a body.
#![allow(dead_code, reason = "these describe; the door and the watch lane answer")]

use utoipa::{IntoParams, OpenApi, ToSchema, openapi};

/// What of the API the gateway answers itself.
pub fn openapi() -> openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(
        paths(
            live,
            ready,
            document,
            page,
            watch_tenant,
            watch,
            groups,
            status,
            nodes,
            admit,
            remove,
            leader,
            transfer
        ),
        components(schemas(Event, Member))
    )]
    struct Own;
    Own::openapi()
}

/// Is the process alive?
///
/// Also as `/health` and `/live`.
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "Alive.", body = String, content_type = "text/plain")))]
fn live() {}

/// Can it serve?
///
/// Also as `/ready`.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, description = "Ready.", body = String, content_type = "text/plain"),
        (status = 503, description = "Not ready: send the clients elsewhere.", body = String, content_type = "text/plain")))]
fn ready() {}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object, content_type = "application/json"),
        (status = 304, description = "The client has it already.")))]
fn document() {}

/// This document as a page for people.
#[utoipa::path(get, path = "/docs", tag = "health",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"),
        (status = 304, description = "The client has it already.")))]
fn page() {}

/// What is watched, and from where.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct Watched {
    /// Only this application.
    app: Option<String>,
    /// Only this environment; needs app.
    env: Option<String>,
    /// Only this config; needs app and env.
    name: Option<String>,
    /// A token (`id` of an event) or a revision to resume from; else from now.
    from: Option<String>,
    /// Speak only when the version changes that the client's labels (`label.<name>=<value>`, or headers
    /// `X-Client-Label-<Name>`) resolve to, even if there are none.
    by_label: Option<bool>,
}

/// What a change tells: no content.
#[derive(ToSchema)]
struct Event {
    /// `<incarnation>.<revision>`
    revision: String,
    /// `created`, `versioned`, `released`, `deleted` and so on
    r#type: String,
    app: String,
    env: String,
    name: String,
    config_id: String,
    version: u64,
    hash: String,
}

/// Watch a tenant's changes.
///
/// Server-sent events (`change`, `progress`, `error`), or a WebSocket on upgrade. It does not end by itself; after a break it
/// goes on with `Last-Event-ID` or `from`, without a gap.
#[utoipa::path(get, path = "/api/v1/watch/{tenant}", tag = "watch",
    params(Watched, ("Last-Event-ID" = Option<String>, Header, description = "As browsers send it; wins over `from`.")),
    responses((status = 200, description = "Open.", body = String, content_type = "text/event-stream"),
        (status = 101, description = "A WebSocket is open.")))]
fn watch_tenant() {}

/// Watch the changes of the credential's tenant.
#[utoipa::path(get, path = "/api/v1/watch", tag = "watch",
    params(Watched, ("Last-Event-ID" = Option<String>, Header, description = "As browsers send it; wins over `from`.")),
    responses((status = 200, description = "Open.", body = String, content_type = "text/event-stream"),
        (status = 101, description = "A WebSocket is open.")))]
fn watch() {}

/// A member's name.
#[derive(ToSchema)]
struct Member {
    #[schema(examples("shard-a-4"))]
    member: String,
}

/// All groups, their members and leaders.
#[utoipa::path(get, path = "/_cluster/status", tag = "groups",
    responses((status = 200, description = "Side by side what each member says.", body = Object)))]
fn groups() {}

/// A group, its members and leader.
#[utoipa::path(get, path = "/_cluster/{group}/status", tag = "groups",
    responses((status = 200, description = "Side by side what each member says.", body = Object)))]
fn status() {}

/// List a group's members.
#[utoipa::path(get, path = "/_cluster/{group}/nodes", tag = "groups",
    responses((status = 200, description = "`nodes`, with their ids and addresses.", body = Object)))]
fn nodes() {}

/// Let a member in.
///
/// It becomes a learner when it asks, and a voter when it has caught up.
#[utoipa::path(post, path = "/_cluster/{group}/nodes", tag = "groups", request_body = Member,
    responses((status = 202, description = "It is let in when it asks.", body = Member)))]
fn admit() {}

/// Remove a member.
#[utoipa::path(delete, path = "/_cluster/{group}/nodes/{member}", tag = "groups",
    responses((status = 204, description = "It is no member any more.")))]
fn remove() {}

/// Who leads a group.
#[utoipa::path(get, path = "/_cluster/{group}/leader", tag = "groups",
    responses((status = 200, description = "`node_id`, `member`, `service_address`.", body = Object)))]
fn leader() {}

/// To whom leadership goes.
#[derive(ToSchema)]
struct Successor {
    /// A member; else the one that is best placed.
    to: Option<String>,
}

/// Hand a group's leadership over.
#[utoipa::path(post, path = "/_cluster/{group}/leader/transfer", tag = "groups", request_body = Successor,
    responses((status = 200, description = "Another member leads.", body = Object)))]
fn transfer() {}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::{call::classify, canonical::canonical, respond::Style};

    /// What is documented is answered by somebody.
    #[test]
    fn each_call_is_one_that_the_door_knows() {
        for path in openapi().paths.paths.keys() {
            let target = canonical(path.replace(['{', '}'], "").as_bytes()).unwrap();
            let call = classify(&Method::GET, &target, Style::Rest).unwrap();
            assert!(call.is_some(), "{path}");
        }
    }
}
