//! A process's own certificate and trust, kept fresh from its files.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak, mpsc},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::NoServerSessionStorage,
    sign::SingleCertAndKey,
};
use tokio::sync::watch;

use super::{
    Admission, PeerId, PeerSide, SERVER_NAME, TlsError, explain,
    material::{Contents, Material},
    verifier::{Clients, Servers},
};
use crate::settings::TlsFiles;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bound of the configurations kept; peers come and go, and one is cheap to make again.
const MAX_CACHED: usize = 1024;

/// A process's own certificate and trust, kept fresh from its files. Clones share one state.
#[derive(Clone)]
pub struct TlsContext {
    shared: Arc<Shared>,
}

struct Shared {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Loaded>,
    generation: watch::Sender<u64>,
    /// Serialises reloads.
    last_read: Mutex<LastRead>,
    servers: Mutex<HashMap<Admission, (u64, Arc<ServerConfig>)>>,
    clients: Mutex<HashMap<Admission, (u64, Arc<ClientConfig>)>>,
    /// Its end tells the watching thread that the last clone is gone.
    _alive: mpsc::Sender<()>,
}

/// What was read last, and why it cannot be used, if so: the same bytes are not parsed again.
struct LastRead {
    fingerprint: [u8; 32],
    failure: Option<TlsError>,
}

struct Loaded {
    generation: u64,
    material: Material,
}

impl fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsContext").field("own_id", &self.own_id().to_string()).finish_non_exhaustive()
    }
}

