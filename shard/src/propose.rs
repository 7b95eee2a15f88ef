//! Putting a command into the log, and reading what apply answered.

use std::time::Duration;

use bytes::Bytes;
use conflux_common::error::{ApiError, Code, Hint};
use conflux_proto::log::{Refusal, ShardAnswer, ShardCommand, shard_answer};
use prost::Message;

use crate::shard::Node;

/// Replicates the command and waits until it is applied here. A refusal by apply is an error that had no effect.
pub async fn propose(node: &Node, command: &ShardCommand, within: Duration) -> Result<shard_answer::Result, ApiError> {
    let committed = node.propose(Bytes::from(command.encode_to_vec()), within).await?;
    read_answer(&committed.answer)
}

/// The same for what takes rows away or changes who has them: also done where the disk is nearly full.
pub async fn propose_shrinking(
    node: &Node,
    command: &ShardCommand,
    within: Duration,
) -> Result<shard_answer::Result, ApiError> {
    let committed = node.propose_shrinking(Bytes::from(command.encode_to_vec()), within).await?;
    read_answer(&committed.answer)
}

fn read_answer(answer: &[u8]) -> Result<shard_answer::Result, ApiError> {
    // The command was applied: whatever cannot be read of its answer, it may have had its effect.
    let unreadable = |why: String| ApiError::new(Code::Internal, why).outcome_unknown();
    let answer = ShardAnswer::decode(answer).map_err(|e| unreadable(format!("unreadable answer: {e}")))?;
    match answer.result {
        Some(shard_answer::Result::Refusal(refusal)) => Err(error_of(refusal)),
        Some(result) => Ok(result),
        None => Err(unreadable("an answer of a newer version".into())),
    }
}

/// The refusal as callers see it.
fn error_of(refusal: Refusal) -> ApiError {
    let code = Code::from_name(&refusal.code).unwrap_or(Code::Internal);
    let hint = match refusal.retry.as_str() {
        "" => None,
        kind => Hint::from_headers(kind, &refusal.epoch.to_string()),
    };
    let mut error = match hint {
        Some(hint) => ApiError { code, ..ApiError::elsewhere(hint, refusal.message) },
        None => ApiError::new(code, refusal.message),
    };
    error.too_large = refusal.too_large;
    for detail in refusal.details {
        error = error.with_detail(detail.field, detail.description);
    }
    error
}

#[cfg(test)]
mod tests {
    use conflux_common::{error::Outcome, headers::retry};
    use conflux_proto::{log::FieldError, v1::WriteResponse};

    use super::*;

    /// A refusal keeps its code, fields and hint: the gateway repeats a call by them.
    #[test]
    fn a_refusal_becomes_its_error() {
        let refusal = Refusal {
            code: "UNAVAILABLE".into(),
            message: "moved".into(),
            details: vec![FieldError { field: "epoch".into(), description: "is 4".into() }],
            epoch: 4,
            retry: retry::WRONG_EPOCH.into(),
            ..Default::default()
        };
        let answer = ShardAnswer { result: Some(shard_answer::Result::Refusal(refusal)) };
        let error = read_answer(&answer.encode_to_vec()).unwrap_err();
        assert_eq!((error.code, error.hint), (Code::Unavailable, Some(Hint::WrongEpoch(4))));
        assert_eq!(error.outcome, Outcome::NotApplied);
        assert_eq!(error.details[0].field, "epoch");
    }

    /// Only an explicit refusal may say that nothing happened.
    #[test]
    fn an_answer_that_cannot_be_read_is_unknown() {
        for bytes in [&b"\xff\xff"[..], b""] {
            assert_eq!(read_answer(bytes).unwrap_err().outcome, Outcome::Unknown);
        }
        let write = ShardAnswer { result: Some(shard_answer::Result::Write(WriteResponse::default())) };
        assert!(read_answer(&write.encode_to_vec()).is_ok());
    }
}
