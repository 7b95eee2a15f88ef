//! For tests, behind the cargo feature `testing`: a CA, certificates for any role, revocation; ports.
//!
//! ```no_run
//! # let dir = std::path::Path::new("/tmp/x");
//! let ca = conflux_common::testing::TestCa::new(dir);
//! let tls = ca.context("conflux://test/shard/s1/s1-a"); // a TlsContext
//! let files = ca.issue("conflux://test/gateway/g1"); // or only its files, for settings
//! ca.revoke(&files); // contexts of this CA see it within 2 s, or at once with `TlsContext::reload`
//! ```

#![allow(clippy::expect_used, clippy::panic, clippy::missing_panics_doc)] // made for tests, where a panic is the right answer

mod ports;

use std::{
    fs,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
pub use ports::free_address;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{
    settings::TlsFiles,
    tls::{SERVER_NAME, TlsContext},
};

/// A certificate authority with its files in one directory.
pub struct TestCa {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    issued: u64,
    revoked: Vec<SerialNumber>,
}

/// What a certificate is to carry, where it is not the usual.
#[derive(Debug, Clone)]
pub struct Draft {
    /// SAN URIs.
    pub uris: Vec<String>,
    /// SAN DNS names; usually [`SERVER_NAME`].
    pub dns: Vec<String>,
    /// Ended in 2021.
    pub expired: bool,
    /// May be shown by a server.
    pub server_auth: bool,
    /// May be shown by a client.
    pub client_auth: bool,
}

impl Draft {
    /// A usual certificate with one URI.
    pub fn of(uri: &str) -> Self {
        Self {
            uris: vec![uri.to_owned()],
            dns: vec![SERVER_NAME.to_owned()],
            expired: false,
            server_auth: true,
            client_auth: true,
        }
    }
}

impl TestCa {
    /// Makes a CA, and writes its certificate and an empty revocation list into `dir`.
    pub fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("make the CA's directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two CAs of one test must not share a name: chains and lists are matched by it.
        params.distinguished_name.push(DnType::CommonName, format!("Conflux test CA {}", uuid::Uuid::new_v4()));
        let key = KeyPair::generate().expect("make a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("make a CA");
        let ca = Self { dir: dir.to_owned(), issuer, state: Mutex::default() };
        replace(&ca.ca_file(), ca.issuer.pem().as_bytes());
        ca.write_revocations(&[]);
        ca
    }

    /// The CA's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Its revocation list, which all its certificates' [`TlsFiles`] name.
    pub fn crl_file(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    /// A usual certificate for this URI (`conflux://<cluster>/<role>/[<group>/]<member>`), in a directory of its own.
    pub fn issue(&self, uri: &str) -> TlsFiles {
        self.issue_draft(&Draft::of(uri))
    }

    /// An ended one.
    pub fn issue_expired(&self, uri: &str) -> TlsFiles {
        self.issue_draft(&Draft { expired: true, ..Draft::of(uri) })
    }

    /// Any certificate.
    pub fn issue_draft(&self, draft: &Draft) -> TlsFiles {
        let serial = {
            let mut state = self.state.lock();
            state.issued += 1;
            state.issued
        };
        let dir = self.dir.join(format!("cert-{serial}"));
        fs::create_dir_all(&dir).expect("make the certificate's directory");
        let files = TlsFiles {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
            ca: self.ca_file(),
            crl: Some(self.crl_file()),
        };
        self.write(draft, serial, &files);
        files
    }

    /// Puts a new certificate and key into the place of those.
    pub fn renew(&self, files: &TlsFiles, draft: &Draft) {
        let serial = {
            let mut state = self.state.lock();
            state.issued += 1;
            state.issued
        };
        self.write(draft, serial, files);
    }

    /// Loads a usual certificate for this URI.
    pub fn context(&self, uri: &str) -> TlsContext {
        TlsContext::load(self.issue(uri)).expect("load a certificate of the test CA")
    }

    /// Puts the certificate that is now in these files on the revocation list.
    pub fn revoke(&self, files: &TlsFiles) {
        let der = CertificateDer::from_pem_file(&files.cert).expect("read the certificate");
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("parse the certificate");
        let serial = SerialNumber::from_slice(parsed.raw_serial());
        let revoked = {
            let mut state = self.state.lock();
            state.revoked.push(serial);
            state.revoked.clone()
        };
        self.write_revocations(&revoked);
    }

    fn write(&self, draft: &Draft, serial: u64, files: &TlsFiles) {
        let mut params = CertificateParams::new(draft.dns.clone()).expect("DNS names");
        for uri in &draft.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().expect("a URI is ASCII")));
        }
        params.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if draft.server_auth {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if draft.client_auth {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if draft.expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("make a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("sign a certificate");
        replace(&files.key, key.serialize_pem().as_bytes());
        replace(&files.cert, certificate.pem().as_bytes());
    }

    fn write_revocations(&self, revoked: &[SerialNumber]) {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2125, 1, 1),
            crl_number: SerialNumber::from_slice(&(revoked.len() as u64 + 1).to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: serial.clone(),
                    revocation_time: date_time_ymd(2025, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("sign the revocation list");
        replace(&self.crl_file(), list.pem().expect("encode the revocation list").as_bytes());
    }
}

/// As an operator should: a reader sees the old or the new file, never a part.
fn replace(path: &Path, bytes: &[u8]) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes).expect("write a file of the test CA");
    fs::rename(&fresh, path).expect("rename a file of the test CA");
}
