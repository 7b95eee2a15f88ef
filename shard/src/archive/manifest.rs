//! `manifest.json`: what is in an archive. Fields are only added; another [`FORMAT`] is refused.

use conflux_common::release::ReleaseRule;
use serde::{Deserialize, Serialize};

/// The manifest's name.
pub const MANIFEST: &str = "manifest.json";
/// The version of the layout that this binary writes and reads.
pub const FORMAT: u32 = 1;

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format_version: u32,
    /// The application that was exported; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The environment that was exported; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The tenant's revision that it shows.
    #[serde(default)]
    pub revision: String,
    /// The configs, in the order of app, env and name.
    pub configs: Vec<Entry>,
}

/// One config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its application.
    pub app: String,
    /// Its environment.
    pub env: String,
    /// Its name.
    pub name: String,
    /// The entry with its content; absent: it has no version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `json`, `yaml`, ..
    pub format: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// In their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A JSON Schema or the shorthand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// What is kept of old versions.
    #[serde(default, skip_serializing_if = "Kept::is_all")]
    pub retention: Kept,
    /// The number that the content had; 0: there is none.
    #[serde(default)]
    pub version: u64,
    /// Hex, of the content; empty: there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Whether the content is what is released by default. Else it is the latest version, which an import does not release.
    pub released: bool,
    /// The default rule. Rules with labels or a share are of the place that was exported, and stay there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ReleaseRule>,
}

/// What is kept of old versions; 0: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// At most so many.
    #[serde(default)]
    pub max_versions: u32,
    /// Not older than so many days.
    #[serde(default)]
    pub max_age_days: u32,
}

impl Kept {
    fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

impl Entry {
    /// Where the content of a config is put in an archive.
    pub fn file_of(app: &str, env: &str, name: &str) -> String {
        format!("configs/{app}/{env}/{name}")
    }

    /// `app/env/name`
    pub fn place(&self) -> String {
        format!("{}/{}/{}", self.app, self.env, self.name)
    }
}
