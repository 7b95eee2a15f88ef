//! Where a watch resumes: `<incarnation>.<revision>`, or a token that also says of which federation and tenant it is.
//!
//! A token is base64url of: format (1 byte), cluster (8 bytes of its SHA-256), tenant id, incarnation, revision (8 bytes
//! each, big endian), and 4 bytes of SHA-256 over all that. It grants nothing: who may watch is decided by the credential
//! alone. The checksum only tells a damaged token from one of elsewhere.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use conflux_common::{
    error::{ApiError, Code},
    ids::{ClusterName, Incarnation, Revision, RevisionMark, TenantId},
};
use sha2::{Digest, Sha256};

const FORMAT: u8 = 1;
const BODY: usize = 1 + 4 * 8;
const LENGTH: usize = BODY + 4;

/// Whose revisions a watch speaks of: the constant part of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    cluster: [u8; 8],
    tenant: TenantId,
}

impl Scope {
    /// Of a tenant in a federation.
    pub fn new(cluster: &ClusterName, tenant: TenantId) -> Self {
        let digest = Sha256::digest(cluster.as_str().as_bytes());
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self { cluster: short, tenant }
    }

    /// Resumes after this revision.
    pub fn token(&self, mark: RevisionMark) -> String {
        let mut bytes = [0; LENGTH];
        bytes[0] = FORMAT;
        bytes[1..9].copy_from_slice(&self.cluster);
        bytes[9..17].copy_from_slice(&self.tenant.0.to_be_bytes());
        bytes[17..25].copy_from_slice(&mark.incarnation.0.to_be_bytes());
        bytes[25..33].copy_from_slice(&mark.revision.0.to_be_bytes());
        let sum = checksum(&bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&sum);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what a client gave: a token of this scope, or `<incarnation>.<revision>`.
    pub fn read(&self, text: &str) -> Result<RevisionMark, ApiError> {
        if text.contains('.') {
            return text.parse::<RevisionMark>().map_err(|_| {
                ApiError::invalid("from", "a token of an earlier frame, or `<incarnation>.<revision>` of an answer")
            });
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|b| b.len() == LENGTH);
        let Some(bytes) = bytes.filter(|b| b[BODY..] == checksum(&b[..BODY])) else {
            return Err(ApiError::invalid("from", "not a token that this service gave: it may have been cut off"));
        };
        if bytes[0] != FORMAT {
            let why = "a token of a newer release: resume through a gateway that is as new";
            return Err(ApiError::new(Code::InvalidArgument, why).with_detail("from", why));
        }
        if bytes[1..9] != self.cluster || number(&bytes[9..17]) != self.tenant.0 {
            return Err(ApiError::invalid("from", "a token of another federation or another tenant"));
        }
        Ok(RevisionMark {
            incarnation: Incarnation(number(&bytes[17..25])),
            revision: Revision(number(&bytes[25..33])),
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let digest = Sha256::digest(body);
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(cluster: &str, tenant: u64) -> Scope {
        Scope::new(&cluster.parse().unwrap(), TenantId(tenant))
    }

    fn mark(incarnation: u64, revision: u64) -> RevisionMark {
        RevisionMark { incarnation: Incarnation(incarnation), revision: Revision(revision) }
    }

    #[test]
    fn a_token_of_elsewhere_is_refused() {
        // It would silently skip or repeat changes: revisions of two tenants have nothing to do with one another.
        let token = scope("east", 7).token(mark(1, 5));
        assert_eq!(scope("east", 7).read(&token).unwrap(), mark(1, 5));
        for other in [scope("west", 7), scope("east", 8)] {
            let refused = other.read(&token).unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument);
            assert!(refused.message.contains("another"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_given_is_read(tenant: u64, i: u64, r: u64) {
            let scope = scope("c", tenant);
            prop_assert_eq!(scope.read(&scope.token(mark(i, r))).unwrap(), mark(i, r));
            prop_assert_eq!(scope.read(&mark(i, r).to_string()).unwrap(), mark(i, r));
        }

        #[test]
        fn a_damaged_token_is_refused(r: u64, at in 0usize..50, with in "[A-Za-z0-9_-]") {
            // A flipped character must not become another revision.
            let scope = scope("c", 1);
            let token = scope.token(mark(1, r));
            let mut damaged = token.clone();
            damaged.replace_range(at..=at, &with);
            prop_assert!(damaged == token || scope.read(&damaged).is_err());
            prop_assert!(scope.read(&token[..at]).is_err());
        }

        #[test]
        fn no_text_panics(text: String, bytes: Vec<u8>) {
            let scope = scope("c", 1);
            let _ = scope.read(&text);
            prop_assert!(scope.read(&URL_SAFE_NO_PAD.encode(&bytes)).is_err());
        }
    }
}
