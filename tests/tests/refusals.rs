//! Requests that must be refused: forged identity, broken tokens, paths with two meanings, foreign tenants.

use conflux_tests::{Federation, Shape, client::Place, raw};

const SMALL: Shape = Shape { replicas: 1, ..Shape::ONE_GROUP };

async fn ask(federation: &Federation, key: Option<&str>, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let gateway = &federation.description.gateways[0];
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    if let Some(key) = key {
        text.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    raw::exchange(&gateway.url, &gateway.ca_file, text.as_bytes()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_must_not_do_is_refused_with_a_typed_error() {
    let federation = Federation::start(SMALL).await.unwrap();
    let demo = federation.demo();
    let own = demo.key.clone().unwrap();
    let key = Some(own.as_str());
    let place = Place::new("demo", "shop", "prod", "a.json");
    demo.put(&place, "{}").await.unwrap().expect(&[201]).unwrap();
    let foreign = federation.tenant("neighbour", &["reader"]).await.unwrap();
    let fetch = place.fetch_path();

    // Every route without a credential.
    let routes =
        [fetch.as_str(), "/api/v1/mgt/demo/configs", "/api/v1/watch/demo", "/api/v1/admin/tenants", "/_cluster/status"];
    for path in routes {
        let (status, text) = ask(&federation, None, path, &[]).await;
        assert_eq!(status, 401, "{path}: {text}");
        assert!(text.contains("UNAUTHENTICATED"), "{path}: {text}");
    }

    // Identity headers from outside have no effect.
    let forged = [
        ("X-Conflux-Principal", "CgVmb3JnZRIEZGVtbxgB"),
        ("X-Conflux-Tenant-Id", "1"),
        ("X-Conflux-Route-Epoch", "1"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("User-Agent", "Nacos-Server"),
    ];
    assert_eq!(ask(&federation, None, &fetch, &forged).await.0, 401);
    assert_eq!(ask(&federation, foreign.key.as_deref(), &fetch, &forged).await.0, 403);
    assert_eq!(ask(&federation, key, &fetch, &forged).await.0, 200);

    // A tenant that the key does not cover, in the path and in the header; a tenant's key on operators' calls.
    assert_eq!(ask(&federation, foreign.key.as_deref(), "/api/v1/watch/demo", &[]).await.0, 403);
    assert_eq!(ask(&federation, key, "/api/v1/mgt/configs", &[("X-Conflux-Tenant", "neighbour")]).await.0, 403);
    assert_eq!(ask(&federation, key, &fetch, &[("X-Conflux-Tenant", "neighbour")]).await.0, 403);
    assert_eq!(ask(&federation, key, "/api/v1/admin/tenants", &[]).await.0, 403);
    assert_eq!(ask(&federation, key, "/_cluster/status", &[]).await.0, 403);

    // One path, one meaning.
    let two_meanings = [
        "/api/v1/fetch/config/demo/shop/prod%2fa.json/x",
        "/api/v1/fetch/config/demo/shop/prod%2Fa.json",
        "/api/v1/fetch/config/demo/shop/%2e%2e/a.json",
        "/api/v1/fetch/config/demo/shop/../prod/a.json",
        "/api/v1/fetch/config/demo/./shop/prod/a.json",
        "/api/v1/fetch/config//demo/shop/prod/a.json",
        "/api/v1/fetch/config/demo/shop/prod/a.json%00",
        "/api/v1/fetch/config/demo/shop/prod/a.json;x=1",
        "/api/v1/fetch/config/demo/shop/prod/%c0%ae%c0%ae",
        "/api/v1/fetch/config/demo/shop/prod/a%5c.json",
        "/api/v1/fetch/config/neighbour/../demo/shop/prod/a.json",
    ];
    for path in two_meanings {
        let (status, text) = ask(&federation, key, path, &[]).await;
        assert_eq!(status, 400, "{path}: {text}");
    }
    assert_eq!(ask(&federation, key, &fetch, &[]).await.0, 200);

    // Tokens that are none.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = format!("{{\"tenant\":\"demo\",\"roles\":[\"admin\"],\"exp\":{}}}", now + 3600);
    let b64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    for header in ["{\"alg\":\"none\",\"typ\":\"JWT\"}", "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"] {
        for signature in ["", "c2ln"] {
            let token = format!("{}.{}.{signature}", b64(header), b64(&claims));
            assert_eq!(ask(&federation, Some(&token), &fetch, &[]).await.0, 401, "{header}");
        }
    }
    assert_eq!(ask(&federation, Some("cfx_unknown0unknown_AAAA"), &fetch, &[]).await.0, 401);
    let mut wrong = own.clone();
    let last = wrong.pop().unwrap();
    wrong.push(if last == 'A' { 'B' } else { 'A' });
    assert_eq!(ask(&federation, Some(&wrong), &fetch, &[]).await.0, 401);

    // A reader may not write, and what one may not read is not there.
    let narrow = serde_json::json!({"tenant": "demo", "name": "only-dev", "grants": [{"action": "read", "pattern": "shop/dev/*"}]});
    federation.operator().post_json("/api/v1/admin/roles", &narrow).await.unwrap().expect(&[200, 201]).unwrap();
    let body = serde_json::json!({"tenant": "demo", "roles": ["only-dev"]});
    let made = federation.operator().post_json("/api/v1/admin/keys", &body).await.unwrap().expect(&[201]).unwrap();
    let narrow = federation.client(made.json()["key"].as_str().unwrap());
    conflux_tests::until("the key is known", std::time::Duration::from_secs(10), || async {
        (narrow.fetch(&place, "").await.ok()?.status != 401).then_some(())
    })
    .await;
    let ghost = Place { name: "ghost.json".into(), ..place.clone() };
    let hidden = narrow.fetch(&place, "").await.unwrap();
    assert_eq!(hidden.status, 404);
    assert_eq!(hidden.code(), narrow.fetch(&ghost, "").await.unwrap().code());
    assert_eq!(narrow.put(&place, "{}").await.unwrap().status, 403);
    assert_eq!(narrow.get("/api/v1/watch/demo").await.unwrap().status, 403);
}
