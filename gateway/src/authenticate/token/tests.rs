//! Every line of reference/attacks.md, 15: each must be refused, and what is refused is one thing away from good.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::json;

use super::*;

pub fn settings() -> JwtSettings {
    toml::from_str("issuer = \"https://id.example\"\naudience = \"conflux\"\njwks = \"/keys.json\"").unwrap()
}

/// A provider with an Ed25519 key `ed` and a P-256 key `ec`.
pub struct Provider {
    ed: KeyPair,
    ec: KeyPair,
}

impl Provider {
    pub fn new() -> Self {
        Self {
            ed: KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
            ec: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    fn ed_jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "use": "sig", "x": URL_SAFE_NO_PAD.encode(self.ed.der_bytes())})
    }

    fn ec_jwk(&self) -> Value {
        let point = self.ec.der_bytes();
        let (x, y) = (&point[1..33], &point[33..65]);
        json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    pub fn jwks(&self) -> Vec<u8> {
        let strange = json!({"kty": "unheard-of", "kid": "s"});
        let secret = json!({"kty": "oct", "kid": "oct", "k": URL_SAFE_NO_PAD.encode(b"secret")});
        serde_json::to_vec(&json!({"keys": [strange, secret, self.ed_jwk(), self.ec_jwk()]})).unwrap()
    }

    pub fn sign(&self, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_der(&self.ed.serialize_der()),
            _ => EncodingKey::from_ec_der(&self.ec.serialize_der()),
        };
        encode(&header, claims, &key).unwrap()
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "conflux", "sub": "alice", "tenant": "acme",
        "roles": ["reader", "deployer"], "exp": now() + 300, "nbf": now() - 10, "iat": now()})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// A token by hand, for what no library would make.
