//! Several writes, all or nothing, that this service itself has planned: parts of imports, promotions.

use std::sync::Arc;

use conflux_common::error::ApiError;
use conflux_proto::{
    log::{self, Step, shard_command::Op},
    v1,
};

use crate::{
    serve::{call::Call, conditions::Conditions, writing::write_changeset},
    shard::Shard,
};

/// Steps of one changeset.
pub const MAX_STEPS: usize = 100;
/// Bytes of contents in one changeset.
pub const MAX_BYTES: usize = 4 << 20;

/// Applies steps that are authorized and checked. They carry no idempotency key: each demands its config as it was when it was
/// planned, so that a repetition has no second effect.
pub(super) async fn apply(
    shard: &Arc<Shard>,
    call: &Call,
    description: &str,
    steps: Vec<Step>,
) -> Result<v1::ChangesetResponse, ApiError> {
    let call = Call { idempotency: None, ..call.clone() };
    let op = Op::ApplyChangeset(log::ApplyChangeset { description: description.to_owned(), steps });
    write_changeset(shard, &call, Conditions::default(), op).await
}
