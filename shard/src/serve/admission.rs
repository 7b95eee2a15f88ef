//! The one layer that every call passes: who is at the other end, what may it call, for whom does it speak; and the one
//! place where an error becomes an answer.

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use conflux_common::{
    error::{ApiError, Code},
    headers,
    respond::error_response,
    tls::{PeerId, Role},
};
use conflux_proto::status::to_status;
use http::{HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::call::Call;

/// Who may call what, by the beginning of the path. What is not here is open to nobody.
pub const DOORS: &[Door] = &[
    Door::tenant("/api/v1/fetch/"),
    Door::tenant("/api/v1/mgt/"),
    Door::tenant("/api/v1/tenants/"),
    Door::tenant("/conflux.v1.ConfigService/"),
    Door::tenant("/conflux.v1.ManagementService/"),
    Door::internal("/conflux.internal.v1.ShardService/Feed", &[Role::Gateway]),
    Door::internal("/conflux.internal.v1.ShardService/History", &[Role::Gateway]),
    Door::internal("/conflux.internal.v1.ShardService/ReportUse", &[Role::Gateway]),
    Door::internal("/conflux.internal.v1.ShardService/ReleaseSet", &[Role::Gateway]),
    Door::internal("/conflux.internal.v1.ShardService/EnsureTenant", &[Role::Placement]),
    Door::internal("/conflux.internal.v1.ShardService/Loads", &[Role::Placement]),
    // Its handler demands the shard that the tenant moves to.
    Door::internal("/conflux.internal.v1.ShardService/ExportRows", &[Role::Shard]),
    // Its own handlers demand an operator: by the certificate, or by the gateway's word.
    Door::internal("/_cluster/", &[Role::Operator, Role::Gateway]),
];

/// A part of the paths and those who may call it.
#[derive(Debug)]
pub struct Door {
    /// A path, or with `/` at its end all below it.
    pub path: &'static str,
    /// The certificate roles that may.
    pub roles: &'static [Role],
    /// Each call is of one tenant: the gateway's internal headers say whose and for whom.
    pub of_tenant: bool,
}

impl Door {
    const fn tenant(path: &'static str) -> Self {
        Self { path, roles: &[Role::Gateway], of_tenant: true }
    }

    const fn internal(path: &'static str, roles: &'static [Role]) -> Self {
        Self { path, roles, of_tenant: false }
    }

    /// The door of this path.
    pub fn of(path: &str) -> Option<&'static Door> {
        DOORS.iter().find(|door| if door.path.ends_with('/') { path.starts_with(door.path) } else { path == door.path })
    }
}

/// An error on its way to [`admit`], which knows how to answer it.
#[derive(Debug)]
pub struct Refused(pub ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response.extensions_mut().insert(self.0);
        response
    }
}

/// The layer.
pub async fn admit(mut request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    let grpc =
        request.headers().get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    let request_id = request_id(&request);
    let route = request.extensions().get::<MatchedPath>().map_or("none", |p| p.as_str()).to_owned();
    let method = request.method().clone();
    let mut response = match check(&request, &request_id, arrived) {
        Ok(call) => {
            if let Some(call) = call {
                request.extensions_mut().insert(call);
            }
            next.run(request).await
        }
        Err(error) => Refused(error).into_response(),
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        if error.code == Code::Internal {
            tracing::error!(%request_id, %route, %error, "a call failed");
        }
        response = match grpc {
            true => to_status(&error, &request_id).into_http(),
            false => error_response(&error, &request_id).map(Body::from),
        };
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(headers::REQUEST_ID, headers::unrepeated(id));
    }
    observe(&method, route, &response, arrived);
    response
}

/// Who asks for what: the call of a tenant, or none for the internal ones.
fn check(request: &Request, request_id: &str, arrived: Instant) -> Result<Option<Call>, ApiError> {
    let path = request.uri().path();
    let Some(peer) = request.extensions().get::<PeerId>() else {
        return Err(ApiError::new(Code::Unauthenticated, "this port speaks mTLS: no certificate was shown"));
    };
    let Some(door) = Door::of(path) else {
        return Err(ApiError::new(Code::NotFound, "no such path on a shard"));
    };
    if !door.roles.contains(&peer.role) {
        let text = format!("a certificate of the role {:?} may not call this", peer.role);
        return Err(ApiError::new(Code::PermissionDenied, text));
    }
    if !door.of_tenant {
        return Ok(None);
    }
    Call::read(request.headers(), request_id, arrived).map(Some)
}

/// The gateway's; a call without one gets its own, so that it can be found.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(headers::REQUEST_ID).and_then(|v| v.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= 128 => id.to_owned(),
        _ => uuid::Uuid::now_v7().to_string(),
    }
}

