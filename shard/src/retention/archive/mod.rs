//! Where versions go that retention gives up: a directory or S3-compatible object storage.

mod object;
mod settings;

use async_trait::async_trait;
use bytes::Bytes;
use conflux_common::ids::ConfigId;
use conflux_proto::store;
use serde::Serialize;

pub use object::ObjectArchive;
pub use settings::{ArchiveSettings, S3Settings};

/// A version on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Archived {
    /// Whose: name, id and life.
    pub tenant: (String, u64, u64),
    /// Of which config.
    pub config: store::Config,
    /// Its record.
    pub version: store::Version,
    /// Its content.
    pub content: Bytes,
}

/// What is said of an archived version in the object beside it.
#[derive(Debug, Serialize)]
struct Description<'a> {
    tenant: &'a str,
    tenant_id: u64,
    incarnation: u64,
    config_id: String,
    app: &'a str,
    env: &'a str,
    name: &'a str,
    version: u64,
    format: &'a str,
    sha256: String,
    size: u64,
    description: &'a str,
    created_by: &'a str,
    created_ms: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    schema: &'a str,
}

impl Archived {
    /// `<tenant>-<its id>/<incarnation>/<config id>/<version>`. The id, since a name may be another tenant's later.
    pub fn name(&self) -> String {
        let (tenant, id, incarnation) = &self.tenant;
        format!("{tenant}-{id}/{incarnation}/{}/{}", ConfigId(self.config.id), self.version.number)
    }

    /// The record as JSON.
    pub fn description(&self) -> Vec<u8> {
        let (tenant, tenant_id, incarnation) = &self.tenant;
        let described = Description {
            tenant,
            tenant_id: *tenant_id,
            incarnation: *incarnation,
            config_id: ConfigId(self.config.id).to_string(),
            app: &self.config.app,
            env: &self.config.env,
            name: &self.config.name,
            version: self.version.number,
            format: &self.version.format,
            sha256: hex::encode(&self.version.sha256),
            size: self.version.size,
            description: &self.version.description,
            created_by: &self.version.created_by,
            created_ms: self.version.created_ms,
            schema: &self.version.schema,
        };
        // Texts and numbers: there is nothing in it that JSON does not have.
        serde_json::to_vec_pretty(&described).unwrap_or_default()
    }
}

/// The archive did not take it. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the archive does not take {name}: {why}")]
pub struct ArchiveError {
    /// Of the object.
    pub name: String,
    /// What the storage said.
    pub why: String,
}

/// Keeps what it is given. The same version given again, after a crash, is the same object.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// Returns once the version and its description are kept.
    async fn keep(&self, version: &Archived) -> Result<(), ArchiveError>;
}
