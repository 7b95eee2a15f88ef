//! Attempts that were refused, for those who look for attacks and mistakes (ADR 2): the gateway sees all of them. What was accepted is in
//! the tenant's own audit chain.
//!
//! An attempt says who, what, when, from where and with which code. Never a credential, a header or a body.

mod json_lines;

use std::net::SocketAddr;

use conflux_common::error::Code;
use http::{Method, StatusCode};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub use json_lines::{JsonLines, Settings};

/// Characters of a path that are kept.
const MAX_PATH: usize = 512;

/// Takes what was refused. Called on the way of every refused request: it must neither wait nor fail.
pub trait AuditSink: Send + Sync + 'static {
    /// Takes one attempt, or counts that it could not.
    fn record(&self, attempt: Attempt);
}

/// One refused attempt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    /// RFC 3339.
    pub time: String,
    /// As the answer carries it.
    pub request_id: String,
    /// Who, as far as it was verified; empty: nobody.
    pub principal: String,
    /// Whose data, as far as it is known.
    pub tenant: String,
    /// `PUT`, ..
    pub method: String,
    /// What: the path without its query, cut after 512 characters.
    pub path: String,
    /// The status that REST has for it.
    pub status: u16,
    /// `PERMISSION_DENIED`, ..; empty: not known.
    pub code: &'static str,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// What is known of a request that was answered.
#[derive(Debug)]
pub struct Answered<'a> {
    /// As the answer carries it.
    pub request_id: &'a str,
    /// Empty: nobody.
    pub principal: &'a str,
    /// Empty: not known.
    pub tenant: &'a str,
    /// Of the request.
    pub method: &'a Method,
    /// Of the request, without its query.
    pub path: &'a str,
    /// Whether it would have changed something.
    pub write: bool,
    /// Of the answer. gRPC's is 200 whatever happened.
    pub status: StatusCode,
    /// Of the error, where it was one.
    pub code: Option<Code>,
    /// From where.
    pub client: Option<SocketAddr>,
}

impl Answered<'_> {
    /// The attempt, if this was a refusal that is worth keeping: no or a wrong credential, a missing right, or a change that was
    /// refused for whatever lies with the caller.
    pub fn refused(&self) -> Option<Attempt> {
        let status = self.code.map_or(self.status.as_u16(), |code| match self.status.as_u16() {
            413 => 413,
            _ => code.http_status(),
        });
        let kept = matches!(status, 401 | 403) || self.write && (400..500).contains(&status);
        kept.then(|| Attempt {
            time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            request_id: self.request_id.to_owned(),
            principal: self.principal.to_owned(),
            tenant: self.tenant.to_owned(),
            method: self.method.to_string(),
            path: self.path.chars().take(MAX_PATH).collect(),
            status,
            code: self.code.map_or("", Code::name),
            client: self.client.map(|address| address.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(write: bool, status: u16, code: Option<Code>) -> Option<Attempt> {
        let path = format!("/api/v1/{}", "x".repeat(1000));
        let answered = Answered {
            request_id: "r",
            principal: "key:a",
            tenant: "acme",
            method: &Method::PUT,
            path: &path,
            write,
            status: StatusCode::from_u16(status).unwrap(),
            code,
            client: None,
        };
        answered.refused()
    }

    /// What an auditor asks for is kept, and a flood of ordinary misses is not.
    #[test]
    fn refusals_are_kept_and_misses_of_readers_are_not() {
        for (write, status, code, kept) in [
            (false, 401, None, true),
            (false, 403, Some(Code::PermissionDenied), true),
            // gRPC answers 200.
            (false, 200, Some(Code::PermissionDenied), true),
            (false, 404, Some(Code::NotFound), false),
            (false, 400, Some(Code::InvalidArgument), false),
            (true, 404, Some(Code::NotFound), true),
            (true, 412, Some(Code::FailedPrecondition), true),
            (true, 413, Some(Code::ResourceExhausted), true),
            (true, 200, None, false),
            // Nobody was refused: the service was not able to.
            (true, 503, Some(Code::Unavailable), false),
        ] {
            assert_eq!(attempt(write, status, code).is_some(), kept, "{write} {status} {code:?}");
        }
        let kept = attempt(true, 413, Some(Code::ResourceExhausted)).unwrap();
        assert_eq!((kept.status, kept.path.len()), (413, MAX_PATH));
    }
}
