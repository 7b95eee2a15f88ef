//! Why a command failed, told so that its reader knows what to do, and the exit code that tells a script.

use std::fmt;

use conflux_common::error::{Code, ErrorInfo, Outcome};

/// Exit codes. 0 is done; 1 is any failure that has no code of its own; 2 is a mistake in the command line or settings.
pub mod exit {
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const NOT_FOUND: u8 = 3;
    pub const REFUSED: u8 = 4;
    pub const CONFLICT: u8 = 5;
    pub const UNAVAILABLE: u8 = 6;
    /// A plan that was only shown has changes, and the caller asked to be told so.
    pub const CHANGES: u8 = 7;
}

/// For `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 mistake in the command line or settings, 3 not found, \
    4 not allowed, 5 conflict (exists, or changed by somebody else), 6 not reachable or busy: try again";

/// A failure with its exit code; what is no `Failure` exits with 1.
#[derive(Debug)]
pub enum Failure {
    /// The service refused.
    Refused { status: u16, info: Box<ErrorInfo> },
    /// No answer came, or not from Conflux.
    NoAnswer { url: String, why: String },
    /// Before anything was sent.
    Usage(String),
    /// In the log already; the exit code.
    Told(u8),
}

impl std::error::Error for Failure {}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Told(code) => *code,
            Self::NoAnswer { .. } => exit::UNAVAILABLE,
            Self::Refused { info, .. } => match info.code {
                Code::NotFound => exit::NOT_FOUND,
                Code::Unauthenticated | Code::PermissionDenied => exit::REFUSED,
                Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => exit::CONFLICT,
                Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => exit::UNAVAILABLE,
                Code::InvalidArgument => exit::USAGE,
                _ => exit::FAILED,
            },
        }
    }

    /// Whether the same may succeed in a moment.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Refused { info, .. } => info.retryable,
            Self::Usage(_) | Self::Told(_) => false,
        }
    }

    /// Of any error: what is no `Failure` has no code of its own.
    pub fn code_of(error: &anyhow::Error) -> u8 {
        error.downcast_ref::<Self>().map_or(exit::FAILED, Self::exit_code)
    }

    /// What its reader can do about it.
    fn advice(info: &ErrorInfo) -> Option<&'static str> {
        if info.outcome == Outcome::Unknown && info.code != Code::Internal {
            return Some("it may have taken effect: look before you repeat it");
        }
        Some(match info.code {
            Code::Unauthenticated => {
                "check the key: --key-file, CONFLUX_KEY_FILE or the profile (`conflux profile show`)"
            }
            Code::PermissionDenied => "the key's tenant or roles do not cover this; an operator's key may be needed",
            Code::FailedPrecondition => "it has changed since you looked: get it again and repeat",
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => "try again in a moment",
            _ => return None,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Told(code) => write!(f, "exit code {code}"),
            Self::NoAnswer { url, why } => {
                write!(f, "no answer from {url}: {why}\n  is it running, and do --url and --ca fit?")
            }
            Self::Refused { status, info } => {
                write!(f, "{} ({status}): {}", info.code, info.message)?;
                // One problem is usually the message itself.
                let more = info.details.iter().filter(|p| !info.message.contains(&p.description));
                for problem in more {
                    write!(f, "\n  {}: {}", problem.field, problem.description)?;
                }
                if !info.request_id.is_empty() {
                    write!(f, "\n  request id: {}", info.request_id)?;
                }
                match Self::advice(info) {
                    Some(advice) => write!(f, "\n  {advice}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use conflux_common::error::ApiError;

    use super::*;

    /// Whoever reports a failure must have the request id; whoever scripts must be able to tell them apart.
    #[test]
    fn a_refusal_shows_everything() {
        let body = ApiError::invalid("name", "too long").to_body("r-17");
        let failure = Failure::Refused { status: 400, info: Box::new(body.error) };
        let text = failure.to_string();
        assert!(text.contains("INVALID_ARGUMENT (400)"), "{text}");
        assert!(text.contains("name: too long"), "{text}");
        assert!(text.contains("request id: r-17"), "{text}");
        assert_eq!(failure.exit_code(), exit::USAGE);
    }
}
