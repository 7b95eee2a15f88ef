//! What a client with these labels is served.

use bytes::Bytes;
use conflux_common::{error::ApiError, ids::ConfigId, labels::Labels, release};
use conflux_proto::{store, v1};
use conflux_raft::{FatalError, Read};

use super::{TenantRow, config::not_found, config_by_name, failed};
use crate::{
    format::Format,
    store::{content, version},
};

/// Which version a client is served, without its content: enough to answer 304.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The config.
    pub config: store::Config,
    /// The version that its rules give to the labels.
    pub version: store::ServedVersion,
}

/// A fetched content with what is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The config's id.
    pub config_id: ConfigId,
    /// The version's number.
    pub version: u64,
    /// The content.
    pub content: Bytes,
    /// `json`, `yaml`, ..
    pub format: String,
    /// The media type that the content is served as.
    pub media_type: String,
    /// The content's ETag, quoted: of hash and media type.
    pub etag: String,
    /// The content's hash, as it is shown: `sha256:<hex>`.
    pub hash: String,
}

impl Resolved {
    /// The media type that the content is served as.
    pub fn media_type(&self) -> String {
        match self.version.media_type.as_str() {
            "" => Format::from_name(&self.version.format)
                .map_or("application/octet-stream", Format::media_type)
                .to_owned(),
            given => given.to_owned(),
        }
    }

    /// The content's ETag, quoted.
    pub fn etag(&self) -> String {
        content_etag(&self.version.sha256, &self.media_type())
    }

    /// The content's hash, as it is shown.
    pub fn hash(&self) -> String {
        shown_hash(&self.version.sha256)
    }

    /// Reads the content.
    pub fn fetched(&self, rows: &dyn Read, tenant: &TenantRow) -> Result<Fetched, ApiError> {
        Ok(Fetched {
            config_id: ConfigId(self.config.id),
            version: self.version.number,
            content: content_of(rows, tenant, self.version.number, &self.version.sha256)?,
            format: self.version.format.clone(),
            media_type: self.media_type(),
            etag: self.etag(),
            hash: self.hash(),
        })
    }
}

/// The ETag of a content, quoted. The media type is part of it, since the same bytes mean something else under another.
pub fn content_etag(sha256: &[u8], media_type: &str) -> String {
    let kind = media_type.bytes().fold(0u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(b)));
    format!("\"{}-{kind:08x}\"", hex::encode(sha256))
}

/// `sha256:<hex>`; empty for no hash.
pub(crate) fn shown_hash(sha256: &[u8]) -> String {
    if sha256.is_empty() { String::new() } else { format!("sha256:{}", hex::encode(sha256)) }
}

/// The content of a version.
pub(super) fn content_of(rows: &dyn Read, tenant: &TenantRow, version: u64, sha256: &[u8]) -> Result<Bytes, ApiError> {
    let missing = || FatalError(format!("the content of version {version} is missing"));
    content::get(rows, tenant.id, sha256).and_then(|found| found.ok_or_else(missing)).map_err(failed)
}

/// What a fetch needs of this version: of the config's own row, or of the version's where there is no copy.
pub(super) fn served(
    rows: &dyn Read,
    tenant: &TenantRow,
    config: &store::Config,
    number: u64,
) -> Result<Option<store::ServedVersion>, ApiError> {
    if let Some(copy) = config.served.iter().find(|copy| copy.number == number) {
        return Ok(Some(copy.clone()));
    }
    Ok(version::get(rows, tenant.id, config.id, number).map_err(failed)?.map(version::served))
}

/// Rules as they are stored to rules as they are evaluated.
pub(crate) fn rules_of(stored: &[v1::ReleaseRule]) -> Result<Vec<release::ReleaseRule>, ApiError> {
    stored.iter().map(conflux_proto::release::from_wire).collect()
}

/// Which version of the config a client with these labels is served; NOT_FOUND where the config does not exist or none
/// of its rules admits the labels.
pub fn resolve(
    rows: &dyn Read,
    tenant: &TenantRow,
    app: &str,
    env: &str,
    name: &str,
    labels: &Labels,
) -> Result<Resolved, ApiError> {
    let config = config_by_name(rows, tenant, app, env, name)?;
    let nothing = || not_found(format_args!("a version of {app}/{env}/{name} released to these labels"));
    let number = release::evaluate(config.id, &rules_of(&config.rules)?, labels).ok_or_else(nothing)?;
    let version = served(rows, tenant, &config, number)?.ok_or_else(nothing)?;
    Ok(Resolved { config, version })
}

/// [`resolve`] with the content.
pub fn fetch(
    rows: &dyn Read,
    tenant: &TenantRow,
    app: &str,
    env: &str,
    name: &str,
    labels: &Labels,
) -> Result<Fetched, ApiError> {
    resolve(rows, tenant, app, env, name, labels)?.fetched(rows, tenant)
}
