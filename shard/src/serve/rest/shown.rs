//! What REST shows of configs, versions and rules. Stable: fields are only added.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use conflux_common::{error::FieldProblem, release::ReleaseRule};
use conflux_proto::{release::from_wire, v1};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::serve::fetching::FetchAllAnswer;

/// What of the old versions is kept. One that a rule points at or that is promoted later, the latest, and the one that a rollback goes back
/// to always are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// At most so many; 0 or absent: all.
    #[serde(default)]
    max_versions: u32,
    /// Not older than so many days; 0 or absent: all.
    #[serde(default)]
    max_age_days: u32,
}

impl From<Retention> for v1::Retention {
    fn from(r: Retention) -> Self {
        Self { max_versions: r.max_versions, max_age_days: r.max_age_days }
    }
}

impl From<v1::Retention> for Retention {
    fn from(r: v1::Retention) -> Self {
        Self { max_versions: r.max_versions, max_age_days: r.max_age_days }
    }
}

/// A config's record. It holds no content.
#[derive(Debug, Serialize, ToSchema)]
pub struct Config {
    /// Never used again, unlike the name.
    #[schema(examples("c1"))]
    id: String,
    app: String,
    env: String,
    name: String,
    #[schema(examples("yaml"))]
    format: String,
    description: String,
    tags: Vec<String>,
    /// 0: there is none yet.
    latest_version: u64,
    /// How many versions are kept.
    versions: u64,
    /// What of the old versions is kept; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<Retention>,
    releases: Vec<ReleaseRule>,
    /// Milliseconds since 1970.
    created_ms: u64,
    created_by: String,
    /// Milliseconds since 1970.
    updated_ms: u64,
    /// For `If-Match`.
    etag: String,
    /// The tenant's revision of its last change.
    revision: String,
    /// A JSON Schema or, for flat formats, the shorthand; empty: none.
    schema: String,
    /// The version that becomes the default by itself; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    promotion: Option<Promotion>,
}

/// A version that becomes the default by itself, unless the rules change before.
#[derive(Debug, Serialize, ToSchema)]
pub struct Promotion {
    version: u64,
    /// Milliseconds since 1970.
    due_ms: u64,
    created_by: String,
}

impl From<&v1::Promotion> for Promotion {
    fn from(p: &v1::Promotion) -> Self {
        Self { version: p.version, due_ms: p.due_ms, created_by: p.created_by.clone() }
    }
}

/// What is wrong with a field.
#[derive(Debug, Serialize, ToSchema)]
pub struct Violation {
    /// A field of the body, or within a content the JSON pointer.
    field: String,
    message: String,
}

impl From<FieldProblem> for Violation {
    fn from(p: FieldProblem) -> Self {
        Self { field: p.field, message: p.description }
    }
}

impl From<&v1::Config> for Config {
    fn from(config: &v1::Config) -> Self {
        let c = config.clone();
        Self {
            id: c.id,
            app: c.app,
            env: c.env,
            name: c.name,
            format: c.format,
            description: c.description,
            tags: c.tags,
            latest_version: c.latest_version,
            versions: c.versions,
            retention: c.retention.map(Retention::from),
            releases: rules(&c.releases),
            created_ms: c.created_ms,
            created_by: c.created_by,
            updated_ms: c.updated_ms,
            etag: c.etag,
            revision: c.revision,
            schema: c.schema,
            promotion: c.promotion.as_ref().map(Promotion::from),
        }
    }
}

/// Release rules as they are shown. Each was checked when it was stored.
pub fn rules(wire: &[v1::ReleaseRule]) -> Vec<ReleaseRule> {
    wire.iter().filter_map(|rule| from_wire(rule).ok()).collect()
}

/// A page of configs, in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub struct Configs {
    configs: Vec<Config>,
    /// For the next page; empty: this was the last.
    next_cursor: String,
}

impl From<&v1::ListConfigsResponse> for Configs {
    fn from(page: &v1::ListConfigsResponse) -> Self {
        Self { configs: page.configs.iter().map(Config::from).collect(), next_cursor: page.next_cursor.clone() }
    }
}

/// A content in JSON: one of the two is there.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Content {
    /// The content, where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// The content, where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<String>,
}

impl From<&Bytes> for Content {
    fn from(content: &Bytes) -> Self {
        match std::str::from_utf8(content) {
            Ok(text) => Self { content: Some(text.to_owned()), content_base64: None },
            Err(_) => Self { content: None, content_base64: Some(STANDARD.encode(content)) },
        }
    }
}

