//! Tags.

use serde::de::{Deserialize, Deserializer, IgnoredAny};

/// A tag says nothing to the value model.
pub(super) struct Tag;

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Tag)
    }
}
