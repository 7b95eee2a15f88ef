//! `If-Match` and `If-None-Match: *` of a config; and that the schema is still the one that the leader checked the content against.

use bytes::Bytes;
use conflux_common::error::{ApiError, Code, Hint};
use conflux_proto::{
    log::{SchemaSeen, ShardCommand},
    store,
};
use sha2::{Digest, Sha256};

/// What a write demands of the config that it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Condition {
    /// The revision of its last change; 0: any.
    pub if_match: u64,
    /// It must not exist.
    pub if_absent: bool,
}

impl Condition {
    /// Of the whole command.
    pub fn of(command: &ShardCommand) -> Self {
        Self { if_match: command.if_match, if_absent: command.if_absent }
    }
}

/// Refuses a write of which the condition does not hold on the config as it is.
pub(super) fn check(condition: Condition, config: Option<&store::Config>) -> Result<(), ApiError> {
    let failed = |why: &str| Err(ApiError::new(Code::FailedPrecondition, why));
    match config {
        Some(_) if condition.if_absent => failed("the config exists already"),
        Some(config) if condition.if_match != 0 && config.revision != condition.if_match => {
            failed("the config was changed since: read it anew and repeat with its present ETag")
        }
        None if condition.if_match != 0 => failed("the config does not exist (any more)"),
        _ => Ok(()),
    }
}

/// This schema (empty: none), as a command names it.
pub(crate) fn seen(schema: &str) -> SchemaSeen {
    let sha256 = if schema.is_empty() { Bytes::new() } else { Sha256::digest(schema).to_vec().into() };
    SchemaSeen { sha256 }
}

/// A schema that none is: of a content that does not fit, sent again under a key. It gets the answer that is remembered, or nothing.
pub(crate) fn never() -> SchemaSeen {
    SchemaSeen { sha256: Bytes::from_static(&[0]) }
}

/// Refuses a content that was checked against another schema than the one that counts: its own, or that of its config.
pub(super) fn check_schema(
    checked: Option<&SchemaSeen>,
    own: &str,
    config: Option<&store::Config>,
) -> Result<(), ApiError> {
    let counts = if own.is_empty() { config.map_or("", |config| &config.schema) } else { own };
    match checked {
        Some(checked) if *checked != seen(counts) => Err(ApiError {
            hint: Some(Hint::Recheck),
            ..ApiError::new(Code::Aborted, "the schema was changed while the content was checked: send it again")
        }),
        _ => Ok(()),
    }
}
