//! mTLS between the processes of a federation: who the peer is, which roles a port admits, revocation, reload.
//!
//! A certificate's SAN URI names its holder: `conflux://<cluster>/gateway/<member>`,
//! `conflux://<cluster>/shard/<group>/<member>`, `conflux://<cluster>/placement/<group>/<member>`,
//! `conflux://<cluster>/operator/<name>` (DESIGN section 9). Both ends check it in the handshake.
//!
//! # What a certificate must carry
//! * exactly one SAN URI of the scheme `conflux`, in one of the four forms;
//! * the SAN DNS name [`SERVER_NAME`], the same in every certificate: addresses of members change, and who a member is
//!   says its URI alone, so a client verifies this fixed name instead of an address;
//! * the extended key usages server and client authentication: every process both dials and serves;
//! * a chain to a root in the `ca` file, within its validity.
//!
//! # Revocation
//! Lists in the `crl` file are enforced at both ends for each certificate of the chain. An issuer without a list is
//! allowed (a federation begins without one), and a list past its `nextUpdate` still counts: refusing everything because
//! a list was not renewed would stop the federation. A list that its CA did not sign is refused when it is loaded, and
//! a list that goes away while in use stays in force: put an empty list there to revoke nobody.
//! TLS sessions are never resumed, since resumption skips the certificate check; the links live long anyway.
//! When the files change, live connections are checked again ([`TlsContext::distrusted`]): one whose peer is revoked, or
//! whose CA has left the `ca` file, is closed from both ends. That a certificate ends while its connection lives is seen
//! only then: it was valid when the peer proved to have it, and its renewal shall not break a link.

mod context;
mod identity;
mod material;
mod verifier;

pub use context::TlsContext;
pub use identity::{Admission, InvalidIdentity, PeerId, Peers, Role};
pub use verifier::{Refused, Stranger, explain};

/// The SAN DNS name in every certificate, and the server name that every client sends and verifies.
pub const SERVER_NAME: &str = "conflux.internal";

/// Which end of the connection the peer is; decides which key usage its certificate needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerSide {
    /// The peer dialled us.
    Client,
    /// We dialled the peer.
    Server,
}

/// Why the files cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

#[cfg(test)]
mod tests;
