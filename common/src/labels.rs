//! The labels that a client carries and that release rules ask for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// At most so many labels on a client or in a rule.
pub const MAX_LABELS: usize = 32;
/// At most so many bytes in a label's name or value.
pub const MAX_LABEL_BYTES: usize = 128;

/// Names are lower case (they travel as header names); values are text without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Checks and takes the labels; names are folded to lower case.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, ApiError> {
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            let name = name.to_ascii_lowercase();
            let valid = !name.is_empty()
                && name.len() <= MAX_LABEL_BYTES
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
            if !valid {
                let rule = format!("a label's name is 1 to {MAX_LABEL_BYTES} of a-z, 0-9, '.', '_' and '-'");
                return Err(ApiError::invalid("labels", rule));
            }
            if value.len() > MAX_LABEL_BYTES || value.chars().any(char::is_control) {
                let rule = format!("at most {MAX_LABEL_BYTES} bytes without control characters");
                return Err(ApiError::invalid(format!("labels.{name}"), rule));
            }
            if map.insert(name.clone(), value).is_some() {
                return Err(ApiError::invalid(format!("labels.{name}"), "given twice"));
            }
            if map.len() > MAX_LABELS {
                return Err(ApiError::invalid("labels", format!("at most {MAX_LABELS}")));
            }
        }
        Ok(Self(map))
    }

    /// The value of this label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether all of these are carried with the same values.
    pub fn contains_all(&self, wanted: &Labels) -> bool {
        wanted.0.iter().all(|(name, value)| self.get(name) == Some(value))
    }

    /// Whether no client can carry both: some label with two values.
    pub fn contradict(&self, other: &Labels) -> bool {
        self.0.iter().any(|(name, value)| other.get(name).is_some_and(|theirs| theirs != value))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No labels at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    /// Without the code: whoever reads a body adds where it stood.
    type Error = String;
    fn try_from(map: BTreeMap<String, String>) -> Result<Self, String> {
        Self::new(map).map_err(|e| e.message)
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}
