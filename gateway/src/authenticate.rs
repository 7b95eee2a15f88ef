//! Who asks: an API key or a JWT, from `Authorization: Bearer` or `X-API-Key`.

mod jwks;
mod token;

use std::{sync::Arc, time::SystemTime};

pub use self::jwks::Jwks;
use conflux_common::{
    api_key::{ApiKey, PREFIX},
    grant::Principal,
};
use http::{HeaderMap, header};

use crate::{
    directory::Directory,
    identity::{Credential, Identity, Refusal},
};

/// The longest credential that is looked at.
const MAX_CREDENTIAL: usize = 16 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    directory: Directory,
    tokens: Option<Arc<Jwks>>,
}

impl Authenticator {
    /// Keys are looked up in the directory; tokens are checked with the provider's keys, where there is one.
    pub fn new(directory: Directory, tokens: Option<Arc<Jwks>>) -> Self {
        Self { directory, tokens }
    }

    /// Where keys and roles are looked up.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Who sent these headers. The reason for a refusal is logged, not told: every 401 looks the same.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, Refusal> {
        let shown = presented(headers).ok_or(Refusal::Invalid)?;
        if shown.starts_with(PREFIX) {
            return self.by_key(shown, SystemTime::now());
        }
        match &self.tokens {
            Some(tokens) => self.by_token(shown, tokens).await,
            None => Err(Refusal::Invalid),
        }
    }

    async fn by_token(&self, shown: &str, tokens: &Jwks) -> Result<Identity, Refusal> {
        let claims = tokens.verify(shown).await?;
        // A token's roles are only as good as what we know of roles.
        if !self.directory.within_grace() {
            return Err(Refusal::Unknowable);
        }
        let (grants, directory_seq) = self.directory.grants(&claims.tenant, &claims.roles);
        let issuer = tokens.settings().issuer.clone();
        let principal = Principal {
            name: format!("jwt:{issuer}#{}", claims.subject),
            tenant: Some(claims.tenant.clone()),
            operator: false,
            grants,
            directory_seq,
        };
        let credential = Credential::Token {
            issuer,
            subject: claims.subject,
            tenant: claims.tenant,
            roles: claims.roles,
            expires: claims.expires,
        };
        Ok(Identity { principal: Arc::new(principal), credential })
    }

    fn by_key(&self, shown: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let key = ApiKey::parse(shown).map_err(|_| refused("malformed", ""))?;
        let record = self.directory.key(key.id());
        // The comparison takes the same time for an unknown id: it runs against a dummy.
        let matches = key.matches(record.as_ref().map(|r| &r.secret_hash[..]));
        if !self.directory.within_grace() {
            return Err(Refusal::Unknowable);
        }
        let Some(record) = record.filter(|_| matches) else {
            // It may be a key that placement has and we do not: without placement nobody can say.
            let known_wrong = self.directory.is_fresh();
            return Err(if known_wrong { refused("unknown or wrong key", key.id()) } else { Refusal::Unknowable });
        };
        let principal = self.directory.principal_of(&record.id, now).inspect_err(|_| {
            refused("expired key", key.id());
        })?;
        Ok(Identity { principal, credential: Credential::Key(record.id.clone()) })
    }
}

fn refused(why: &str, key: &str) -> Refusal {
    tracing::info!(why, key, "credential refused");
    metrics::counter!("conflux_gateway_unauthenticated_total").increment(1);
    Refusal::Invalid
}

/// The one credential of a request: none, or two that differ, is no credential.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let mut found: Option<&str> = None;
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|v| v.to_str().ok().and_then(bearer));
    let keys = headers.get_all("x-api-key").iter().map(|v| v.to_str().ok());
    for shown in bearer.chain(keys) {
        let shown = shown?;
        if found.is_some_and(|other| other != shown) {
            return None;
        }
        found = Some(shown);
    }
    found.filter(|shown| !shown.is_empty() && shown.len() <= MAX_CREDENTIAL)
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests;
