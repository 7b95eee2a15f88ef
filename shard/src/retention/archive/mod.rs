//! Where versions go that retention gives up: a directory or S3-compatible object storage.

mod object;
mod settings;

use async_trait::async_trait;
use bytes::Bytes;
use conflux_common::ids::{ConfigId, Incarnation};
use conflux_proto::store;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use object::{ObjectArchive, open_s3};
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

/// The same, read back.
#[derive(Debug, Deserialize)]
struct Described {
    tenant_id: u64,
    config_id: String,
    version: u64,
    format: String,
    sha256: String,
    size: u64,
    description: String,
    created_by: String,
    created_ms: u64,
    #[serde(default)]
    schema: String,
}

/// Which version is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// The tenant's name.
    pub tenant: String,
    /// Its id.
    pub tenant_id: u64,
    /// Its life.
    pub incarnation: Incarnation,
    /// The config's id.
    pub config: ConfigId,
    /// The version's number.
    pub version: u64,
}

impl Sought {
    /// `<tenant>-<its id>/<incarnation>/<config id>/<version>`. The id, since a name may be another tenant's later.
    pub fn name(&self) -> String {
        let Sought { tenant, tenant_id, incarnation, config, version } = self;
        format!("{tenant}-{tenant_id}/{incarnation}/{config}/{version}")
    }

    /// The version that these two objects are, if they are whole and what was sought.
    fn read(&self, description: &[u8], content: Bytes) -> Result<(store::Version, Bytes), ArchiveError> {
        let refused = |why: String| ArchiveError { name: self.name(), why };
        let told: Described =
            serde_json::from_slice(description).map_err(|e| refused(format!("its description: {e}")))?;
        let sha256 = Bytes::from(Sha256::digest(&content).to_vec());
        let same = (told.tenant_id, told.config_id.as_str(), told.version)
            == (self.tenant_id, self.config.to_string().as_str(), self.version);
        if !same || told.sha256 != hex::encode(&sha256) {
            return Err(refused("its description is of another content: it is damaged".into()));
        }
        let version = store::Version {
            number: told.version,
            sha256,
            format: told.format,
            description: told.description,
            created_by: told.created_by,
            created_ms: told.created_ms,
            size: told.size,
            schema: told.schema,
            ..Default::default()
        };
        Ok((version, content))
    }
}

impl Archived {
    /// Of the object: see [`Sought::name`].
    pub fn name(&self) -> String {
        let (tenant, tenant_id, incarnation) = self.tenant.clone();
        let (config, version) = (ConfigId(self.config.id), self.version.number);
        Sought { tenant, tenant_id, incarnation: Incarnation(incarnation), config, version }.name()
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

/// The archive did not take or give it. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the archive fails at {name}: {why}")]
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

    /// A version that was kept, with its content; none: there is no such one.
    async fn find(&self, sought: &Sought) -> Result<Option<(store::Version, Bytes)>, ArchiveError>;
}
