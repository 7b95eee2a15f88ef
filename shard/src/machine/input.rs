//! Bounds of what a command brings. The leader has checked them before proposing; here they hold for every replica,
//! whatever binary proposed. Syntax is not checked here: another version of a parser may judge otherwise.

use bytes::Bytes;
use conflux_common::{
    error::ApiError,
    ids::{AppName, ConfigName, EnvName},
};

use conflux_proto::v1;

use super::{limits, stop::Stop};
use crate::format::Format;

/// What a new version is made of.
pub(super) struct NewVersion<'a> {
    pub content: &'a Bytes,
    pub sha256: &'a Bytes,
    pub format: &'a str,
    pub description: &'a str,
    /// Overrides the config's; empty: the config's.
    pub schema: &'a str,
    pub media_type: &'a str,
}

impl NewVersion<'_> {
    /// Refuses what is out of bounds.
    pub fn check(&self) -> Result<(), Stop> {
        let max = limits::MAX_CONTENT_BYTES;
        if self.content.len() > max {
            return Err(ApiError::too_large(format!("content: {} bytes, more than {max}", self.content.len())).into());
        }
        if self.sha256.len() != 32 {
            return Err(ApiError::invalid("sha256", "32 bytes").into());
        }
        format(self.format)?;
        text("media_type", self.media_type, 255)?;
        schema(self.schema)?;
        description(self.description)
    }
}

/// Refuses a format that is not stored.
pub(super) fn format(name: &str) -> Result<(), Stop> {
    match Format::ALL.iter().any(|f| f.name() == name) {
        true => Ok(()),
        false => Err(ApiError::invalid("format", "not a format of this service").into()),
    }
}

/// Refuses names that cannot be a config's.
pub(super) fn names(app: &str, env: &str, name: &str) -> Result<(), Stop> {
    AppName::new(app).map_err(ApiError::from)?;
    EnvName::new(env).map_err(ApiError::from)?;
    ConfigName::new(name).map_err(ApiError::from)?;
    Ok(())
}

/// What is to be kept of old versions; none where it asks for nothing.
pub(super) fn retention(given: Option<v1::Retention>) -> Result<Option<v1::Retention>, Stop> {
    let Some(given) = given.filter(|r| *r != v1::Retention::default()) else { return Ok(None) };
    let max = limits::MAX_RETENTION;
    for (field, n) in [("max_versions", given.max_versions), ("max_age_days", given.max_age_days)] {
        if n > max {
            return Err(ApiError::invalid(format!("retention.{field}"), format!("at most {max}; 0: all")).into());
        }
    }
    Ok(Some(given))
}

/// Refuses a description that is too long.
pub(super) fn description(given: &str) -> Result<(), Stop> {
    text("description", given, limits::MAX_DESCRIPTION)
}

/// Refuses a schema that is too long. Whether it is one was decided before.
pub(super) fn schema(given: &str) -> Result<(), Stop> {
    text("schema", given, limits::MAX_SCHEMA_BYTES)
}

fn text(field: &str, given: &str, max: usize) -> Result<(), Stop> {
    if given.len() > max {
        return Err(ApiError::invalid(field, format!("at most {max} bytes")).into());
    }
    Ok(())
}

/// The tags, in order and each once.
pub(super) fn tags(given: &[String]) -> Result<Vec<String>, Stop> {
    let valid = |t: &String| !t.is_empty() && t.len() <= limits::MAX_TAG_BYTES && !t.chars().any(char::is_control);
    if given.len() > limits::MAX_TAGS || !given.iter().all(valid) {
        let (max, bytes) = (limits::MAX_TAGS, limits::MAX_TAG_BYTES);
        let rule = format!("at most {max}, each 1 to {bytes} bytes without control characters");
        return Err(ApiError::invalid("tags", rule).into());
    }
    let mut tags = given.to_vec();
    tags.sort();
    tags.dedup();
    Ok(tags)
}
