//! A content as it is sent: its format, syntax, schema and hash, before anything is proposed.

use bytes::Bytes;
use conflux_common::error::{ApiError, Code};
use conflux_proto::store;
use sha2::{Digest, Sha256};

use crate::{
    format::{self, Format},
    machine::limits::MAX_CONTENT_BYTES,
    schema,
};

/// Contents above this are checked off the runtime, and all that have a schema.
const CHECK_INLINE: usize = 64 << 10;

/// A content as it was sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// The bytes.
    pub content: Bytes,
    /// What the caller says that it is; empty: see `format::detect`.
    pub format: String,
    /// Of the request, where the content is its body.
    pub media_type: String,
    /// For people.
    pub description: String,
}

impl Sent {
    /// Finds the format, checks the syntax and, where there is one (not empty), the schema; answers format and hash.
    pub(super) async fn check(&self, config_name: &str, schema: &str) -> Result<(Format, Bytes), ApiError> {
        let format = self.detect(config_name)?;
        let (content, schema) = (self.content.clone(), schema.to_owned());
        let inline = content.len() <= CHECK_INLINE && schema.is_empty();
        let work = move || {
            schema::check_content(format, &content, &schema)?;
            Ok(Bytes::from(Sha256::digest(&content).to_vec()))
        };
        Ok((format, if inline { work()? } else { off_runtime(work).await? }))
    }

    /// As a version of this config: the format is the config's where none is named.
    pub(super) fn of(&self, config: &store::Config) -> Sent {
        let format = if self.format.is_empty() { &config.format } else { &self.format };
        Sent { format: format.clone(), ..self.clone() }
    }

    /// The format, of a content that is not too large.
    pub(super) fn detect(&self, config_name: &str) -> Result<Format, ApiError> {
        if self.content.len() > MAX_CONTENT_BYTES {
            return Err(content_too_large());
        }
        format::detect(&self.format, &self.media_type, config_name, &self.content)
    }
}

/// The schema that counts for a version of this config: its own, else the config's.
pub(super) fn schema_for<'s>(config: &'s store::Config, own: &'s str) -> &'s str {
    if own.is_empty() { &config.schema } else { own }
}

/// Refuses a schema that does not compile; an empty one is none.
pub(super) async fn check_schema(text: &str) -> Result<(), ApiError> {
    if text.is_empty() {
        return Ok(());
    }
    let text = text.to_owned();
    off_runtime(move || schema::check_schema(&text)).await
}

/// Runs what takes long elsewhere.
pub(super) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let task = conflux_common::blocking::spawn_blocking(work);
    task.await.map_err(|e| ApiError::new(Code::Internal, format!("the check failed: {e}")))?
}

/// 413, with the bound.
pub fn content_too_large() -> ApiError {
    ApiError::too_large(format!("a content has at most {MAX_CONTENT_BYTES} bytes (1 MiB)"))
}
