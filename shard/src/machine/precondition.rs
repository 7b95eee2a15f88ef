//! `If-Match` and `If-None-Match: *` of a config.

use conflux_common::error::{ApiError, Code};
use conflux_proto::{log::ShardCommand, store};

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
