//! rustls' verifiers with the identity check behind the chain check.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{Admission, InvalidIdentity, PeerId};

/// A certificate of a trusted CA whose holder may not enter here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It names no holder.
    #[error(transparent)]
    Unnamed(#[from] InvalidIdentity),
    /// Its holder is somebody else than those admitted.
    #[error("{} is not admitted; expected {}", .0.peer, .0.expected)]
    NotAdmitted(Box<Stranger>),
}

/// Somebody else than those admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Who it is.
    pub peer: PeerId,
    /// Who would be admitted.
    pub expected: Admission,
}

/// The reason behind a failed handshake, for logs.
pub fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.to_string(),
        Error::NoCertificatesPresented => "it presented no certificate".into(),
        other => other.to_string(),
    }
}

/// Who the certificate names, if the admission lets it in.
pub(super) fn admit(admission: &Admission, certificate: &CertificateDer<'_>) -> Result<PeerId, Refused> {
    let peer = PeerId::of_certificate(certificate)?;
    if admission.admits(&peer) {
        return Ok(peer);
    }
    Err(Refused::NotAdmitted(Box::new(Stranger { peer, expected: admission.clone() })))
}

fn refuse(why: Refused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// Checks those who dial us.
pub(super) struct Clients {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) admission: Admission,
    /// Whether nobody may enter without a certificate.
    pub(super) mandatory: bool,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clients({})", self.admission)
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        admit(&self.admission, end_entity).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Checks those whom we dial. The name that was dialled is not looked at; see [`super::SERVER_NAME`].
pub(super) struct Servers {
    pub(super) chain: Arc<dyn ServerCertVerifier>,
    pub(super) admission: Admission,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers({})", self.admission)
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = super::context::server_name()?;
        let verified = self.chain.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)?;
        admit(&self.admission, end_entity).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
