//! The federation's own certificate authority: a directory with `ca.pem`, `ca.key`, `crl.pem` and `index.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use conflux_common::ids::ClusterName;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::{
    index::{Index, Issued},
    leaf::LeafRequest,
};
use crate::files::{self, Lock, PRIVATE, PUBLIC};

const CA_YEARS: i64 = 10;
/// How long a revocation list may be used. A process goes on with an old one; issuing anew is for the next revocation.
const CRL_DAYS: i64 = 365;
/// Machines' clocks differ: a certificate is good a little before it was made.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// An opened authority. Others wait while it is open.
pub struct Authority {
    dir: PathBuf,
    cluster: ClusterName,
    index: Index,
    issuer: Issuer<'static, KeyPair>,
    _lock: Lock,
}

/// Where a certificate went.
pub struct IssuedFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
    pub entry: Issued,
}

impl Authority {
    /// Makes a new authority. Never writes over one: all certificates of a federation would be void.
    pub fn create(dir: &Path, cluster: &ClusterName) -> anyhow::Result<Self> {
        let _lock = Self::lock(dir)?;
        for name in ["ca.key", "ca.pem", "index.json"] {
            if dir.join(name).exists() {
                bail!("{} exists: this directory holds a certificate authority already", dir.join(name).display());
            }
        }
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "Conflux");
        params.distinguished_name.push(DnType::CommonName, format!("Conflux CA {cluster}").as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = now();
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + Duration::days(365 * CA_YEARS);
        params.serial_number = Some(new_serial());
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        files::write(&dir.join("ca.key"), key.serialize_pem(), PRIVATE)?;
        files::write(&dir.join("ca.pem"), certificate.pem(), PUBLIC)?;
        let index = Index { cluster: cluster.to_string(), crl_number: 0, certificates: Vec::new() };
        let issuer = Issuer::new(params, key);
        let mut authority = Self { dir: dir.to_owned(), cluster: cluster.clone(), index, issuer, _lock };
        authority.write_crl()?;
        Ok(authority)
    }

    /// Opens one that [`create`](Self::create) made.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        if !dir.join("ca.key").exists() {
            bail!("{} holds no certificate authority: make one with `conflux pki init`", dir.display());
        }
        let _lock = Self::lock(dir)?;
        let index = Index::load(&dir.join("index.json"))?;
        let cluster = ClusterName::new(index.cluster.clone())?;
        let key = KeyPair::from_pem(&files::read(&dir.join("ca.key"))?).context("ca.key is no private key")?;
        let issuer = Issuer::from_ca_cert_pem(&files::read(&dir.join("ca.pem"))?, key)
            .context("ca.pem is no certificate of an authority")?;
        Ok(Self { dir: dir.to_owned(), cluster, index, issuer, _lock })
    }

    fn lock(dir: &Path) -> anyhow::Result<Lock> {
        files::lock(&dir.join(".lock"), "another process works on this certificate authority")
    }

    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    pub fn certificates(&self) -> &[Issued] {
        &self.index.certificates
    }

    /// Makes key and certificate and writes `cert.pem`, `key.pem` and `ca.pem` into `out`. A certificate that is there
    /// is only written over with `replace` (a renewal: running processes take it up by themselves).
    pub fn issue(&mut self, request: &LeafRequest, out: &Path, replace: bool) -> anyhow::Result<IssuedFiles> {
        let (cert, key_file, ca) = (out.join("cert.pem"), out.join("key.pem"), out.join("ca.pem"));
        if !replace && (cert.exists() || key_file.exists()) {
            bail!("{} holds a certificate already: --replace renews it", out.display());
        }
        let mut params = request.params(&self.cluster)?;
        let now = now();
        let serial = new_serial();
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + Duration::days(request.days.into());
        params.serial_number = Some(serial.clone());
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let entry = Issued {
            serial: hex(&serial.to_bytes()),
            holder: request.title(&self.cluster),
            not_before: params.not_before,
            not_after: params.not_after,
            revoked: None,
        };
        // The index first: a certificate that it does not know could not be revoked.
        self.index.certificates.push(entry.clone());
        self.index.save(&self.dir.join("index.json"))?;
        files::write(&key_file, key.serialize_pem(), PRIVATE)?;
        files::write(&cert, certificate.pem(), PUBLIC)?;
        files::write(&ca, files::read(&self.dir.join("ca.pem"))?, PUBLIC)?;
        Ok(IssuedFiles { cert, key: key_file, ca, entry })
    }

    /// Revokes what `selects` and issues the next list. Answers how many were revoked now.
    pub fn revoke(&mut self, selects: impl Fn(&Issued) -> bool) -> anyhow::Result<usize> {
        let now = now();
        let mut count = 0;
        for certificate in self.index.certificates.iter_mut().filter(|c| selects(c) && c.revoked.is_none()) {
            certificate.revoked = Some(now);
            count += 1;
        }
        self.write_crl()?;
        Ok(count)
    }

    /// Issues the next revocation list. Answers its path and number.
    pub fn write_crl(&mut self) -> anyhow::Result<(PathBuf, u64)> {
        self.index.crl_number += 1;
        let now = now();
        let revoked = self.index.certificates.iter().filter_map(|c| Some((c, c.revoked?)));
        let list = CertificateRevocationListParams {
            this_update: now - CLOCK_SKEW,
            next_update: now + Duration::days(CRL_DAYS),
            crl_number: SerialNumber::from_slice(&self.index.crl_number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .map(|(certificate, at)| {
                    Ok(RevokedCertParams {
                        serial_number: SerialNumber::from_slice(&unhex(&certificate.serial)?),
                        revocation_time: at,
                        reason_code: None,
                        invalidity_date: None,
                    })
                })
                .collect::<anyhow::Result<_>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)?;
        let path = self.dir.join("crl.pem");
        self.index.save(&self.dir.join("index.json"))?;
        files::write(&path, list.pem()?, PUBLIC)?;
        Ok((path, self.index.crl_number))
    }
}

/// In whole seconds: certificates know no more.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}

/// 120 random bits behind a byte that keeps it positive and of one length (RFC 5280 section 4.1.2.2).
fn new_serial() -> SerialNumber {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[0] = 0x01 | (bytes[0] & 0x7f);
    SerialNumber::from_slice(&bytes)
}

/// Lower case, without separators.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)?;
        u8::from_str_radix(pair, 16).with_context(|| format!("serial number {text:?} is not hexadecimal"))
    });
    pairs.collect()
}
