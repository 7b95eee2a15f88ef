//! What a canonical path asks for: who answers it, for which tenant, and whether it changes anything.

use conflux_common::{
    error::{ApiError, Code},
    ids::RESERVED_TENANT_NAMES,
};
use http::Method;

use crate::{canonical::Target, respond::Style};

/// A call, as far as its first line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who answers.
    pub kind: Kind,
    /// The tenant as the path names it: not yet checked.
    pub tenant: Option<String>,
    /// The path with its names left out: for logs and metrics, which must not grow with the number of configs.
    pub template: &'static str,
}

/// Who answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The gateway itself, to anyone: is the process alive?
    Live,
    /// The gateway itself, to anyone: can it serve?
    Ready,
    /// `/openapi.json`, to anyone.
    Document,
    /// `/docs`, to anyone.
    Page,
    /// A fetch: by default of any replica.
    Fetch,
    /// A read of the management API: the leader, unless asked otherwise.
    Read,
    /// A change.
    Write,
    /// gRPC's fetch, whose level of consistency is in the message.
    GrpcFetch,
    /// The watch lane.
    Watch,
    /// gRPC health, to anyone.
    GrpcHealth,
    /// gRPC reflection.
    GrpcReflection,
    /// Operators' calls: not on this port, except in development.
    Operator,
}

/// The one call with an archive as its body.
pub const IMPORT: &str = "/api/v1/mgt/{t}/import";

/// The one call whose body holds several contents.
pub const CHANGESETS: &str = "/api/v1/mgt/{t}/changesets";

/// Reads the call. `None`: there is nothing of this name.
pub fn classify(method: &Method, target: &Target, style: Style) -> Result<Option<Call>, ApiError> {
    let segments = target.segments();
    if style == Style::Grpc || segments.first().is_some_and(|s| s.starts_with("conflux.v1.") || s.starts_with("grpc."))
    {
        return grpc(&segments, style).map(Some);
    }
    let known = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];
    if !known.contains(method) {
        return Err(ApiError::new(Code::Unimplemented, format!("the method {method} is not served here")));
    }
    Ok(rest(method, &segments))
}

fn rest(method: &Method, segments: &[&str]) -> Option<Call> {
    let read = matches!(*method, Method::GET | Method::HEAD);
    let by_method = if read { Kind::Read } else { Kind::Write };
    let call = |kind, tenant: Option<&str>, template| Some(Call { kind, tenant: tenant.map(str::to_owned), template });
    match segments {
        ["healthz" | "health" | "live"] if read => call(Kind::Live, None, "/healthz"),
        ["readyz" | "ready"] if read => call(Kind::Ready, None, "/readyz"),
        ["openapi.json"] if read => call(Kind::Document, None, "/openapi.json"),
        ["docs"] if read => call(Kind::Page, None, "/docs"),
        ["_cluster", ..] => call(Kind::Operator, None, "/_cluster"),
        ["api", "v1", "admin", ..] => call(Kind::Operator, None, "/api/v1/admin"),
        ["api", "v1", "fetch", "config", t, _, _, _] if read => {
            call(Kind::Fetch, Some(t), "/api/v1/fetch/config/{t}/{app}/{env}/{name}")
        }
        ["api", "v1", "fetch", "configs", t, _, _] if read => {
            call(Kind::Fetch, Some(t), "/api/v1/fetch/configs/{t}/{app}/{env}")
        }
        ["api", "v1", "watch"] if read => call(Kind::Watch, None, "/api/v1/watch"),
        ["api", "v1", "watch", t] if read => call(Kind::Watch, Some(t), "/api/v1/watch/{t}"),
        ["api", "v1", "tenants", t, "apps", _, "envs", _, "configs", _] => {
            call(by_method, Some(t), "/api/v1/tenants/{t}/apps/{app}/envs/{env}/configs/{name}")
        }
        ["api", "v1", "mgt", rest @ ..] if !rest.is_empty() => {
            // A path without a tenant begins with a word that cannot name one, whatever its case.
            let reserved = RESERVED_TENANT_NAMES.contains(&rest[0].to_ascii_lowercase().as_str());
            let tenant = (!reserved).then_some(rest[0]);
            call(by_method, tenant, management_template(if reserved { rest } else { &rest[1..] }))
        }
        _ => None,
    }
}

