//! Keys: who is let in, and what is said when nobody can know.

use std::time::Duration;

use conflux_proto::internal::{KeyRecord, change::Change};

use super::*;

fn authenticator(grace: Duration, key: &ApiKey) -> Authenticator {
    let directory = Directory::new(grace);
    directory.change(1, |content| {
        content.apply(&Change::Key(KeyRecord {
            id: key.id().into(),
            secret_hash: key.secret_hash().to_vec().into(),
            tenant: "acme".into(),
            ..Default::default()
        }));
    });
    Authenticator::new(directory, None)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
}

#[tokio::test]
async fn a_key_comes_in_either_header_and_only_whole() {
    let key = ApiKey::generate();
    let authenticator = authenticator(Duration::ZERO, &key);
    let shown = key.expose();
    let bearer = format!("Bearer {shown}");
    let other = ApiKey::generate().expose();
    for (pairs, good) in [
        (vec![("authorization", bearer.as_str())], true),
        (vec![("authorization", &bearer.replace("Bearer", "bearer"))], true),
        (vec![("x-api-key", &shown)], true),
        (vec![("authorization", &bearer), ("x-api-key", &shown)], true),
        (vec![("authorization", &bearer), ("x-api-key", &other)], false),
        (vec![("authorization", &bearer), ("authorization", &format!("Bearer {other}"))], false),
        (vec![("authorization", &shown)], false),
        (vec![("authorization", &bearer.replace("Bearer", "Basic"))], false),
        (vec![("x-api-key", &shown[..shown.len() - 1])], false),
        (vec![("x-api-key", "")], false),
        (vec![], false),
    ] {
        let found = authenticator.authenticate(&headers(&pairs)).await;
        assert_eq!(found.is_ok(), good, "{pairs:?}");
        assert!(good || found.unwrap_err() == Refusal::Invalid, "{pairs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_placement_is_no_reason_to_call_a_key_wrong() {
    // Known keys go on for the grace, then 503; unknown ones get 503 as soon as nobody can say.
    let (key, unknown) = (ApiKey::generate(), ApiKey::generate());
    let authenticator = authenticator(Duration::from_secs(60), &key);
    let ask =
        async |key: &ApiKey| authenticator.authenticate(&headers(&[("x-api-key", &key.expose())])).await.map(drop);
    // Seconds since placement was heard, what a known key gets, what an unknown one.
    for (silent, known, other) in [
        (1, Ok(()), Err(Refusal::Invalid)),
        (10, Ok(()), Err(Refusal::Unknowable)),
        (59, Ok(()), Err(Refusal::Unknowable)),
        (61, Err(Refusal::Unknowable), Err(Refusal::Unknowable)),
    ] {
        authenticator.directory().heard(1);
        tokio::time::advance(Duration::from_secs(silent)).await;
        assert_eq!((ask(&key).await, ask(&unknown).await), (known, other), "after {silent} s");
    }
}

#[tokio::test(start_paused = true)]
async fn no_grace_means_closed() {
    let key = ApiKey::generate();
    let authenticator = authenticator(Duration::ZERO, &key);
    let shown = headers(&[("x-api-key", &key.expose())]);
    assert!(authenticator.authenticate(&shown).await.is_ok());
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(authenticator.authenticate(&shown).await.unwrap_err(), Refusal::Unknowable);
}

#[tokio::test]
async fn before_the_first_copy_nobody_can_say() {
    let authenticator = Authenticator::new(Directory::new(Duration::from_secs(900)), None);
    let shown = headers(&[("x-api-key", &ApiKey::generate().expose())]);
    assert_eq!(authenticator.authenticate(&shown).await.unwrap_err(), Refusal::Unknowable);
}

mod tokens {
    use axum::{Router, extract::State, routing::get};
    use conflux_common::grant::Action;
    use conflux_proto::internal::{Grant, RoleRecord};
    use jsonwebtoken::Algorithm;
    use parking_lot::Mutex;

    use super::{
        super::token::tests::{Provider, claims, settings},
        *,
    };
    use crate::settings::JwtSettings;

    /// A provider's web server: what it answers and how often it was asked.
    #[derive(Clone, Default)]
    struct Served(Arc<Mutex<(Vec<u8>, u32)>>);

    impl Served {
        async fn start(&self) -> JwtSettings {
            let keys = async |State(served): State<Served>| {
                let mut served = served.0.lock();
                served.1 += 1;
                served.0.clone()
            };
            let away = async || axum::response::Redirect::permanent("/keys");
            let router = Router::new().route("/keys", get(keys)).route("/away", get(away)).with_state(self.clone());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let service = hyper_util::service::TowerToHyperService::new(router.clone());
                    let io = hyper_util::rt::TokioIo::new(stream);
                    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
                }
            });
            JwtSettings { jwks: format!("http://{address}/keys"), allow_loopback_http: true, ..settings() }
        }
    }

    fn authenticator(settings: JwtSettings) -> Authenticator {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = Directory::new(Duration::ZERO);
        directory.change(1, |content| {
            let grants = vec![Grant { action: "publish".into(), pattern: "shop/*/*".into() }];
            content.apply(&Change::Role(RoleRecord { tenant: "acme".into(), name: "deployer".into(), grants }));
        });
        Authenticator::new(directory, Some(Jwks::new(settings).unwrap()))
    }

    async fn ask(authenticator: &Authenticator, token: &str) -> Result<Identity, Refusal> {
        authenticator.authenticate(&headers(&[("authorization", &format!("Bearer {token}"))])).await
    }

    #[tokio::test]
    async fn a_token_becomes_a_principal_with_the_directorys_grants() {
        let (provider, served) = (Provider::new(), Served::default());
        served.0.lock().0 = provider.jwks();
        let authenticator = authenticator(served.start().await);
        let identity = ask(&authenticator, &provider.sign(Algorithm::EdDSA, Some("ed"), &claims())).await.unwrap();
        let principal = &identity.principal;
        assert_eq!(principal.name, "jwt:https://id.example#alice");
        assert_eq!((principal.tenant.as_ref().unwrap().as_str(), principal.operator), ("acme", false));
        assert_eq!(principal.grants.iter().map(|g| g.action).collect::<Vec<_>>(), [Action::Publish]);
    }

    #[tokio::test]
    async fn new_keys_are_fetched_when_a_token_names_one_but_not_at_every_wish() {
        let (old, new, served) = (Provider::new(), Provider::new(), Served::default());
        served.0.lock().0 = old.jwks();
        let authenticator = authenticator(served.start().await);
        assert!(ask(&authenticator, &old.sign(Algorithm::EdDSA, Some("ed"), &claims())).await.is_ok());
        for n in 0..20 {
            let made_up = new.sign(Algorithm::EdDSA, Some(&format!("k{n}")), &claims());
            assert_eq!(ask(&authenticator, &made_up).await.unwrap_err(), Refusal::Invalid);
        }
        assert_eq!(served.0.lock().1, 1, "the floor between two fetches");
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_a_token_names_a_new_key() {
        let (old, new) = (Provider::new(), Provider::new());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        std::fs::write(&file, old.jwks()).unwrap();
        let authenticator = authenticator(JwtSettings { jwks: file.display().to_string(), ..settings() });
        assert!(ask(&authenticator, &old.sign(Algorithm::EdDSA, Some("ed"), &claims())).await.is_ok());
        let renamed = String::from_utf8(new.jwks()).unwrap().replace("\"ed\"", "\"ed2\"");
        std::fs::write(&file, renamed).unwrap();
        assert!(ask(&authenticator, &new.sign(Algorithm::EdDSA, Some("ed2"), &claims())).await.is_ok());
    }

    #[tokio::test]
    async fn without_keys_nobody_can_say() {
        // Also: a redirect is not followed, and an endless answer is cut off.
        let (provider, served) = (Provider::new(), Served::default());
        served.0.lock().0 = provider.jwks();
        let settings = served.start().await;
        let token = provider.sign(Algorithm::EdDSA, Some("ed"), &claims());
        let away = settings.jwks.replace("/keys", "/away");
        let redirected = authenticator(JwtSettings { jwks: away, ..settings.clone() });
        assert_eq!(ask(&redirected, &token).await.unwrap_err(), Refusal::Unknowable);
        served.0.lock().0 = vec![b' '; (1 << 20) + 1];
        assert_eq!(ask(&authenticator(settings), &token).await.unwrap_err(), Refusal::Unknowable);
    }
}
