//! What an authority has issued and revoked: `index.json` beside its key.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::files;

/// Everything that the next revocation list is made of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Index {
    /// The federation in every URI.
    pub cluster: String,
    /// Of the last revocation list. Each list has a higher one.
    pub crl_number: u64,
    /// In the order of issue.
    pub certificates: Vec<Issued>,
}

/// One certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Issued {
    /// Hexadecimal.
    pub serial: String,
    /// The SAN URI of a process or operator; the names of a client-facing certificate.
    pub holder: String,
    #[serde(with = "instant")]
    pub not_before: OffsetDateTime,
    #[serde(with = "instant")]
    pub not_after: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "instant::optional")]
    pub revoked: Option<OffsetDateTime>,
}

impl Issued {
    /// For people.
    pub fn state(&self, now: OffsetDateTime) -> &'static str {
        match self.revoked {
            Some(_) => "revoked",
            None if now > self.not_after => "expired",
            None => "valid",
        }
    }
}

impl Index {
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        serde_json::from_str(&files::read(path)?).with_context(|| format!("{} is damaged", path.display()))
    }

    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        files::write(path, serde_json::to_vec_pretty(self)?, files::PUBLIC)
    }
}

/// RFC 3339 in JSON.
mod instant {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _, ser::Error as _};
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    pub fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.format(&Rfc3339).map_err(S::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        OffsetDateTime::parse(&String::deserialize(deserializer)?, &Rfc3339).map_err(D::Error::custom)
    }

    pub mod optional {
        use super::*;

        pub fn serialize<S: Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
