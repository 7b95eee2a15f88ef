//! Who asks, and by what credential, so that it can be asked again whether that still holds.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use conflux_common::{
    error::{ApiError, Code},
    grant::Principal,
    ids::TenantName,
};

/// A verified caller.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name, tenant and grants as of when it was verified.
    pub principal: Arc<Principal>,
    /// What it showed.
    pub credential: Credential,
}

/// What a caller showed, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// An API key of this id.
    Key(String),
    /// A verified token. Its roles are looked up in the directory again and again.
    Token {
        /// The claim `iss`.
        issuer: String,
        /// The claim `sub`.
        subject: String,
        /// The tenant that it is for.
        tenant: TenantName,
        /// The names of its roles.
        roles: Vec<String>,
        /// The claim `exp`.
        expires: SystemTime,
    },
    /// A certificate of the operator role.
    Certificate(String),
}

/// Why a credential is not (or no longer) good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong, unknown, expired or revoked: 401.
    #[error("the credential is not valid")]
    Invalid,
    /// It cannot be said, since placement has been silent for too long: 503, never 401.
    #[error("identities cannot be checked at present")]
    Unknowable,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // One text for all reasons: it must not tell which keys exist.
            Refusal::Invalid => ApiError::new(Code::Unauthenticated, "a valid credential is needed"),
            Refusal::Unknowable => ApiError::new(Code::Unavailable, "credentials cannot be checked at present")
                .retry_after(Duration::from_secs(1)),
        }
    }
}
