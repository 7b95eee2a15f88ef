//! The one error of the public API (DESIGN section 8): it owns HTTP status, gRPC code, retryability and outcome.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::headers::retry;

/// gRPC's canonical codes, as far as Conflux uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // gRPC documents them
pub enum Code {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    Aborted,
    OutOfRange,
    FailedPrecondition,
    ResourceExhausted,
    Internal,
    Unimplemented,
    Unavailable,
    DeadlineExceeded,
}

impl Code {
    /// Every code, for tables and tests.
    pub const ALL: [Code; 13] = [
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::NotFound,
        Code::AlreadyExists,
        Code::Aborted,
        Code::OutOfRange,
        Code::FailedPrecondition,
        Code::ResourceExhausted,
        Code::Internal,
        Code::Unimplemented,
        Code::Unavailable,
        Code::DeadlineExceeded,
    ];

    /// The name on the wire, the HTTP status, gRPC's number, and whether repeating the call may help.
    const fn row(self) -> (&'static str, u16, i32, bool) {
        match self {
            Code::InvalidArgument => ("INVALID_ARGUMENT", 400, 3, false),
            Code::Unauthenticated => ("UNAUTHENTICATED", 401, 16, false),
            Code::PermissionDenied => ("PERMISSION_DENIED", 403, 7, false),
            Code::NotFound => ("NOT_FOUND", 404, 5, false),
            Code::AlreadyExists => ("ALREADY_EXISTS", 409, 6, false),
            Code::Aborted => ("ABORTED", 409, 10, false),
            Code::OutOfRange => ("OUT_OF_RANGE", 410, 11, false),
            Code::FailedPrecondition => ("FAILED_PRECONDITION", 412, 9, false),
            Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", 429, 8, true),
            Code::Internal => ("INTERNAL", 500, 13, false),
            Code::Unimplemented => ("UNIMPLEMENTED", 501, 12, false),
            Code::Unavailable => ("UNAVAILABLE", 503, 14, true),
            Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", 504, 4, true),
        }
    }

    /// As REST shows it: `INVALID_ARGUMENT`.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status that REST answers with. A body that is too large answers 413 instead of 429
    /// ([`ApiError::too_large`]).
    pub const fn http_status(self) -> u16 {
        self.row().1
    }

    /// gRPC's number.
    pub const fn grpc_code(self) -> i32 {
        self.row().2
    }

    /// Whether repeating the same call later may succeed.
    pub const fn retryable(self) -> bool {
        self.row().3
    }

    /// The code of this wire name.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|c| c.name() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of a refused write (DESIGN section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Refused before or at apply: it had no effect and never will.
    NotApplied,
    /// The answer was lost: it may take effect, now or later.
    Unknown,
}

/// A field that was refused and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// Path of the field, header or query parameter.
    pub field: String,
    /// What is wrong with it and what is allowed.
    pub description: String,
}

/// Why a call was refused. Shown to users: say what to do, tell nothing that they may not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The kind of refusal.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
    /// The fields at fault.
    pub details: Vec<FieldProblem>,
    /// What became of it, where it was a write.
    pub outcome: Outcome,
    /// When to try again, if it is known.
    pub retry_after: Option<Duration>,
    /// Answered with status 413.
    pub too_large: bool,
    /// What the gateway can do about it; never shown to clients.
    pub hint: Option<Hint>,
}

/// Tells the gateway where to repeat a call that had no effect. Travels as the headers
/// [`RETRY`](crate::headers::RETRY) and [`RETRY_HINT`](crate::headers::RETRY_HINT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Nothing was proposed: ask the leader, whose member name is given where it is known.
    NotLeader(Option<String>),
    /// The tenant is not here under that epoch; the shard's own epoch of it (0: none).
    WrongEpoch(u64),
    /// Busy or starting, nothing was proposed: another replica may do.
    TryOther,
    /// The tenant is about to be served by another shard: to be held, and repeated in a moment.
    Frozen,
    /// What the leader checked the call against has changed since: it checks again. Never leaves a shard.
    Recheck,
}

impl Hint {
    /// The values of the two headers.
    pub fn to_headers(&self) -> (&'static str, String) {
        match self {
            Hint::NotLeader(leader) => (retry::NOT_LEADER, leader.clone().unwrap_or_default()),
            Hint::WrongEpoch(epoch) => (retry::WRONG_EPOCH, epoch.to_string()),
            Hint::TryOther => (retry::TRY_OTHER, String::new()),
            Hint::Frozen => (retry::FROZEN, String::new()),
            Hint::Recheck => (retry::RECHECK, String::new()),
        }
    }