fn observe(method: &http::Method, route: String, response: &Response, arrived: Instant) {
    // gRPC's own code, which is in the headers of an answer that is only an error.
    let grpc_code = response.headers().get("grpc-status").and_then(|v| v.to_str().ok());
    let code = grpc_code.map_or_else(|| response.status().as_u16().to_string(), |code| format!("grpc-{code}"));
    let method = method.as_str().to_owned();
    metrics::histogram!("conflux_shard_request_seconds", "route" => route.clone(), "method" => method.clone())
        .record(arrived.elapsed().as_secs_f64());
    metrics::counter!("conflux_shard_requests_total", "route" => route, "method" => method, "code" => code)
        .increment(1);
}

#[cfg(test)]
mod tests {
    use axum::{Router, middleware::from_fn, routing::any};
    use conflux_common::ids::{Epoch, TenantId};
    use conflux_proto::context::CallContext;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::serve::call::tests::principal;

    const ROLES: [Role; 4] = [Role::Gateway, Role::Shard, Role::Placement, Role::Operator];

    fn router() -> Router {
        Router::new().fallback(any(async || "reached")).layer(from_fn(admit))
    }

    fn request(path: &str, role: Option<Role>, with_context: bool) -> Request {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        if let Some(role) = role {
            let group = matches!(role, Role::Shard | Role::Placement).then(|| "g".parse().unwrap());
            request.extensions_mut().insert(PeerId {
                cluster: "c".parse().unwrap(),
                role,
                group,
                member: "m".parse().unwrap(),
            });
        }
        if with_context {
            CallContext {
                principal: principal(Some("acme"), &[]),
                tenant: Some((TenantId(1), Epoch(1))),
                request_id: "r1".into(),
                deadline: std::time::Duration::from_secs(1),
                idempotency: None,
            }
            .write(request.headers_mut());
        }
        request
    }

    async fn status(path: &str, role: Option<Role>, with_context: bool) -> StatusCode {
        router().oneshot(request(path, role, with_context)).await.unwrap().status()
    }

    /// Every path that this port serves, by what DESIGN section 9 says of it.
    fn table() -> Vec<(&'static str, Vec<Role>)> {
        vec![
            ("/api/v1/fetch/config/t/a/e/n", vec![Role::Gateway]),
            ("/api/v1/fetch/configs/t/a/e", vec![Role::Gateway]),
            ("/api/v1/mgt/t/configs", vec![Role::Gateway]),
            ("/api/v1/mgt/configs/c1/versions/1", vec![Role::Gateway]),
            ("/api/v1/tenants/t/apps/a/envs/e/configs/n", vec![Role::Gateway]),
            ("/conflux.v1.ConfigService/Fetch", vec![Role::Gateway]),
            ("/conflux.v1.ManagementService/PutConfig", vec![Role::Gateway]),
            ("/conflux.internal.v1.ShardService/Feed", vec![Role::Gateway]),
            ("/conflux.internal.v1.ShardService/History", vec![Role::Gateway]),
            ("/conflux.internal.v1.ShardService/ReleaseSet", vec![Role::Gateway]),
            ("/conflux.internal.v1.ShardService/EnsureTenant", vec![Role::Placement]),
            ("/conflux.internal.v1.ShardService/Loads", vec![Role::Placement]),
            ("/conflux.internal.v1.ShardService/ExportRows", vec![Role::Shard]),
            ("/_cluster/status", vec![Role::Operator, Role::Gateway]),
        ]
    }

    /// A role that a path is not for must not get through, whatever headers it sends.
    #[tokio::test]
    async fn each_path_is_open_to_its_roles_only() {
        for (path, allowed) in table() {
            for role in ROLES {
                let expected = if allowed.contains(&role) { StatusCode::OK } else { StatusCode::FORBIDDEN };
                assert_eq!(status(path, Some(role), true).await, expected, "{role:?} {path}");
            }
            assert_eq!(status(path, None, true).await, StatusCode::UNAUTHORIZED, "no certificate: {path}");
        }
    }

    /// A route that someone adds without a door must be closed, not open.
    #[tokio::test]
    async fn a_path_without_a_door_is_closed_to_all() {
        for path in ["/", "/api/v1/other", "/conflux.internal.v1.ShardService/New", "/metrics", "/_clusters"] {
            for role in ROLES {
                assert_eq!(status(path, Some(role), true).await, StatusCode::NOT_FOUND, "{role:?} {path}");
            }
        }
    }

    /// Without the gateway's word nobody knows for whom a call is: it must not be served as anybody's.
    #[tokio::test]
    async fn a_tenants_call_needs_the_gateways_word() {
        let response = router().oneshot(request("/api/v1/mgt/t/configs", Some(Role::Gateway), false)).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "INVALID_ARGUMENT");
        assert!(!body["error"]["request_id"].as_str().unwrap().is_empty());
    }

    /// gRPC clients understand only gRPC's errors.
    #[tokio::test]
    async fn a_grpc_call_is_refused_in_grpc() {
        let mut asked = request("/conflux.v1.ConfigService/Fetch", Some(Role::Operator), true);
        asked.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let response = router().oneshot(asked).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert_eq!(response.headers()[headers::REQUEST_ID], "r1");
    }
}
