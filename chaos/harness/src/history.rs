//! What clients asked and what they were told: the material of every checker.
//!
//! A register is one config. Each write puts a value that nobody else ever writes, so that a read tells which write it saw.

use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Microseconds since the run began, on this process's monotonic clock.
pub type Micros = u64;

/// The clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Micros {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns at once where that is over.
    pub async fn sleep_until(self, at_ms: u64) {
        tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(self.now() / 1000))).await;
    }
}

/// The value of a register that does not exist.
pub const ABSENT: u64 = 0;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// A plain put under an idempotency key.
    Put { value: u64 },
    /// A put with If-Match: only over `expected`.
    Swap { expected: u64, value: u64 },
    /// `consistency=linearizable`.
    Read,
    /// A stale read; with `floor` above 0 under `min_revision`.
    Stale { floor: u64 },
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "told")]
pub enum Told {
    Wrote {
        revision: u64,
        version: u64,
    },
    /// 412: somebody else had written.
    Refused,
    /// A revision of 0: the answer had none (404).
    Saw {
        value: u64,
        revision: u64,
        age_ms: u64,
    },
    /// The answer says that there was no effect and never will be.
    NotApplied,
    /// Nobody knows: it may have happened, and may happen yet.
    Open,
}

/// One call, from the first time it was sent to the answer that settled it.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    pub client: usize,
    pub tenant: usize,
    pub register: String,
    #[serde(flatten)]
    pub ask: Ask,
    #[serde(flatten)]
    pub told: Told,
    pub began: Micros,
    pub ended: Micros,
    /// How often it was sent under its key.
    pub sent: u32,
    /// 0: a call by itself, or the first register of a changeset. Else which other one: it is no call of its own.
    pub part: usize,
}

impl Call {
    /// The value that it writes, if it is a write.
    pub fn writes(&self) -> Option<u64> {
        match self.ask {
            Ask::Put { value } | Ask::Swap { value, .. } => Some(value),
            Ask::Read | Ask::Stale { .. } => None,
        }
    }

    /// The revision of an acknowledged write.
    pub fn wrote(&self) -> Option<u64> {
        match self.told {
            Told::Wrote { revision, .. } => Some(revision),
            _ => None,
        }
    }
}

/// The content that stands for a value.
pub fn document(value: u64) -> String {
    format!("{{\"value\":{value},\"pad\":\"{}\"}}", "x".repeat(usize::try_from(value % 400).unwrap_or(0)))
}

/// The value whose content this is, byte for byte.
pub fn value_of(content: &[u8]) -> Option<u64> {
    let value = serde_json::from_slice::<serde_json::Value>(content).ok()?["value"].as_u64()?;
    (document(value).as_bytes() == content).then_some(value)
}

/// SHA-256 of a value's content in hex.
pub fn hash_of(value: u64) -> String {
    hex::encode(Sha256::digest(document(value)))
}

/// `7` of `1.7`.
pub fn revision_of(text: &str) -> Option<u64> {
    text.split_once('.')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A content that is cut or mixed with another must not pass for a value.
    #[test]
    fn only_a_whole_content_is_a_value() {
        assert_eq!(value_of(document(399).as_bytes()), Some(399));
        assert_eq!(value_of(document(399).replace("xx", "x").as_bytes()), None);
        assert_eq!(value_of(b"{}"), None);
        assert_eq!(revision_of("1.42"), Some(42));
    }
}