fn management_template(rest: &[&str]) -> &'static str {
    match rest {
        ["configs"] => "/api/v1/mgt/{t}/configs",
        ["configs", _] => "/api/v1/mgt/{t}/configs/{id}",
        ["configs", _, "versions"] => "/api/v1/mgt/{t}/configs/{id}/versions",
        ["configs", _, "versions", _] => "/api/v1/mgt/{t}/configs/{id}/versions/{n}",
        ["configs", _, "releases"] => "/api/v1/mgt/{t}/configs/{id}/releases",
        ["configs", _, "impact"] => "/api/v1/mgt/{t}/configs/{id}/impact",
        ["usage"] => "/api/v1/mgt/{t}/usage",
        ["usage", "unused"] => "/api/v1/mgt/{t}/usage/unused",
        ["compare"] => "/api/v1/mgt/{t}/compare",
        ["promote"] => "/api/v1/mgt/{t}/promote",
        ["export"] => "/api/v1/mgt/{t}/export",
        ["import"] => IMPORT,
        ["configs", _, "publish"] => "/api/v1/mgt/{t}/configs/{id}/publish",
        ["configs", _, "rollback"] => "/api/v1/mgt/{t}/configs/{id}/rollback",
        ["configs", _, "resolve"] => "/api/v1/mgt/{t}/configs/{id}/resolve",
        ["configs", _, "promotion"] => "/api/v1/mgt/{t}/configs/{id}/promotion",
        ["configs", _, "drafts"] => "/api/v1/mgt/{t}/configs/{id}/drafts",
        ["configs", _, "drafts", _] => "/api/v1/mgt/{t}/configs/{id}/drafts/{n}",
        ["changesets"] => CHANGESETS,
        _ => "/api/v1/mgt/{t}/..",
    }
}

fn grpc(segments: &[&str], style: Style) -> Result<Call, ApiError> {
    if style != Style::Grpc {
        return Err(ApiError::invalid("content-type", "gRPC calls carry application/grpc over HTTP/2"));
    }
    let (kind, template) = match segments {
        ["conflux.v1.ConfigService", "Fetch"] => (Kind::GrpcFetch, "/conflux.v1.ConfigService/Fetch"),
        ["conflux.v1.ConfigService", "Watch"] => (Kind::Watch, "/conflux.v1.ConfigService/Watch"),
        ["conflux.v1.ManagementService", method] => management(method)?,
        ["grpc.health.v1.Health", "Check" | "Watch" | "List"] => (Kind::GrpcHealth, "/grpc.health.v1.Health"),
        [
            "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection",
            "ServerReflectionInfo",
        ] => (Kind::GrpcReflection, "/grpc.reflection"),
        _ => return Err(unimplemented()),
    };
    Ok(Call { kind, tenant: None, template })
}

fn unimplemented() -> ApiError {
    ApiError::new(Code::Unimplemented, "there is no such gRPC method")
}

