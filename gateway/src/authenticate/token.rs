//! Tokens (JWT): which keys may have signed one, and what it must say. Pure: keys in, identity out.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use conflux_common::ids::TenantName;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde_json::{Map, Value};

use crate::settings::JwtSettings;

/// RSA keys of fewer bytes (2048 bits) are not taken.
const LEAST_RSA_BYTES: usize = 256;
/// More keys than any provider has.
const MAX_KEYS: usize = 100;
/// The longest subject; it goes into logs and records.
const MAX_SUBJECT: usize = 255;
/// More roles than anyone has.
const MAX_ROLES: usize = 64;

/// The keys of an identity provider, each bound to the one algorithm of its type: what a token's head says of the
/// algorithm is compared, never followed.
#[derive(Default)]
pub struct KeySet {
    by_id: HashMap<String, (Algorithm, DecodingKey)>,
    /// A provider with one key may leave the id out.
    alone: Option<(Algorithm, DecodingKey)>,
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub subject: String,
    /// Which tenant it is for.
    pub tenant: TenantName,
    /// Names of roles.
    pub roles: Vec<String>,
    /// `exp`.
    pub expires: SystemTime,
}

/// Why a token is not good. For logs only: callers learn nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// No key of this id: it may be newer than our copy.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// Everything else.
    #[error("{0}")]
    Refused(String),
}

impl KeySet {
    /// Takes the keys that can be used; what cannot is passed over with a word in the log.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let raw: Value = serde_json::from_slice(json).map_err(|e| format!("not JSON: {e}"))?;
        let keys = raw.get("keys").and_then(Value::as_array).ok_or("no list `keys`")?;
        let mut set = Self::default();
        let mut usable = 0;
        for key in keys.iter().take(MAX_KEYS) {
            // One by one: a key of a kind that is unknown here must not make the others unusable.
            let Ok(jwk) = serde_json::from_value::<Jwk>(key.clone()) else { continue };
            let id = jwk.common.key_id.clone();
            match usable_key(&jwk) {
                Ok(bound) => {
                    usable += 1;
                    set.add(id, bound);
                }
                Err(why) => tracing::debug!(kid = id, why, "a key of the JWKS is passed over"),
            }
        }
        if usable == 0 {
            return Err("no usable key: RS256, ES256 or EdDSA".into());
        }
        if usable > 1 {
            set.alone = None;
        }
        Ok(set)
    }

    fn add(&mut self, id: Option<String>, bound: (Algorithm, DecodingKey)) {
        self.alone = Some(bound.clone());
        if let Some(id) = id {
            self.by_id.insert(id, bound);
        }
    }

    /// Checks a token.
    pub fn verify(&self, token: &str, settings: &JwtSettings) -> Result<Claims, BadToken> {
        let refused = |e: &dyn std::fmt::Display| BadToken::Refused(e.to_string());
        // Unknown algorithms, `none` among them, end here.
        let head = decode_header(token).map_err(|e| refused(&e))?;
        if head.crit.is_some() {
            return Err(BadToken::Refused("it has extensions that must be understood".into()));
        }
        let found = match &head.kid {
            Some(kid) => self.by_id.get(kid),
            None => self.alone.as_ref(),
        };
        let (algorithm, key) = found.ok_or(BadToken::UnknownKey)?;
        if head.alg != *algorithm {
            return Err(BadToken::Refused(format!("{:?} is not this key's algorithm", head.alg)));
        }
        let mut validation = Validation::new(*algorithm);
        validation.leeway = settings.leeway_s;
        validation.validate_nbf = true;
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let data = decode::<Map<String, Value>>(token, key, &validation).map_err(|e| refused(&e))?;
        read_claims(&data.claims, settings).map_err(BadToken::Refused)
    }
}

/// The key and the only algorithm that it may be used with.
fn usable_key(jwk: &Jwk) -> Result<(Algorithm, DecodingKey), String> {
    if matches!(&jwk.common.public_key_use, Some(used) if *used != PublicKeyUse::Signature) {
        return Err("not for signatures".into());
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).map_err(|e| e.to_string())?;
            if modulus.iter().skip_while(|b| **b == 0).count() < LEAST_RSA_BYTES {
                return Err("an RSA key of fewer than 2048 bits".into());
            }
            (Algorithm::RS256, KeyAlgorithm::RS256)
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return Err("neither RSA, P-256 nor Ed25519".into()),
    };
    if jwk.common.key_algorithm.is_some_and(|alg| alg != named) {
        return Err("meant for another algorithm".into());
    }
    Ok((algorithm, DecodingKey::from_jwk(jwk).map_err(|e| e.to_string())?))
}

fn read_claims(claims: &Map<String, Value>, settings: &JwtSettings) -> Result<Claims, String> {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
        return Err("sub is empty, too long or not plain".into());
    }
    let tenant = claims.get(&settings.tenant_claim).and_then(Value::as_str);
    let tenant = tenant.ok_or_else(|| format!("no claim {:?}", settings.tenant_claim))?;
    let tenant = TenantName::new(tenant).map_err(|e| e.to_string())?;
    let roles: Vec<String> = match claims.get(&settings.roles_claim) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(words)) => words.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(|r| r.as_str().map(str::to_owned)).collect(),
        Some(_) => return Err(format!("the claim {:?} is no list", settings.roles_claim)),
    };
    if roles.len() > MAX_ROLES {
        return Err("too many roles".into());
    }
    let seconds = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0).clamp(0.0, 1e11);
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
    Ok(Claims { subject: subject.to_owned(), tenant, roles, expires: expires + Duration::from_secs(settings.leeway_s) })
}

#[cfg(test)]
#[path = "token/tests.rs"]
pub(super) mod tests;