    /// Reads the values of the two headers; anything unknown is no hint.
    pub fn from_headers(kind: &str, hint: &str) -> Option<Hint> {
        match kind {
            retry::NOT_LEADER => Some(Hint::NotLeader((!hint.is_empty()).then(|| hint.to_owned()))),
            retry::WRONG_EPOCH => Some(Hint::WrongEpoch(hint.parse().ok()?)),
            retry::TRY_OTHER => Some(Hint::TryOther),
            retry::FROZEN => Some(Hint::Frozen),
            retry::RECHECK => Some(Hint::Recheck),
            _ => None,
        }
    }
}

impl ApiError {
    /// An error that had no effect.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            outcome: Outcome::NotApplied,
            retry_after: None,
            too_large: false,
            hint: None,
        }
    }

    /// INVALID_ARGUMENT of one field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        Self::new(Code::InvalidArgument, format!("{field}: {description}")).with_detail(field, description)
    }

    /// A body, name or header beyond its bound: RESOURCE_EXHAUSTED with status 413, not worth repeating.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self { too_large: true, ..Self::new(Code::ResourceExhausted, message) }
    }

    /// The same error of a part of a body: every field is below `part`, as `changes[3]`.
    pub fn within(mut self, part: &str) -> Self {
        let of_field = self.details.first().is_some_and(|d| self.message.starts_with(&format!("{}: ", d.field)));
        if self.details.is_empty() {
            let why = self.message.clone();
            self = self.with_detail("", why);
        }
        self.message = if of_field { format!("{part}.{}", self.message) } else { format!("{part}: {}", self.message) };
        for detail in &mut self.details {
            let below = if detail.field.is_empty() { "" } else { "." };
            detail.field = format!("{part}{below}{}", detail.field);
        }
        self
    }

    /// Adds a field at fault.
    pub fn with_detail(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.details.push(FieldProblem { field: field.into(), description: description.into() });
        self
    }

    /// Says that the write may have taken effect.
    pub fn outcome_unknown(mut self) -> Self {
        self.outcome = Outcome::Unknown;
        self
    }

    /// Says when to try again.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// UNAVAILABLE, with a hint for the gateway.
    pub fn elsewhere(hint: Hint, message: impl Into<String>) -> Self {
        let after = Some(Duration::from_millis(100));
        Self { hint: Some(hint), retry_after: after, ..Self::new(Code::Unavailable, message) }
    }

    /// The status that REST answers with.
    pub fn http_status(&self) -> u16 {
        if self.too_large { 413 } else { self.code.http_status() }
    }

    /// Whether repeating the same call later may succeed.
    pub fn retryable(&self) -> bool {
        self.code.retryable() && !self.too_large
    }

    /// The JSON body of DESIGN section 8.
    pub fn to_body(&self, request_id: &str) -> ErrorBody {
        ErrorBody {
            error: ErrorInfo {
                code: self.code,
                message: self.message.clone(),
                details: self.details.clone(),
                request_id: request_id.to_owned(),
                retryable: self.retryable(),
                outcome: self.outcome,
            },
        }
    }
}

impl From<crate::ids::InvalidName> for ApiError {
    fn from(e: crate::ids::InvalidName) -> Self {
        ApiError::invalid(e.what, format!("{:?} is not valid: {}", e.given, e.rule))
    }
}

/// The JSON body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The one member.
    pub error: ErrorInfo,
}

/// What [`ErrorBody`] holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorInfo {
    /// The kind of refusal.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
    /// The fields at fault.
    #[serde(default)]
    pub details: Vec<FieldProblem>,
    /// Finds the call in logs and traces.
    #[serde(default)]
    pub request_id: String,
    /// Whether repeating the same call later may succeed.
    pub retryable: bool,
    /// What became of it, where it was a write.
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_one_row_each_and_serialise_by_name() {
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), Some(code));
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.name()));
        }
    }

    #[test]
    fn the_body_is_the_contract() {
        let body = ApiError::invalid("name", "too long").to_body("r1");
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            serde_json::json!({"error": {"code": "INVALID_ARGUMENT", "message": "name: too long",
                "details": [{"field": "name", "description": "too long"}],
                "request_id": "r1", "retryable": false, "outcome": "not_applied"}})
        );
    }
}
