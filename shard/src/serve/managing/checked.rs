//! A content checked for a write. The command names the schema that it was checked against, and apply refuses it where another one counts by
//! then: so it is checked again, and none gets in that its schema does not allow.

use std::sync::Arc;

use bytes::Bytes;
use conflux_common::error::{ApiError, Code, Hint};
use conflux_proto::{context::IdempotencyKey, log::SchemaSeen};
use conflux_raft::View;
use sha2::{Digest, Sha256};

use super::Sent;
use crate::{
    format::Format,
    machine::{precondition, remembered},
    query::{self, TenantRow},
    serve::{
        call::Call,
        conditions::{Demand, Level},
        reading::{Weight, read},
    },
    shard::Shard,
};

/// What a command says of its content.
#[derive(Debug)]
pub(super) struct Checked {
    pub format: Format,
    pub sha256: Bytes,
    pub seen: SchemaSeen,
}

/// Checks a content against the schema that counts for it (empty: none). One that does not fit is refused, unless a call of this operation was
/// answered under the same key: then it may be that call, which fitted the first time. Apply has its answer, or refuses it.
pub(super) async fn check(
    shard: &Arc<Shard>,
    call: &Call,
    operation: &'static str,
    sent: &Sent,
    config_name: &str,
    schema: &str,
) -> Result<Checked, ApiError> {
    let refused = match sent.check(config_name, schema).await {
        Ok((format, sha256)) => return Ok(Checked { format, sha256, seen: precondition::seen(schema) }),
        Err(e) => e,
    };
    if refused.code != Code::InvalidArgument || !is_answered(shard, call, operation).await? {
        return Err(refused);
    }
    let sha256 = Sha256::digest(&sent.content).to_vec().into();
    Ok(Checked { format: sent.detect(config_name)?, sha256, seen: precondition::never() })
}

/// Whether an answer is remembered under the call's key.
async fn is_answered(shard: &Arc<Shard>, call: &Call, operation: &'static str) -> Result<bool, ApiError> {
    let (key, level) = match &call.idempotency {
        None => return Ok(false),
        // A client may come back after a change of leader; a gateway does so only with what it has just sent.
        Some(IdempotencyKey::Client(key)) => (key.clone(), Level::Linearizable),
        Some(IdempotencyKey::Gateway(key)) => (key.clone(), Level::Leader),
    };
    let principal = call.principal.name.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        remembered::knows(view, row.id, &principal, operation, &key).map_err(query::failed)
    };
    Ok(read(shard, call, Demand::at(level), Weight::Point, from).await?.1)
}

/// How often a call was checked again.
#[derive(Debug, Default)]
pub(super) struct Rechecks(u32);

impl Rechecks {
    /// More than schemas change while one call is under way.
    const MOST: u32 = 5;

    /// Whether the call is to be made again from its check on: it had no effect.
    pub fn again<T>(&mut self, outcome: &Result<T, ApiError>) -> bool {
        let stale = matches!(outcome, Err(ApiError { hint: Some(Hint::Recheck), .. }));
        self.0 += u32::from(stale);
        stale && self.0 <= Self::MOST
    }
}

/// What the caller is answered: whether to check again was for this service alone.
pub(super) fn settled<T>(outcome: Result<T, ApiError>) -> Result<T, ApiError> {
    outcome.map_err(|e| match e.hint {
        Some(Hint::Recheck) => ApiError { hint: None, retry_after: None, ..e },
        _ => e,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schema that never stands still must end the call, and the hint is no business of the gateway.
    #[test]
    fn a_call_is_checked_again_a_few_times() {
        let stale = || Err::<(), _>(ApiError { hint: Some(Hint::Recheck), ..ApiError::new(Code::Aborted, "changed") });
        let mut rechecks = Rechecks::default();
        assert_eq!((0..10).filter(|_| rechecks.again(&stale())).count(), 5);
        assert!(!Rechecks::default().again(&Ok(())));
        assert!(!Rechecks::default().again(&Err::<(), _>(ApiError::new(Code::Aborted, "another"))));
        let told = settled(stale()).unwrap_err();
        assert_eq!((told.code, told.hint), (Code::Aborted, None));
    }
}
