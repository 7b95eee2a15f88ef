//! A content as it is sent: its format, syntax and hash, before anything is proposed.

use bytes::Bytes;
use conflux_common::error::{ApiError, Code};
use sha2::{Digest, Sha256};

use crate::{
    format::{self, Format, Limits},
    machine::limits::MAX_CONTENT_BYTES,
};

/// Contents above this are checked off the runtime.
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
    /// Finds the format, checks the syntax, and answers format and hash. Large contents are worked on off the runtime.
    pub(super) async fn check(&self, config_name: &str) -> Result<(Format, Bytes), ApiError> {
        if self.content.len() > MAX_CONTENT_BYTES {
            return Err(content_too_large());
        }
        let format = format::detect(&self.format, &self.media_type, config_name, &self.content)?;
        let content = self.content.clone();
        let work = move || {
            format::check(format, &content, &Limits::default())?;
            Ok::<_, ApiError>(Bytes::from(Sha256::digest(&content).to_vec()))
        };
        let sha256 = if self.content.len() <= CHECK_INLINE {
            work()?
        } else {
            let task = tokio::task::spawn_blocking(work);
            task.await.map_err(|e| ApiError::new(Code::Internal, format!("the check failed: {e}")))??
        };
        Ok((format, sha256))
    }
}

/// 413, with the bound.
pub fn content_too_large() -> ApiError {
    ApiError::too_large(format!("a content has at most {MAX_CONTENT_BYTES} bytes (1 MiB)"))
}
