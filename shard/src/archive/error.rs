//! Why an archive is refused, with the entry's name.

use conflux_common::error::ApiError;

/// Why an archive is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It is no zip, or one that could be read in two ways.
    #[error("no zip archive that can be read in one way only: {0}")]
    NoZip(String),
    /// A bound of the whole.
    #[error("{what}: {found}, more than {max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is, as far as is known.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// Something is wrong with one entry.
    #[error("entry {name:?}: {why}")]
    Entry {
        /// Its name, as far as it can be shown.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Something is wrong with the manifest.
    #[error("manifest.json: {0}")]
    Manifest(String),
}

impl ArchiveError {
    /// About this entry.
    pub(super) fn entry(name: &str, why: impl Into<String>) -> Self {
        Self::Entry { name: name.chars().take(200).collect(), why: why.into() }
    }
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        match &error {
            ArchiveError::TooLarge { .. } => ApiError::too_large(error.to_string()),
            ArchiveError::Entry { name, why } => ApiError::invalid(name.clone(), why.clone()),
            ArchiveError::Manifest(why) => ApiError::invalid("manifest.json", why.clone()),
            ArchiveError::NoZip(_) => ApiError::invalid("body", error.to_string()),
        }
    }
}
