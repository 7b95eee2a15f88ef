//! Remembered answers: one effect and one answer for each idempotency key (DESIGN section 3).
//!
//! A key is scoped by principal; the fingerprint is of operation, target and body. Refusals that another time may not
//! meet (UNAVAILABLE, RESOURCE_EXHAUSTED) are not remembered. No answer holds a secret or its hash: the secret of a new
//! API key never comes here, and its hash is taken out of the answer where the key is made.

use conflux_common::error::Code;
use conflux_proto::{
    log::{PlacementAnswer, PlacementCommand, PlacementRefusal, placement_answer::Result as Answer},
    store::AnswerRecord,
};
use conflux_raft::{FatalError, Read, Tx};
use prost::Message;

use crate::store::{
    Family, Key,
    rows::{counters, list_keys, load, mark, remove, save},
};

/// The longest that an answer is remembered, and the time where none is given.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Remembered answers; beyond it a command under a new key is refused, since it could not be repeated safely.
pub const MAX_ANSWERS: u64 = 100_000;
/// Expired answers forgotten by one command.
pub(super) const FORGOTTEN_AT_ONCE: usize = 16;

/// A command under an idempotency key.
pub(super) struct Call {
    principal: String,
    key: String,
    fingerprint: bytes::Bytes,
    ttl_ms: u64,
}

/// What is known of a call.
pub(super) enum Remembered {
    Nothing,
    Answer(Box<PlacementAnswer>),
    Refused(PlacementRefusal),
}

impl Call {
    pub(super) fn of(command: &PlacementCommand) -> Option<Call> {
        if command.idempotency_key.is_empty() {
            return None;
        }
        let ttl_ms = match command.idempotency_ttl_ms {
            0 => DAY_MS,
            ttl => ttl.min(DAY_MS),
        };
        Some(Call {
            principal: command.principal.clone(),
            key: command.idempotency_key.clone(),
            fingerprint: command.fingerprint.clone(),
            ttl_ms,
        })
    }

    fn row(&self) -> Key {
        Key::Answer { principal: self.principal.clone(), key: self.key.clone() }
    }

    fn expiry(&self, expires_ms: u64) -> Key {
        Key::AnswerExpiry { expires_ms, principal: self.principal.clone(), key: self.key.clone() }
    }
}

fn refusal(code: Code, message: &str, field: &str) -> Remembered {
    let (code, message, field) = (code.name().to_owned(), message.to_owned(), field.to_owned());
    Remembered::Refused(PlacementRefusal { code, message, field })
}

pub(super) fn find(rows: &impl Read, call: &Call, now_ms: u64) -> Result<Remembered, FatalError> {
    let Some(record) = load::<AnswerRecord>(rows, &call.row())? else {
        if counters(rows)?.answers >= MAX_ANSWERS {
            let why = "too many answers are remembered now: try later, or without an idempotency key";
            return Ok(refusal(Code::ResourceExhausted, why, ""));
        }
        return Ok(Remembered::Nothing);
    };
    if record.expires_ms <= now_ms {
        return Ok(Remembered::Nothing);
    }
    if record.fingerprint != call.fingerprint {
        let why = "was used before for another request: choose a new one";
        return Ok(refusal(Code::AlreadyExists, why, conflux_common::headers::IDEMPOTENCY_KEY));
    }
    let answer = PlacementAnswer::decode(record.answer)
        .map_err(|e| FatalError(format!("a remembered answer cannot be read: {e}")))?;
    Ok(Remembered::Answer(Box::new(answer)))
}

pub(super) fn remember(tx: &mut Tx<'_>, call: &Call, answer: &PlacementAnswer, now_ms: u64) -> Result<(), FatalError> {
    if let Some(Answer::Refusal(why)) = &answer.result
        && Code::from_name(&why.code).is_some_and(Code::retryable)
    {
        return Ok(());
    }
    // One that expired and was not forgotten yet makes room for its successor.
    if let Some(old) = load::<AnswerRecord>(tx, &call.row())? {
        remove(tx, &call.expiry(old.expires_ms));
    } else {
        let mut counters = counters(tx)?;
        counters.answers += 1;
        save(tx, &Key::Counters, &counters);
    }
    let expires_ms = now_ms.saturating_add(call.ttl_ms);
    let answer = answer.encode_to_vec().into();
    save(tx, &call.row(), &AnswerRecord { fingerprint: call.fingerprint.clone(), answer, expires_ms });
    mark(tx, &call.expiry(expires_ms));
    Ok(())
}

pub(super) fn forget_expired(tx: &mut Tx<'_>, now_ms: u64) -> Result<(), FatalError> {
    let (from, _) = Family::AnswerExpiry.range();
    let to = Key::AnswerExpiry { expires_ms: now_ms.saturating_add(1), principal: String::new(), key: String::new() };
    // Only the ordinal and the time bound the scan.
    let to = &to.encode()[..9];
    let expired = list_keys(tx, (&from, to), FORGOTTEN_AT_ONCE)?;
    if expired.is_empty() {
        return Ok(());
    }
    let mut counters = counters(tx)?;
    for expiry in expired {
        remove(tx, &expiry);
        if let Key::AnswerExpiry { principal, key, .. } = expiry {
            remove(tx, &Key::Answer { principal, key });
            counters.answers = counters.answers.saturating_sub(1);
        }
    }
    save(tx, &Key::Counters, &counters);
    Ok(())
}
