//! Tokens of an identity provider: a good one is taken; expired, foreign and forged ones are refused.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use conflux_tests::{Federation, Shape, client::Place};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// An ES256 key pair as an identity provider has one: its set of public keys, and the key that signs.
fn provider(kid: &str) -> (Value, EncodingKey) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = pair.public_key_raw();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    let keys =
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y}]});
    (keys, EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap())
}

fn token(key: &EncodingKey, kid: &str, claims: &Value) -> String {
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

async fn start(jwks: &Path) -> Federation {
    let settings = [
        "gateway:jwt.issuer=https://issuer.test".to_owned(),
        "gateway:jwt.audience=conflux".to_owned(),
        format!("gateway:jwt.jwks={}", jwks.display()),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    Federation::start_with(Shape { replicas: 1, ..Shape::ONE_GROUP }, &settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_valid_token_for_this_audience_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let jwks = folder.path().join("jwks.json");
    let (public, key) = provider("k1");
    std::fs::write(&jwks, public.to_string()).unwrap();
    let federation = start(&jwks).await;
    let place = Place::new("demo", "shop", "prod", "a.json");
    federation.demo().put(&place, "{}").await.unwrap().expect(&[201]).unwrap();

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let good = json!({"iss": "https://issuer.test", "aud": "conflux", "sub": "alice", "exp": now + 600,
        "tenant": "demo", "roles": ["reader"]});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let status = async |bearer: String| {
        let answer = federation.client(&bearer).fetch(&place, "?consistency=leader").await.unwrap();
        (answer.status, answer.code())
    };
    assert_eq!(status(token(&key, "k1", &good)).await.0, 200);
    assert_eq!(federation.client(&token(&key, "k1", &good)).put(&place, "{\"a\":1}").await.unwrap().status, 403);

    let (_, strangers) = provider("k1");
    let refused = [
        ("expired", token(&key, "k1", &with("exp", json!(now - 600)))),
        ("not valid yet", token(&key, "k1", &with("nbf", json!(now + 600)))),
        ("another audience", token(&key, "k1", &with("aud", json!("billing")))),
        ("another issuer", token(&key, "k1", &with("iss", json!("https://evil.test")))),
        ("an unknown key id", token(&key, "../../etc/passwd", &good)),
        ("another key under the same id", token(&strangers, "k1", &good)),
        ("a cut signature", {
            let mut t = token(&key, "k1", &good);
            t.truncate(t.len() - 8);
            t
        }),
    ];
    for (what, bearer) in refused {
        assert_eq!(status(bearer).await, (401, "UNAUTHENTICATED".into()), "{what}");
    }
    // The public key used as an HMAC secret: the algorithm is bound to the key's type.
    let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(public.to_string().as_bytes());
    assert_eq!(
        status(jsonwebtoken::encode(&header, &good, &secret).unwrap()).await.0,
        401,
        "HS256 with the public key"
    );
    // A token of another tenant is good, but not here.
    assert_eq!(status(token(&key, "k1", &with("tenant", json!("acme")))).await.0, 403, "another tenant");
}
