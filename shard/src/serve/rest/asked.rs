//! The parts of a request, read before a handler sees it.

use std::{collections::HashMap, str::FromStr};

use axum::extract::{FromRequestParts, Path, Query};
use conflux_common::{
    error::{ApiError, Code},
    fetch,
    ids::InvalidName,
    labels::Labels,
};
use http::{HeaderMap, request::Parts};

use crate::serve::{
    admission::Refused,
    call::Call,
    conditions::{Demand, Level},
    managing::PageAsked,
};

/// Who asks, and what stands in path, query and headers.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub call: Call,
    path: HashMap<String, String>,
    query: HashMap<String, String>,
    /// All headers.
    pub headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let mut call = parts
            .extensions
            .get::<Call>()
            .cloned()
            .ok_or_else(|| ApiError::new(Code::Internal, "a call passed the port without being admitted"))?;
        let Path(path): Path<HashMap<String, String>> =
            Path::from_request_parts(parts, state).await.map_err(|e| ApiError::invalid("path", e.body_text()))?;
        if let Some(tenant) = path.get("tenant") {
            call.named = Some(tenant.parse().map_err(ApiError::from)?);
        }
        let Query(pairs): Query<Vec<(String, String)>> =
            Query::try_from_uri(&parts.uri).map_err(|e| ApiError::invalid("query", e.body_text()))?;
        let mut query = HashMap::new();
        for (name, value) in pairs {
            if query.insert(name.clone(), value).is_some() {
                return Err(ApiError::invalid(name, "given twice").into());
            }
        }
        Ok(Self { call, path, query, headers: parts.headers.clone() })
    }
}

impl Asked {
    /// A part of the path as what it must be.
    pub fn part<T: FromStr<Err = InvalidName>>(&self, name: &str) -> Result<T, ApiError> {
        let missing = || ApiError::new(Code::Internal, format!("the route has no part {name}"));
        Ok(self.path.get(name).ok_or_else(missing)?.parse()?)
    }

