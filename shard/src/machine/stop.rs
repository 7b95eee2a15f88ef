//! How an operation ends without effect: refused, or fatally.

use bytes::Bytes;
use conflux_common::error::{ApiError, Code, Hint};
use conflux_proto::log::{FieldError, Refusal, ShardAnswer, shard_answer};
use conflux_raft::FatalError;
use prost::Message;

/// Why an operation made nothing.
#[derive(Debug)]
pub(super) enum Stop {
    /// An answer like any other. Nothing was written before it.
    Refused(ApiError),
    /// The process must stop.
    Fatal(FatalError),
}

impl From<ApiError> for Stop {
    /// A read that failed is no answer: this replica alone would give it.
    fn from(e: ApiError) -> Self {
        if e.code == Code::Internal { Stop::Fatal(FatalError(e.to_string())) } else { Stop::Refused(e) }
    }
}

impl From<FatalError> for Stop {
    fn from(e: FatalError) -> Self {
        Stop::Fatal(e)
    }
}

impl Stop {
    /// The same refusal of a part of the command.
    pub fn within(self, part: &str) -> Self {
        match self {
            Stop::Refused(error) => Stop::Refused(error.within(part)),
            fatal => fatal,
        }
    }
}

/// The answer as it is returned and remembered.
pub(super) fn encode(result: shard_answer::Result) -> Bytes {
    Bytes::from(ShardAnswer { result: Some(result) }.encode_to_vec())
}

/// The refusal as it is logged in answers. The text of an error is part of the answer, so that every replica must word it
/// the same: no value of this process may be in it.
pub(super) fn refusal(error: &ApiError) -> shard_answer::Result {
    let (retry, epoch) = match &error.hint {
        Some(hint @ Hint::WrongEpoch(epoch)) => (hint.to_headers().0.to_owned(), *epoch),
        Some(hint @ (Hint::Recheck | Hint::Frozen)) => (hint.to_headers().0.to_owned(), 0),
        _ => (String::new(), 0),
    };
    shard_answer::Result::Refusal(Refusal {
        code: error.code.name().to_owned(),
        message: error.message.clone(),
        details: error
            .details
            .iter()
            .map(|d| FieldError { field: d.field.clone(), description: d.description.clone() })
            .collect(),
        epoch,
        retry,
        too_large: error.too_large,
    })
}

/// Whether a refusal is remembered under the key: those that a repetition cannot cure. Another owner, or room in a quota, can:
/// then the same call under the same key is welcome to have its one effect.
pub(super) fn is_final(error: &ApiError) -> bool {
    error.hint.is_none() && !matches!(error.code, Code::Unavailable | Code::ResourceExhausted)
}

/// RESOURCE_EXHAUSTED of a quota.
pub(super) fn quota(name: &str, bound: u64, what: &str) -> Stop {
    let error = ApiError::new(Code::ResourceExhausted, format!("quota {name}: at most {bound} {what}"));
    Stop::Refused(
        error.with_detail(format!("quota.{name}"), format!("at most {bound} {what}; an operator can raise it")),
    )
}