impl TlsContext {
    /// Loads the files, checks that key and certificate belong together and that the certificate names a holder, and
    /// watches them for changes (every two seconds, until the last clone is dropped). A change that cannot be used is
    /// logged and the old one kept.
    ///
    /// The watcher is a thread of its own: it does file I/O, and works with any runtime or none.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let contents = Contents::read(&files, false)?;
        let material = Material::parse(&contents, &files, &provider)?;
        let (alive, gone) = mpsc::channel();
        let shared = Arc::new(Shared {
            files,
            provider,
            current: ArcSwap::from_pointee(Loaded { generation: 0, material }),
            generation: watch::Sender::new(0),
            last_read: Mutex::new(LastRead { fingerprint: contents.fingerprint(), failure: None }),
            servers: Mutex::default(),
            clients: Mutex::default(),
            _alive: alive,
        });
        let watched = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("tls-files".into())
            .spawn(move || watch_files(&watched, &gone))
            .map_err(|error| TlsError(format!("cannot watch the TLS files: {error}")))?;
        Ok(Self { shared })
    }

    /// Who this process is by its own certificate.
    pub fn own_id(&self) -> PeerId {
        self.shared.current.load().material.own_id.clone()
    }

    /// The present configuration for a port that admits these peers. TLS 1.3; ALPN: h2, http/1.1.
    pub fn server_config(&self, admission: &Admission) -> Arc<rustls::ServerConfig> {
        let loaded = self.shared.current.load_full();
        cached(&self.shared.servers, admission, loaded.generation, || {
            server_config(&self.shared.provider, &loaded.material, admission, true)
        })
    }

    /// As [`server_config`](Self::server_config), but a peer without a certificate passes the handshake as nobody; one
    /// that shows a certificate must be admitted all the same. For a port that knows another credential as well, which
    /// it must then demand. Not for [`serve`](crate::serve::serve). Made anew at each call.
    pub fn server_config_optional(&self, admission: &Admission) -> Arc<rustls::ServerConfig> {
        let loaded = self.shared.current.load();
        Arc::new(server_config(&self.shared.provider, &loaded.material, admission, false))
    }

    /// The present configuration for dialling one of these peers. The server's name is not looked at: its URI is.
    /// TLS 1.3; ALPN: h2. Dial with [`SERVER_NAME`](super::SERVER_NAME) as the server name.
    pub fn client_config(&self, expected: &Admission) -> Arc<rustls::ClientConfig> {
        let loaded = self.shared.current.load_full();
        cached(&self.shared.clients, expected, loaded.generation, || {
            client_config(&self.shared.provider, &loaded.material, expected)
        })
    }

    /// Counts the changes that were taken over.
    pub fn generation(&self) -> u64 {
        self.shared.current.load().generation
    }

    /// Resolves at each change that was taken over.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Looks at the files now instead of within two seconds. Whether a change was taken over by this call; an error says
    /// why the files, as they are, cannot be used.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.shared.reload()
    }

    /// Checks a peer's certificates (leaf first) as its handshake did, by the present files. Who it is, or why it would
    /// be refused.
    pub fn check_peer(
        &self,
        certificates: &[CertificateDer<'_>],
        side: PeerSide,
        admission: &Admission,
    ) -> Result<PeerId, String> {
        let loaded = self.shared.current.load();
        let (leaf, chain) = certificates.split_first().ok_or("it presented no certificate")?;
        let now = UnixTime::now();
        let material = &loaded.material;
        match side {
            PeerSide::Client => material.clients.verify_client_cert(leaf, chain, now).map(drop),
            PeerSide::Server => server_name()
                .and_then(|name| material.servers.verify_server_cert(leaf, chain, &name, &[], now).map(drop)),
        }
        .map_err(|error| explain(&error))?;
        super::verifier::admit(admission, leaf).map_err(|why| why.to_string())
    }

    /// Resolves, with the reason, once the peer of a live connection is no longer trusted: revoked, its CA left the
    /// files, or found expired when the files change. `since` is the [`generation`](Self::generation) before the
    /// handshake.
    pub async fn distrusted(
        self,
        certificates: Vec<CertificateDer<'static>>,
        side: PeerSide,
        admission: Admission,
        since: u64,
    ) -> String {
        let mut changes = self.changes();
        let mut checked = since;
        loop {
            let present = *changes.borrow_and_update();
            if present != checked {
                checked = present;
                if let Err(why) = self.check_peer(&certificates, side, &admission) {
                    return why;
                }
            }
            // The sender lives in `self`, so this only ends with a change.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Shared {
    fn reload(&self) -> Result<bool, TlsError> {
        let mut last_read = self.last_read.lock();
        let contents = Contents::read(&self.files, self.current.load().material.has_lists)?;
        let fingerprint = contents.fingerprint();
        if last_read.fingerprint == fingerprint {
            return last_read.failure.clone().map_or(Ok(false), Err);
        }
        let parsed = Material::parse(&contents, &self.files, &self.provider);
        *last_read = LastRead { fingerprint, failure: parsed.as_ref().err().cloned() };
        let material = parsed?;
        let generation = self.current.load().generation + 1;
        tracing::info!(generation, holder = %material.own_id, "the TLS files changed and are in use");
        self.current.store(Arc::new(Loaded { generation, material }));
        self.generation.send_replace(generation);
        Ok(true)
    }
}

fn watch_files(watched: &Weak<Shared>, gone: &mpsc::Receiver<()>) {
    // A file that cannot be read is said once, not every two seconds.
    let mut said = String::new();
    while gone.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(shared) = watched.upgrade() else { return };
        match shared.reload() {
            Ok(true) => said.clear(),
            Ok(false) => {}
            Err(error) => {
                let text = error.to_string();
                if said != text {
                    tracing::error!(%error, "the TLS files changed and cannot be used; the old ones stay in use");
                    said = text;
                }
            }
        }
    }
}

fn cached<C>(
    cache: &Mutex<HashMap<Admission, (u64, Arc<C>)>>,
    admission: &Admission,
    generation: u64,
    make: impl FnOnce() -> C,
) -> Arc<C> {
    let mut cache = cache.lock();
    if let Some((made_in, config)) = cache.get(admission)
        && *made_in == generation
    {
        return config.clone();
    }
    if cache.len() >= MAX_CACHED {
        cache.clear();
    }
    let config = Arc::new(make());
    cache.insert(admission.clone(), (generation, config.clone()));
    config
}

/// [`SERVER_NAME`] as rustls takes it.
pub(super) fn server_name() -> Result<ServerName<'static>, rustls::Error> {
    ServerName::try_from(SERVER_NAME).map_err(|error| rustls::Error::General(error.to_string()))
}

#[allow(clippy::expect_used)] // ring has TLS 1.3, a constant of its provider
fn server_config(
    provider: &Arc<CryptoProvider>,
    material: &Material,
    admission: &Admission,
    mandatory: bool,
) -> ServerConfig {
    let verifier = Clients { chain: material.clients.clone(), admission: admission.clone(), mandatory };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring supports TLS 1.3")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.own.clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would not see the certificate again, and so not its revocation.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

#[allow(clippy::expect_used)] // ring has TLS 1.3, a constant of its provider
fn client_config(provider: &Arc<CryptoProvider>, material: &Material, expected: &Admission) -> ClientConfig {
    let verifier = Servers { chain: material.servers.clone(), admission: expected.clone() };
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring supports TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(material.own.clone())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}