    /// A number in the path, from 1.
    pub fn number(&self, name: &'static str) -> Result<u64, ApiError> {
        let text = self.path.get(name).map_or("", String::as_str);
        let canonical = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| canonical);
        number.ok_or_else(|| ApiError::invalid(name, "a number from 1"))
    }

    /// A query parameter; empty where it is missing.
    pub fn param(&mut self, name: &str) -> String {
        self.query.remove(name).unwrap_or_default()
    }

    /// `true` or `false`; false where it is missing.
    pub fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.param(name).as_str() {
            "" | "false" => Ok(false),
            "true" => Ok(true),
            _ => Err(ApiError::invalid(name, "true or false")),
        }
    }

    /// A query parameter that is the number of a version, from 1; none where it is missing.
    pub fn version(&mut self, name: &'static str) -> Result<Option<u64>, ApiError> {
        let text = self.param(name);
        let number = || text.parse().ok().filter(|n| *n > 0).ok_or_else(|| ApiError::invalid(name, "a number from 1"));
        if text.is_empty() { Ok(None) } else { number().map(Some) }
    }

    /// The query parameters whose names begin so, without that beginning.
    pub fn params_below(&mut self, prefix: &str) -> Vec<(String, String)> {
        let names: Vec<String> = self.query.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let taken = names.into_iter().filter_map(|name| self.query.remove_entry(&name));
        taken.map(|(name, value)| (name[prefix.len()..].to_owned(), value)).collect()
    }

    /// `consistency` and `min_revision`.
    pub fn demand(&mut self, default: Level) -> Result<Demand, ApiError> {
        Demand::parse(Some(&self.param("consistency")), Some(&self.param("min_revision")), default)
    }

    /// `limit` and `cursor`.
    pub fn page(&mut self) -> Result<PageAsked, ApiError> {
        let limit = self.param("limit");
        let wrong = |_| ApiError::invalid("limit", format!("1 to {}", crate::query::MAX_PAGE));
        let limit = if limit.is_empty() { 0 } else { limit.parse().map_err(wrong)? };
        Ok(PageAsked { limit, cursor: self.param("cursor") })
    }

    /// Refuses parameters that nobody took: a misspelt one would silently have no effect.
    pub fn no_more_params(&self) -> Result<(), ApiError> {
        match self.query.keys().min() {
            None => Ok(()),
            Some(name) => Err(ApiError::invalid(name.clone(), "no such query parameter here")),
        }
    }

    /// The labels in `X-Client-Label-<Name>`.
    pub fn labels(&self) -> Result<Labels, ApiError> {
        fetch::labels(&self.headers)
    }

    /// A text header; empty where it is missing.
    pub fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::Request};

    use super::*;

    async fn asked(uri: &str, labels: &[(&'static str, &str)]) -> Result<Asked, ApiError> {
        let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        for (name, value) in labels {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let call = Call {
            principal: crate::serve::call::tests::principal(Some("acme"), &[]),
            tenant: conflux_common::ids::TenantId(1),
            epoch: conflux_common::ids::Epoch(1),
            named: None,
            request_id: "r".into(),
            trace_id: String::new(),
            idempotency: None,
            until: tokio::time::Instant::now(),
        };
        request.extensions_mut().insert(call);
        let (tell, told) = tokio::sync::oneshot::channel();
        let tell = std::sync::Arc::new(parking_lot::Mutex::new(Some(tell)));
        let handler = axum::routing::any(async move |asked: Result<Asked, Refused>| {
            let _ = tell.lock().take().unwrap().send(asked.map_err(|e| e.0));
        });
        let router = axum::Router::new().route("/x/{tenant}/{number}", handler);
        tower::ServiceExt::oneshot(router, request).await.unwrap();
        told.await.unwrap()
    }

    /// Parameters are taken or refused, never ignored.
    #[tokio::test]
    async fn unknown_and_repeated_parameters_are_refused() {
        let mut good = asked("/x/acme/7?limit=5&cursor=abc", &[]).await.unwrap();
        let page = good.page().unwrap();
        assert_eq!((page.limit, page.cursor.as_str()), (5, "abc"));
        assert!(good.no_more_params().is_ok());
        let typo = asked("/x/acme/7?consistancy=leader", &[]).await.unwrap();
        assert_eq!(typo.no_more_params().unwrap_err().details[0].field, "consistancy");
        assert!(asked("/x/acme/7?limit=1&limit=2", &[]).await.is_err());
        assert!(asked("/x/acme/7?limit=x", &[]).await.unwrap().page().is_err());
    }

    /// The path's tenant is a name like any other: what cannot be one is refused.
    #[tokio::test]
    async fn parts_of_the_path_are_checked() {
        assert_eq!(asked("/x/acme/7", &[]).await.unwrap().number("number").unwrap(), 7);
        for bad in ["/x/acme/07", "/x/acme/0", "/x/acme/-1", "/x/acme/+1"] {
            assert!(asked(bad, &[]).await.unwrap().number("number").is_err(), "{bad}");
        }
        for bad in ["/x/a%2fb/7", "/x/%00/7", "/x/admin/7"] {
            assert_eq!(asked(bad, &[]).await.unwrap_err().code, Code::InvalidArgument, "{bad}");
        }
    }

    /// Labels decide what a client is served: a header given twice is ambiguous.
    #[tokio::test]
    async fn labels_come_from_their_headers() {
        let one = asked("/x/acme/7", &[("x-client-label-region", "eu"), ("accept", "*/*")]).await.unwrap();
        assert_eq!(one.labels().unwrap().get("region"), Some("eu"));
        let twice = [("x-client-label-region", "eu"), ("x-client-label-region", "us")];
        assert!(asked("/x/acme/7", &twice).await.unwrap().labels().is_err());
    }
}