fn by_hand(header: Value, claims: &Value, signature: &[u8]) -> String {
    let part = |v: &Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(v).unwrap());
    format!("{}.{}.{}", part(&header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_good_token_is_read() {
    let provider = Provider::new();
    let keys = KeySet::read(&provider.jwks()).unwrap();
    for (algorithm, kid) in [(Algorithm::EdDSA, "ed"), (Algorithm::ES256, "ec")] {
        let found = keys.verify(&provider.sign(algorithm, Some(kid), &claims()), &settings()).unwrap();
        assert_eq!((found.subject.as_str(), found.tenant.as_str()), ("alice", "acme"));
        assert_eq!(found.roles, ["reader", "deployer"]);
    }
    let words = provider.sign(Algorithm::EdDSA, Some("ed"), &with("roles", json!("a b")));
    assert_eq!(keys.verify(&words, &settings()).unwrap().roles, ["a", "b"]);
    let several = provider.sign(Algorithm::EdDSA, Some("ed"), &with("aud", json!(["other", "conflux"])));
    assert!(keys.verify(&several, &settings()).is_ok());
    let in_leeway = provider.sign(Algorithm::EdDSA, Some("ed"), &with("exp", json!(now() - 5)));
    assert!(keys.verify(&in_leeway, &settings()).is_ok());
}

#[test]
fn what_a_token_claims_must_hold() {
    let provider = Provider::new();
    let keys = KeySet::read(&provider.jwks()).unwrap();
    for bad in [
        with("exp", json!(now() - 31)),
        with("exp", json!("tomorrow")),
        without("exp"),
        with("nbf", json!(now() + 60)),
        with("iss", json!("https://evil.example")),
        without("iss"),
        with("aud", json!("another")),
        with("aud", json!([])),
        without("aud"),
        without("sub"),
        with("sub", json!("")),
        with("sub", json!("a\nb")),
        with("sub", json!(7)),
        without("tenant"),
        with("tenant", json!("../globex")),
        with("tenant", json!(["acme"])),
        with("roles", json!({"admin": true})),
    ] {
        let token = provider.sign(Algorithm::EdDSA, Some("ed"), &bad);
        assert!(matches!(keys.verify(&token, &settings()), Err(BadToken::Refused(_))), "{bad}");
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    let provider = Provider::new();
    let keys = KeySet::read(&provider.jwks()).unwrap();
    let refused = |token: &str| keys.verify(token, &settings()).unwrap_err();
    // No signature at all.
    for none in ["none", "None", "NONE", ""] {
        refused(&by_hand(json!({"alg": none, "typ": "JWT", "kid": "ed"}), &claims(), b""));
    }
    // The public key as an HMAC secret, and a symmetric key that the provider's list holds by mistake.
    for (kid, secret) in [("ed", provider.ed.der_bytes()), ("oct", b"secret")] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.into());
        refused(&encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap());
    }
    // Another key's id.
    refused(&provider.sign(Algorithm::ES256, Some("ed"), &claims()));
    refused(&provider.sign(Algorithm::EdDSA, Some("ec"), &claims()));
    // The right head with somebody else's signature.
    let strangers = Provider::new().sign(Algorithm::EdDSA, Some("ed"), &claims());
    refused(&strangers);
    // A key that comes with the token, or from where the token says.
    let own = Provider::new();
    let signature = own.sign(Algorithm::EdDSA, Some("ed"), &claims());
    let signature = URL_SAFE_NO_PAD.decode(signature.rsplit('.').next().unwrap()).unwrap();
    for header in [
        json!({"alg": "EdDSA", "jwk": own.ed_jwk()}),
        json!({"alg": "EdDSA", "kid": "ed", "jwk": own.ed_jwk()}),
        json!({"alg": "EdDSA", "kid": "ed", "jku": "https://evil.example/keys"}),
        json!({"alg": "EdDSA", "kid": "../../../dev/null"}),
        json!({"alg": "EdDSA", "kid": "ed' or '1'='1"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"]}),
    ] {
        refused(&by_hand(header, &claims(), &signature));
    }
    // Changed after it was signed.
    let good = provider.sign(Algorithm::EdDSA, Some("ed"), &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let forged = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&with("tenant", json!("globex"))).unwrap());
    refused(&format!("{}.{forged}.{}", parts[0], parts[2]));
    for broken in ["", ".", "..", "a.b", "a.b.c", &good[..good.len() - 4], &format!("{good}.x"), &format!("{good}=")] {
        refused(broken);
    }
}

#[test]
fn an_unknown_key_id_asks_for_newer_keys() {
    let provider = Provider::new();
    let keys = KeySet::read(&provider.jwks()).unwrap();
    let token = provider.sign(Algorithm::EdDSA, Some("next"), &claims());
    assert_eq!(keys.verify(&token, &settings()), Err(BadToken::UnknownKey));
}

#[test]
fn weak_and_foreign_keys_are_passed_over() {
    let weak = json!({"kty": "RSA", "kid": "r", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0x80; 128])});
    let enough = json!({"kty": "RSA", "kid": "r", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0x81; 256])});
    let for_encryption =
        json!({"kty": "RSA", "kid": "r", "use": "enc", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0x81; 256])});
    let for_another =
        json!({"kty": "RSA", "kid": "r", "alg": "PS512", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0x81; 256])});
    for (key, usable) in [(weak, false), (enough, true), (for_encryption, false), (for_another, false)] {
        let set = serde_json::to_vec(&json!({ "keys": [key] })).unwrap();
        assert_eq!(KeySet::read(&set).is_ok(), usable, "{key}");
    }
    assert!(KeySet::read(b"{}").is_err() && KeySet::read(b"[").is_err() && KeySet::read(b"{\"keys\":[]}").is_err());
}

/// An RSA key of 2048 bits, made for this test alone, since rcgen on ring makes none.
const RSA: &str = include_str!("rsa_test_key.pem");

#[test]
fn rs256_is_verified() {
    let pem = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&pem, Algorithm::RS256).unwrap()).unwrap();
    jwk["kid"] = json!("r");
    let keys = KeySet::read(&serde_json::to_vec(&json!({ "keys": [jwk] })).unwrap()).unwrap();
    let sign = |algorithm| {
        let mut header = Header::new(algorithm);
        header.kid = Some("r".into());
        encode(&header, &claims(), &pem).unwrap()
    };
    assert!(keys.verify(&sign(Algorithm::RS256), &settings()).is_ok());
    // The same key, but not the algorithm that we allow it.
    assert!(keys.verify(&sign(Algorithm::RS512), &settings()).is_err());
    assert!(keys.verify(&sign(Algorithm::PS256), &settings()).is_err());
}
