//! What the PEM files hold, checked as a whole before it is used.

use std::{fmt, fs, io, path::Path, sync::Arc};

use rustls::{
    Error, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};

use super::{PeerId, TlsError};
use crate::settings::TlsFiles;

/// The bytes of the files as they were read together.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
    crl: Vec<u8>,
}

impl Contents {
    /// A missing revocation list is an empty one, unless `had_lists`: one that goes away while in use is a mistake, and
    /// must not let the revoked in again.
    pub(super) fn read(files: &TlsFiles, had_lists: bool) -> Result<Self, TlsError> {
        let crl = match &files.crl {
            Some(path) if had_lists || path.exists() => read(path, "revocation lists")?,
            _ => Vec::new(),
        };
        Ok(Self {
            cert: read(&files.cert, "certificate")?,
            key: read(&files.key, "private key")?,
            ca: read(&files.ca, "CA")?,
            crl,
        })
    }

    /// Tells two states of the files apart without keeping the key's bytes.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [&self.cert, &self.key, &self.ca, &self.crl] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error: io::Error| TlsError(format!("cannot read the {what} {}: {error}", path.display())))
}

/// Own certificate and trust, ready for use.
pub(super) struct Material {
    pub(super) own_id: PeerId,
    pub(super) own: Arc<CertifiedKey>,
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) servers: Arc<dyn ServerCertVerifier>,
    /// Whether there was any revocation list.
    pub(super) has_lists: bool,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Material({})", self.own_id)
    }
}

impl Material {
    /// Fails unless key and certificate belong together, the certificate names a holder and is of the CA, and the lists
    /// are signed by it. An own certificate that peers will refuse for another reason (expired, revoked) is logged only:
    /// its renewal will be picked up from the files.
    pub(super) fn parse(
        contents: &Contents,
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let own = Arc::new(own_key(contents, files, provider)?);
        let leaf = own.end_entity_cert().map_err(|_| TlsError(format!("{} is empty", files.cert.display())))?;
        let own_id =
            PeerId::of_certificate(leaf).map_err(|error| TlsError(format!("{}: {error}", files.cert.display())))?;
        let roots = Arc::new(roots(contents, files)?);
        let crls = revocation_lists(contents, files)?;
        let has_lists = !crls.is_empty();
        let (clients, servers) = verifiers(roots, crls, provider, files)?;
        let material = Self { own_id, own, clients, servers, has_lists };
        material.check_own(files)?;
        Ok(material)
    }

    /// Whether peers with the same files would accept us.
    fn check_own(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let Some((leaf, chain)) = self.own.cert.split_first() else { return Ok(()) };
        let name = super::context::server_name().map_err(|error| TlsError(error.to_string()))?;
        let now = UnixTime::now();
        let verdict = self
            .clients
            .verify_client_cert(leaf, chain, now)
            .map(drop)
            .and_then(|()| self.servers.verify_server_cert(leaf, chain, &name, &[], now).map(drop));
        match verdict {
            Ok(()) => Ok(()),
            Err(Error::InvalidCertRevocationList(error)) => Err(TlsError(format!(
                "a revocation list in {} cannot be used: {error:?}",
                files.crl.as_deref().unwrap_or(Path::new("-")).display()
            ))),
            Err(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => Err(TlsError(format!(
                "the certificate {} is not issued by a CA in {}",
                files.cert.display(),
                files.ca.display()
            ))),
            Err(error) => {
                tracing::error!(certificate = %files.cert.display(), holder = %self.own_id, %error,
                    "peers will refuse the own certificate; put a valid one into its place, no restart is needed");
                Ok(())
            }
        }
    }
}

fn own_key(contents: &Contents, files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&contents.cert, &files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        // Without the parser's error, which quotes what it read: nothing of a key belongs into a message.
        .map_err(|_| TlsError(format!("there is no private key (PEM, PKCS #8) in {}", files.key.display())))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => TlsError(format!(
            "the key {} does not belong to the certificate {}",
            files.key.display(),
            files.cert.display()
        )),
        other => TlsError(format!("cannot use {} with {}: {other}", files.key.display(), files.cert.display())),
    })
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| TlsError(format!("{} is not PEM: {error}", path.display())))?;
    if all.is_empty() {
        return Err(TlsError(format!("there is no certificate in {}", path.display())));
    }
    Ok(all)
}

fn roots(contents: &Contents, files: &TlsFiles) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&contents.ca, &files.ca)? {
        roots.add(root).map_err(|error| TlsError(format!("a CA in {} cannot be used: {error}", files.ca.display())))?;
    }
    Ok(roots)
}

fn revocation_lists(
    contents: &Contents,
    files: &TlsFiles,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let path = files.crl.as_deref().unwrap_or(Path::new("-"));
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&contents.crl).collect();
    let lists = lists.map_err(|error| TlsError(format!("{} is not PEM: {error}", path.display())))?;
    // A list cut short by a crash must not silently un-revoke everyone; an empty file is how one says "none".
    if lists.is_empty() && !contents.crl.trim_ascii().is_empty() {
        return Err(TlsError(format!("there is no revocation list in {}", path.display())));
    }
    Ok(lists)
}

type Verifiers = (Arc<dyn ClientCertVerifier>, Arc<dyn ServerCertVerifier>);

fn verifiers(
    roots: Arc<RootCertStore>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    provider: &Arc<CryptoProvider>,
    files: &TlsFiles,
) -> Result<Verifiers, TlsError> {
    let wrong = |error: rustls::server::VerifierBuilderError| {
        let path = files.crl.as_deref().unwrap_or(&files.ca);
        TlsError(format!("{} cannot be used: {error}", path.display()))
    };
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .with_crls(crls.clone())
        .allow_unknown_revocation_status()
        .build()
        .map_err(wrong)?;
    let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .with_crls(crls)
        .allow_unknown_revocation_status()
        .build()
        .map_err(wrong)?;
    Ok((clients, servers))
}
