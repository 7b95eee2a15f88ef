//! What REST answers: JSON shapes and headers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use conflux_common::headers;
use conflux_proto::v1;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{
    fetching::{FetchAllAnswer, FetchAnswer},
    reading::Stamp,
};

fn put(out: &mut HeaderMap, name: impl Into<HeaderName>, value: &str) {
    // Everything that comes here was made by this service from checked parts.
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name.into(), value);
    }
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

/// Which state the answer reflects.
fn stamp(out: &mut HeaderMap, stamp: &Stamp) {
    put(out, name(headers::EPOCH), &stamp.epoch.to_string());
    put(out, name(headers::REVISION), &stamp.mark.to_string());
    put(out, name(headers::AGE_MS), &stamp.age_ms().to_string());
}

fn private(out: &mut HeaderMap) {
    put(out, header::CACHE_CONTROL, "private");
    put(out, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
}

/// A fetched content as it was put, or 304.
pub fn fetched(answer: FetchAnswer) -> Response {
    let FetchAnswer { stamp: at, fetched, not_modified } = answer;
    let mut response = match not_modified {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Response::new(Body::from(fetched.content)),
    };
    let out = response.headers_mut();
    stamp(out, &at);
    private(out);
    put(out, header::ETAG, &fetched.etag);
    put(out, name(headers::CONFIG_VERSION), &fetched.version.to_string());
    put(out, name(headers::CONFIG_HASH), &fetched.hash);
    if !not_modified {
        put(out, header::CONTENT_TYPE, &fetched.media_type);
    }
    response
}

/// JSON that reflects a state.
pub fn json(at: &Stamp, body: &Value) -> Response {
    let mut response = plain(StatusCode::OK, body);
    stamp(response.headers_mut(), at);
    response
}

fn plain(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    private(response.headers_mut());
    put(response.headers_mut(), header::CONTENT_TYPE, "application/json");
    response
}

/// The same with the config's ETag.
pub fn json_with_etag(at: &Stamp, etag: &str, body: &Value) -> Response {
    let mut response = json(at, body);
    put(response.headers_mut(), header::ETAG, etag);
    response
}

/// What a write made: 201 for a new config or version of its own, else 200.
pub fn written(answer: &v1::WriteResponse, status: StatusCode, location: Option<String>) -> Response {
    let mut response = plain(status, &write_shape(answer));
    let out = response.headers_mut();
    put(out, name(headers::EPOCH), &answer.epoch.to_string());
    put(out, name(headers::REVISION), &answer.revision);
    if !answer.etag.is_empty() {
        put(out, header::ETAG, &answer.etag);
    }
    if answer.version > 0 {
        put(out, name(headers::CONFIG_VERSION), &answer.version.to_string());
    }
    if !answer.hash.is_empty() {
        put(out, name(headers::CONFIG_HASH), &answer.hash);
    }
    if let Some(location) = location {
        put(out, header::LOCATION, &location);
    }
    response
}

fn write_shape(answer: &v1::WriteResponse) -> Value {
    json!({
        "config_id": answer.config_id,
        "version": answer.version,
        "revision": answer.revision,
        "etag": answer.etag,
        "created": answer.created,
        "hash": answer.hash,
    })
}

/// A config's record.
pub fn config_shape(config: &v1::Config) -> Value {
    json!({
        "id": config.id,
        "app": config.app,
        "env": config.env,
        "name": config.name,
        "format": config.format,
        "description": config.description,
        "tags": config.tags,
        "latest_version": config.latest_version,
        "releases": rules_shape(&config.releases),
        "created_ms": config.created_ms,
        "created_by": config.created_by,
        "updated_ms": config.updated_ms,
        "etag": config.etag,
        "revision": config.revision,
    })
}

/// A page of configs.
pub fn configs_shape(page: &v1::ListConfigsResponse) -> Value {
    json!({ "configs": page.configs.iter().map(config_shape).collect::<Vec<_>>(), "next_cursor": page.next_cursor })
}

/// Release rules.
pub fn rules_shape(rules: &[v1::ReleaseRule]) -> Value {
    let rule = |rule: &v1::ReleaseRule| {
        let mut shape = json!({ "labels": rule.labels, "version": rule.version, "priority": rule.priority });
        if let Some(p) = &rule.percentage {
            shape["percentage"] = json!({ "basis_points": p.basis_points, "sticky_label": p.sticky_label });
        }
        shape
    };
    rules.iter().map(rule).collect()
}

/// The release rules of a config.
pub fn releases_shape(releases: &v1::Releases) -> Value {
    json!({ "config_id": releases.config_id, "rules": rules_shape(&releases.rules), "etag": releases.etag })
}

/// A version, with its content where that is shown.
pub fn version_shape(version: &v1::Version, with_content: bool) -> Value {
    let mut shape = json!({
        "config_id": version.config_id,
        "number": version.number,
        "hash": version.hash,
        "format": version.format,
        "description": version.description,
        "created_by": version.created_by,
        "created_ms": version.created_ms,
        "size": version.size,
    });
    if let (true, Value::Object(map)) = (with_content, &mut shape) {
        content_shape(map, &version.content);
    }
    shape
}

/// A page of versions, without contents.
pub fn versions_shape(page: &v1::ListVersionsResponse) -> Value {
    let versions: Vec<Value> = page.versions.iter().map(|v| version_shape(v, false)).collect();
    json!({ "versions": versions, "next_cursor": page.next_cursor })
}

/// `content` where it is text, else `content_base64`.
fn content_shape(map: &mut Map<String, Value>, content: &Bytes) {
    match std::str::from_utf8(content) {
        Ok(text) => map.insert("content".into(), text.into()),
        Err(_) => map.insert("content_base64".into(), STANDARD.encode(content).into()),
    };
}

/// What is released in an environment.
pub fn fetched_all_shape(answer: &FetchAllAnswer) -> Value {
    let config = |(name, fetched): &(String, crate::query::Fetched)| {
        let mut shape = json!({
            "name": name,
            "config_id": fetched.config_id.to_string(),
            "version": fetched.version,
            "format": fetched.format,
            "media_type": fetched.media_type,
            "hash": fetched.hash,
            "etag": fetched.etag,
        });
        if let Value::Object(map) = &mut shape {
            content_shape(map, &fetched.content);
        }
        shape
    };
    json!({
        "configs": answer.configs.iter().map(config).collect::<Vec<_>>(),
        "next_cursor": answer.next_cursor,
        "revision": answer.stamp.mark.to_string(),
        "epoch": answer.stamp.epoch,
        "age_ms": answer.stamp.age_ms(),
    })
}
