//! `If-Match` and `If-None-Match: *` of a config.

use conflux_common::error::{ApiError, Code};
use conflux_proto::{log::ShardCommand, store};

/// Refuses a write of which the condition does not hold on the config as it is.
pub(super) fn check(command: &ShardCommand, config: Option<&store::Config>) -> Result<(), ApiError> {
    let failed = |why: &str| Err(ApiError::new(Code::FailedPrecondition, why));
    match config {
        Some(_) if command.if_absent => failed("the config exists already"),
        Some(config) if command.if_match != 0 && config.revision != command.if_match => {
            failed("the config was changed since: read it anew and repeat with its present ETag")
        }
        None if command.if_match != 0 => failed("the config does not exist (any more)"),
        _ => Ok(()),
    }
}
