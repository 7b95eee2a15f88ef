//! The identity provider's keys, kept fresh: on a timer, and when a token names a key that is not known.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::{sync::Semaphore, time::Instant};

use super::token::{BadToken, Claims, KeySet};
use crate::{
    identity::Refusal,
    settings::{JwksSource, JwtSettings},
};

/// Tokens with made-up key ids must not make us ask the provider more often than this.
const FLOOR: Duration = Duration::from_secs(10);
/// For the provider's whole answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A set of keys is a few kilobytes.
const MAX_BYTES: usize = 1 << 20;
/// A file costs little to read.
const FILE_EVERY: Duration = Duration::from_secs(2);

/// The keys and where they come from.
pub struct Jwks {
    settings: JwtSettings,
    source: JwksSource,
    client: reqwest::Client,
    keys: ArcSwapOption<KeySet>,
    asking: Semaphore,
    asked: parking_lot::Mutex<Option<Instant>>,
}

impl Jwks {
    /// Asks nobody yet.
    pub fn new(settings: JwtSettings) -> Result<Arc<Self>, String> {
        let source = settings.source()?;
        let mut client = reqwest::Client::builder()
            // A redirect could lead anywhere, to plain http or into our own network.
            .redirect(reqwest::redirect::Policy::none())
            .https_only(!settings.allow_loopback_http)
            .timeout(PATIENCE)
            .no_proxy();
        if let Some(file) = &settings.jwks_ca {
            let pem = std::fs::read(file).map_err(|e| format!("jwks_ca: cannot read {}: {e}", file.display()))?;
            let certs = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| format!("jwks_ca: {e}"))?;
            client = client.tls_certs_only(certs);
        }
        let client = client.build().map_err(|e| e.to_string())?;
        let keys = ArcSwapOption::empty();
        Ok(Arc::new(Self { settings, source, client, keys, asking: Semaphore::new(1), asked: Default::default() }))
    }

    /// What the token says, if it is good.
    pub async fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        if self.keys.load().is_none() {
            self.refresh_if_due().await;
        }
        let keys = self.keys.load_full().ok_or(Refusal::Unknowable)?;
        let mut result = keys.verify(token, &self.settings);
        if result == Err(BadToken::UnknownKey) && self.refresh_if_due().await {
            let keys = self.keys.load_full().ok_or(Refusal::Unknowable)?;
            result = keys.verify(token, &self.settings);
        }
        result.map_err(|why| {
            tracing::info!(%why, "token refused");
            metrics::counter!("conflux_gateway_unauthenticated_total").increment(1);
            Refusal::Invalid
        })
    }

    /// Keeps the keys fresh, for ever.
    pub async fn follow(self: Arc<Self>) {
        let every = match self.source {
            JwksSource::File(_) => FILE_EVERY,
            JwksSource::Url(_) => Duration::from_secs(self.settings.refresh_s),
        };
        loop {
            self.refresh().await;
            // While there is nothing, try again soon.
            let pause = if self.keys.load().is_some() { every } else { every.min(FLOOR) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks again unless someone just did. Whether the keys may be newer now.
    async fn refresh_if_due(&self) -> bool {
        let Ok(_turn) = self.asking.acquire().await else { return false };
        let floor = if matches!(self.source, JwksSource::File(_)) { Duration::ZERO } else { FLOOR };
        if self.asked.lock().is_some_and(|at| at.elapsed() < floor) {
            // Whoever asked while we waited for our turn has put the newer keys there.
            return true;
        }
        self.refresh().await;
        true
    }

    async fn refresh(&self) {
        *self.asked.lock() = Some(Instant::now());
        match self.fetch().await.and_then(|json| KeySet::read(&json)) {
            Ok(keys) => self.keys.store(Some(Arc::new(keys))),
            Err(why) => {
                tracing::warn!(jwks = self.settings.jwks, why, "the keys of tokens cannot be read; the old ones stay")
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>, String> {
        let url = match &self.source {
            JwksSource::File(path) => {
                let read = tokio::fs::read(path).await.map_err(|e| e.to_string())?;
                return if read.len() <= MAX_BYTES { Ok(read) } else { Err("too large".into()) };
            }
            JwksSource::Url(url) => url,
        };
        let mut answer = self.client.get(url).send().await.map_err(|e| e.to_string())?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("status {}", answer.status()));
        }
        let mut json = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| e.to_string())? {
            if json.len() + chunk.len() > MAX_BYTES {
                return Err(format!("larger than {MAX_BYTES} bytes"));
            }
            json.extend_from_slice(&chunk);
        }
        Ok(json)
    }

    /// How tokens are checked.
    pub fn settings(&self) -> &JwtSettings {
        &self.settings
    }
}