/// A version of a config.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    config_id: String,
    /// 1, 2, 3 .. within its config.
    number: u64,
    /// `sha256:` and 64 hexadecimal digits.
    hash: String,
    format: String,
    description: String,
    created_by: String,
    /// Milliseconds since 1970.
    created_ms: u64,
    /// Bytes of its content.
    size: u64,
}

impl From<&v1::Version> for Version {
    fn from(version: &v1::Version) -> Self {
        // The content stays where it is: it may be large.
        Self {
            config_id: version.config_id.clone(),
            number: version.number,
            hash: version.hash.clone(),
            format: version.format.clone(),
            description: version.description.clone(),
            created_by: version.created_by.clone(),
            created_ms: version.created_ms,
            size: version.size,
        }
    }
}

/// A version with its content.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeVersion {
    #[serde(flatten)]
    version: Version,
    /// Retention gave it up, and it was read back from the archive: nothing can release it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    archived: bool,
    #[serde(flatten)]
    content: Content,
}

impl From<&v1::Version> for WholeVersion {
    fn from(version: &v1::Version) -> Self {
        Self { version: version.into(), archived: version.archived, content: (&version.content).into() }
    }
}

/// A page of versions, newest first, without their contents.
#[derive(Debug, Serialize, ToSchema)]
pub struct Versions {
    versions: Vec<Version>,
    /// For the next page; empty: this was the last.
    next_cursor: String,
}

impl From<&v1::ListVersionsResponse> for Versions {
    fn from(page: &v1::ListVersionsResponse) -> Self {
        Self { versions: page.versions.iter().map(Version::from).collect(), next_cursor: page.next_cursor.clone() }
    }
}

/// The release rules of a config: who is served which version.
#[derive(Debug, Serialize, ToSchema)]
pub struct Releases {
    config_id: String,
    rules: Vec<ReleaseRule>,
    /// For `If-Match`.
    etag: String,
}

impl From<&v1::Releases> for Releases {
    fn from(releases: &v1::Releases) -> Self {
        let v1::Releases { config_id, etag, .. } = releases.clone();
        Self { config_id, rules: rules(&releases.rules), etag }
    }
}

/// What a write made.
#[derive(Debug, Serialize, ToSchema)]
pub struct Written {
    config_id: String,
    /// The version made or now latest; 0 for a deletion.
    version: u64,
    /// The tenant's revision of this change.
    revision: String,
    /// The config's, for `If-Match`; empty for a deletion.
    etag: String,
    /// Whether the config is new.
    created: bool,
    /// Of the content; empty where there is none.
    hash: String,
    /// The draft that was kept or dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    draft: Option<u64>,
    /// When the version becomes the default by itself, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    promotion_due_ms: Option<u64>,
}

impl From<&v1::WriteResponse> for Written {
    fn from(made: &v1::WriteResponse) -> Self {
        let v1::WriteResponse { config_id, version, revision, etag, created, hash, .. } = made.clone();
        let given = |n: u64| (n > 0).then_some(n);
        let (draft, promotion_due_ms) = (given(made.draft), given(made.promotion_due_ms));
        Self { config_id, version, revision, etag, created, hash, draft, promotion_due_ms }
    }
}

/// What is released to a client of one config.
#[derive(Debug, Serialize, ToSchema)]
pub struct Fetched {
    name: String,
    config_id: String,
    version: u64,
    format: String,
    media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    hash: String,
    /// Of the content, for `If-None-Match` of a fetch.
    etag: String,
    #[serde(flatten)]
    content: Content,
}

impl From<&(String, crate::query::Fetched)> for Fetched {
    fn from((name, fetched): &(String, crate::query::Fetched)) -> Self {
        Self {
            name: name.clone(),
            config_id: fetched.config_id.to_string(),
            version: fetched.version,
            format: fetched.format.clone(),
            media_type: fetched.media_type.clone(),
            hash: fetched.hash.clone(),
            etag: fetched.etag.clone(),
            content: (&fetched.content).into(),
        }
    }
}

/// A page of what is released to a client in an environment, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct FetchedAll {
    configs: Vec<Fetched>,
    /// For the next page; empty: this was the last.
    next_cursor: String,
    /// The tenant's revision that this page reflects.
    revision: String,
    epoch: u64,
    /// How long ago, in milliseconds, a quorum confirmed that state.
    age_ms: u64,
}

impl From<&FetchAllAnswer> for FetchedAll {
    fn from(answer: &FetchAllAnswer) -> Self {
        Self {
            configs: answer.configs.iter().map(Fetched::from).collect(),
            next_cursor: answer.next_cursor.clone(),
            revision: answer.stamp.mark.to_string(),
            epoch: answer.stamp.epoch.0,
            age_ms: answer.stamp.age_ms(),
        }
    }
}