fn management(method: &str) -> Result<(Kind, &'static str), ApiError> {
    Ok(match method {
        "PutConfig" => (Kind::Write, "/conflux.v1.ManagementService/PutConfig"),
        "CreateConfig" => (Kind::Write, "/conflux.v1.ManagementService/CreateConfig"),
        "DeleteConfig" => (Kind::Write, "/conflux.v1.ManagementService/DeleteConfig"),
        "CreateVersion" => (Kind::Write, "/conflux.v1.ManagementService/CreateVersion"),
        "SetReleases" => (Kind::Write, "/conflux.v1.ManagementService/SetReleases"),
        "UpdateConfig" => (Kind::Write, "/conflux.v1.ManagementService/UpdateConfig"),
        "Publish" => (Kind::Write, "/conflux.v1.ManagementService/Publish"),
        "Rollback" => (Kind::Write, "/conflux.v1.ManagementService/Rollback"),
        "ApplyChangeset" => (Kind::Write, "/conflux.v1.ManagementService/ApplyChangeset"),
        "Resolve" => (Kind::Read, "/conflux.v1.ManagementService/Resolve"),
        "GetConfig" => (Kind::Read, "/conflux.v1.ManagementService/GetConfig"),
        "ListConfigs" => (Kind::Read, "/conflux.v1.ManagementService/ListConfigs"),
        "GetVersion" => (Kind::Read, "/conflux.v1.ManagementService/GetVersion"),
        "ListVersions" => (Kind::Read, "/conflux.v1.ManagementService/ListVersions"),
        "GetReleases" => (Kind::Read, "/conflux.v1.ManagementService/GetReleases"),
        _ => return Err(unimplemented()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::canonical;

    fn classified(method: Method, path: &str, style: Style) -> Result<Option<Call>, ApiError> {
        classify(&method, &canonical(path.as_bytes()).unwrap(), style)
    }

    #[test]
    fn rest_paths() {
        // The table of DESIGN section 8: who answers, and for which tenant.
        for (method, path, kind, tenant) in [
            (Method::GET, "/api/v1/fetch/config/acme/a/prod/x.yaml", Kind::Fetch, Some("acme")),
            (Method::GET, "/api/v1/fetch/configs/acme/a/prod", Kind::Fetch, Some("acme")),
            (Method::PUT, "/api/v1/tenants/acme/apps/a/envs/e/configs/x", Kind::Write, Some("acme")),
            (Method::POST, "/api/v1/mgt/acme/configs", Kind::Write, Some("acme")),
            (Method::GET, "/api/v1/mgt/acme/configs", Kind::Read, Some("acme")),
            (Method::GET, "/api/v1/mgt/configs/c1", Kind::Read, None),
            (Method::GET, "/api/v1/mgt/CONFIGS/c1", Kind::Read, None),
            (Method::DELETE, "/api/v1/mgt/acme/configs/c1", Kind::Write, Some("acme")),
            (Method::POST, "/api/v1/mgt/acme/import", Kind::Write, Some("acme")),
            (Method::GET, "/api/v1/mgt/acme/export", Kind::Read, Some("acme")),
            (Method::PATCH, "/api/v1/mgt/acme/configs/c1", Kind::Write, Some("acme")),
            (Method::POST, "/api/v1/mgt/acme/changesets", Kind::Write, Some("acme")),
            (Method::POST, "/api/v1/mgt/changesets", Kind::Write, None),
            (Method::GET, "/api/v1/mgt/configs/c1/resolve", Kind::Read, None),
            (Method::GET, "/api/v1/watch/acme", Kind::Watch, Some("acme")),
            (Method::GET, "/api/v1/watch", Kind::Watch, None),
            (Method::GET, "/healthz", Kind::Live, None),
            (Method::GET, "/ready", Kind::Ready, None),
            (Method::GET, "/openapi.json", Kind::Document, None),
            (Method::GET, "/docs", Kind::Page, None),
            (Method::GET, "/api/v1/admin/tenants", Kind::Operator, None),
            (Method::POST, "/_cluster/a/leader/transfer", Kind::Operator, None),
        ] {
            let call = classified(method, path, Style::Rest).unwrap().unwrap_or_else(|| panic!("{path}"));
            assert_eq!((call.kind, call.tenant.as_deref()), (kind, tenant), "{path}");
        }
        for path in ["/", "/api", "/api/v1/mgt", "/api/v2/mgt/acme", "/api/v1/fetch/config/acme/a/b", "/metrics"] {
            assert_eq!(classified(Method::GET, path, Style::Rest).unwrap(), None, "{path}");
        }
        assert!(classified(Method::TRACE, "/healthz", Style::Rest).is_err());
    }

    #[test]
    fn an_unknown_grpc_method_is_unimplemented() {
        // reference/attacks.md, line 12: it must never fall through to something else.
        for path in
            ["/conflux.v1.ConfigService/Nothing", "/conflux.internal.v1.ShardService/Feed", "/", "/api/v1/watch"]
        {
            let error = classified(Method::POST, path, Style::Grpc).unwrap_err();
            assert_eq!(error.code, Code::Unimplemented, "{path}");
        }
        assert!(classified(Method::POST, "/conflux.v1.ConfigService/Fetch", Style::Rest).is_err());
    }

    #[test]
    fn every_public_grpc_method_is_known() {
        // A method that the shard learnt and the gateway did not would be UNIMPLEMENTED for ever.
        use prost::Message;
        let set = prost_types::FileDescriptorSet::decode(conflux_proto::v1::FILE_DESCRIPTOR_SET).unwrap();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let call = classified(Method::POST, &path, Style::Grpc).unwrap().unwrap();
                    assert_eq!(call.template, path);
                }
            }
        }
    }
}
