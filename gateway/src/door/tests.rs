//! A gateway with real TLS on both sides: what a client sees, and what a shard is asked.

mod federation;
mod operators;

use conflux_common::{
    api_key::ApiKey,
    error::{ApiError, Code, Hint},
    ids::TenantId,
};
use conflux_proto::{context::CallContext, internal::change::Change};
use http::StatusCode;

use self::federation::{Act, Federation, key_record, not_leader, tenant};

const PUT: &str = "/api/v1/tenants/acme/apps/shop/envs/prod/configs/db.yaml";
const FETCH: &str = "/api/v1/fetch/config/acme/shop/prod/db.yaml";

#[tokio::test]
async fn a_write_reaches_the_leader_with_what_the_gateway_verified() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let body = vec![b'x'; 1 << 20];
    let answer = gateway
        .client()
        .put(gateway.url(PUT))
        .bearer_auth(federation.key.expose())
        .header("x-conflux-principal", "forged")
        .header("x-conflux-tenant-id", "2")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-request-id", "my-request")
        .header("content-type", "application/yaml")
        .body(body.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-request-id"], "my-request");
    assert_eq!(answer.headers()["x-conflux-revision"], "1.7");
    assert!(
        !answer.headers().contains_key("x-conflux-secret-of-the-shard") && !answer.headers().contains_key("server")
    );
    assert_eq!(answer.text().await.unwrap(), "a-1");
    let seen = federation.seen().await;
    let context = CallContext::read(&seen.headers).unwrap();
    assert_eq!(context.principal.name, format!("key:{}", federation.key.id()));
    assert_eq!(context.tenant.map(|(id, epoch)| (id.0, epoch.0)), Some((1, 1)));
    assert_eq!(context.request_id, "my-request");
    assert!(context.idempotency.is_some(), "every write has a key");
    assert_eq!((seen.header("x-conflux-tenant"), seen.header("x-forwarded-for")), (Some("acme"), None));
    assert_eq!((seen.header("authorization"), seen.header("content-type")), (None, Some("application/yaml")));
    assert_eq!((seen.method.as_str(), seen.uri.path(), seen.body.as_ref()), ("PUT", PUT, body.as_slice()));
}

#[tokio::test]
async fn nothing_tells_whether_another_tenant_exists() {
    // Attack 6: `globex` is there, `nobody` is not; path and header.
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let client = gateway.client();
    let mut answers = Vec::new();
    for (path, header) in [
        ("/api/v1/fetch/config/globex/a/b/c", None),
        ("/api/v1/fetch/config/nobody/a/b/c", None),
        ("/api/v1/mgt/globex/configs", None),
        ("/api/v1/mgt/nobody/configs", None),
        ("/api/v1/mgt/configs", Some("globex")),
        ("/api/v1/mgt/configs", Some("nobody")),
        ("/api/v1/mgt/ACME/configs", None),
        // The path is covered, the header is not.
        ("/api/v1/mgt/acme/configs", Some("globex")),
    ] {
        let mut request =
            client.get(gateway.url(path)).bearer_auth(federation.key.expose()).header("x-request-id", "r");
        if let Some(header) = header {
            request = request.header("x-conflux-tenant", header);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path} {header:?}");
        let mut headers: Vec<_> = answer.headers().iter().map(|(n, v)| format!("{n}: {v:?}")).collect();
        headers.retain(|h| !h.starts_with("date"));
        answers.push((headers, answer.text().await.unwrap()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert!(federation.all_seen().is_empty(), "no shard was asked");
}

#[tokio::test]
async fn every_call_needs_a_credential_and_every_refusal_looks_the_same() {
    // Attacks 13 and 17.
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let client = gateway.client();
    let unknown = ApiKey::generate().expose();
    let mut wrong_secret = federation.key.expose();
    let swapped = if wrong_secret.ends_with('A') { "B" } else { "A" };
    wrong_secret.replace_range(wrong_secret.len() - 2..wrong_secret.len() - 1, swapped);
    let mut bodies = Vec::new();
    for path in [
        PUT,
        FETCH,
        "/api/v1/mgt/acme/configs",
        "/api/v1/watch/acme",
        "/api/v1/admin/tenants",
        "/_cluster/status",
        "/",
        "/nowhere",
    ] {
        for key in [None, Some(unknown.as_str()), Some(wrong_secret.as_str()), Some("cfx_x"), Some("a.b.c")] {
            let mut request = client.get(gateway.url(path)).header("x-request-id", "r");
            if let Some(key) = key {
                request = request.header("x-api-key", key);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path} {key:?}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"conflux\"");
            bodies.push(answer.text().await.unwrap());
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:#?}");
    let both = client.get(gateway.url(FETCH)).bearer_auth(federation.key.expose()).header("x-api-key", unknown);
    assert_eq!(both.send().await.unwrap().status(), 401, "two credentials that differ are none");
    let probe = client.get(gateway.url("/readyz")).send().await.unwrap();
    assert_eq!(probe.status(), 200, "probes need none");
}

#[tokio::test]
async fn a_write_outlives_its_leader() {
    // The old leader hangs up half way through its answer; a new one is elected a moment later. Same key on each try.
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    federation.act("a-1", Act::Drop);
    federation.act("a-2", Act::RefuseFirst(3, not_leader(None)));
    federation.act("a-3", Act::Refuse(not_leader(Some("a-2"))));
    let answer =
        gateway.client().put(gateway.url(PUT)).bearer_auth(federation.key.expose()).body("x: 1").send().await.unwrap();
    assert_eq!((answer.status(), answer.text().await.unwrap().as_str()), (StatusCode::OK, "a-2"));
    let seen = federation.all_seen();
    assert_eq!(seen[0].member, "a-1");
    let keys: Vec<_> = seen.iter().map(|s| s.header("x-conflux-gateway-key").unwrap()).collect();
    assert!(keys.len() > 4 && keys.iter().all(|k| k == &keys[0]), "{keys:?}");
    // Learnt: the next write goes to the new leader at once.
    gateway.client().put(gateway.url(PUT)).bearer_auth(federation.key.expose()).send().await.unwrap();
    assert_eq!(federation.all_seen().iter().map(|s| s.member.as_str()).collect::<Vec<_>>(), ["a-2"]);
}

#[tokio::test]
async fn a_write_that_nobody_answers_says_that_it_may_have_happened() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|s| s.limits.deadline_ms = 700).await;
    for member in ["a-1", "a-2", "a-3"] {
        federation.act(member, Act::Drop);
    }
    let client = gateway.client();
    let request = client.put(gateway.url(PUT)).bearer_auth(federation.key.expose()).body("x: 1");
    let answer = request.send().await.unwrap();
    // Whichever try was the last: none was answered, or its time was over.
    assert!(matches!(answer.status().as_u16(), 503 | 504));
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["outcome"], "unknown");
    for member in ["a-1", "a-2", "a-3"] {
        federation.act(member, Act::Refuse(not_leader(None)));
    }
    let request = client.put(gateway.url(PUT)).bearer_auth(federation.key.expose()).body("x: 1");
    let body: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!((&body["error"]["outcome"], &body["error"]["code"]), (&"not_applied".into(), &"UNAVAILABLE".into()));
}

#[tokio::test]
async fn a_refused_repetition_does_not_deny_the_lost_try_before_it() {
    // "not_applied" means never: a try without an answer may still take effect, whatever the next one is told.
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    federation.act("a-1", Act::Drop);
    let busy = ApiError::new(Code::ResourceExhausted, "the quota is used up");
    // The shard knows of a move, and placement of no such tenant.
    let moved = ApiError::elsewhere(Hint::WrongEpoch(9), "moved");
    let late = ApiError::new(Code::DeadlineExceeded, "too late");
    let refused = ApiError::new(Code::FailedPrecondition, "decided, and so about every try");
    for (refusal, status, outcome) in
        [(busy, 429, "unknown"), (moved, 404, "unknown"), (late, 504, "unknown"), (refused, 412, "not_applied")]
    {
        gateway.door.lookup.routes().note_leader(&"a".parse().unwrap(), Some("a-1".parse().unwrap()));
        for member in ["a-2", "a-3"] {
            federation.act(member, Act::Refuse(refusal.clone()));
        }
        let request = gateway.client().put(gateway.url(PUT)).bearer_auth(federation.key.expose()).body("x: 1");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["outcome"], outcome, "{body}");
    }
}

#[tokio::test]
async fn a_client_of_little_patience_does_not_put_a_member_out_of_favour() {
    // Its deadlines are its own choice; everyone else's calls must go on to the leader.
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let put = || gateway.client().put(gateway.url(PUT)).bearer_auth(federation.key.expose()).body("x: 1");
    federation.act("a-1", Act::Hang);
    for _ in 0..3 {
        assert_eq!(put().header("grpc-timeout", "30m").send().await.unwrap().status(), 504);
    }
    federation.act("a-1", Act::Serve);
    assert_eq!(put().send().await.unwrap().text().await.unwrap(), "a-1");
}

#[tokio::test]
async fn questions_of_anyone_are_small() {
    // Health needs no credential: what it takes in must be bounded more tightly than what a tenant may send.
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let ask = |length: usize| {
        let mut framed = vec![0];
        framed.extend(u32::try_from(length).unwrap().to_be_bytes());
        // Field 15, which no one knows.
        framed.push(0x7a);
        let mut rest = length - 1;
        let mut varint = Vec::new();
        rest -= 3;
        for shift in [0, 7, 14] {
            varint.push(u8::try_from((rest >> shift) & 0x7f).unwrap() | if shift < 14 { 0x80 } else { 0 });
        }
        framed.extend(varint);
        framed.resize(5 + length, b'x');
        let url = gateway.url("/grpc.health.v1.Health/Check");
        gateway.client().post(url).header("content-type", "application/grpc").header("te", "trailers").body(framed)
    };
    let small = ask(1000).send().await.unwrap();
    assert!(small.headers().get("grpc-status").is_none_or(|s| s == "0"), "{small:?}");
    assert_eq!(ask(100_000).send().await.unwrap().headers()["grpc-status"], "8");
}

#[tokio::test]
async fn stale_reads_are_answered_while_one_replica_is_up() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    federation.act("a-1", Act::Hang);
    federation.act("a-2", Act::Drop);
    for _ in 0..20 {
        let answer =
            gateway.client().get(gateway.url(FETCH)).bearer_auth(federation.key.expose()).send().await.unwrap();
        assert_eq!((answer.status(), answer.text().await.unwrap().as_str()), (StatusCode::OK, "a-3"));
    }
}

#[tokio::test]
async fn strong_reads_go_to_the_leader_and_stale_ones_anywhere() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let client = gateway.client();
    let ask = async |query: &str| {
        let url = gateway.url(&format!("{FETCH}{query}"));
        let answer = client.get(url).bearer_auth(federation.key.expose()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for query in ["?consistency=leader", "?consistency=linearizable", "?c%6Fnsistency=leader"] {
        for _ in 0..6 {
            assert_eq!(ask(query).await, (200, "a-1".into()), "{query}");
        }
    }
    let mut anywhere = std::collections::BTreeSet::new();
    for _ in 0..60 {
        anywhere.insert(ask("").await.1);
    }
    assert_eq!(anywhere.len(), 3, "{anywhere:?}");
    assert_eq!(ask("?consistency=eventual").await.0, 400);
    assert_eq!(ask("?consistency=stale&consistency=leader").await.0, 400);
}

#[tokio::test]
async fn a_new_epoch_is_looked_up_once_and_used() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    federation.only_by_lookup(tenant(1, "acme", 4));
    federation.act("a-1", Act::RefuseFirst(1, ApiError::elsewhere(Hint::WrongEpoch(4), "moved on")));
    let answer = gateway.client().put(gateway.url(PUT)).bearer_auth(federation.key.expose()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let epochs: Vec<_> =
        federation.all_seen().iter().map(|s| s.header("x-conflux-route-epoch").unwrap().to_owned()).collect();
    assert_eq!(epochs, ["1", "4"]);
}

#[tokio::test]
async fn a_tenant_that_the_mirror_has_not_heard_of_is_looked_up() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let key = ApiKey::generate();
    federation.tell(2, Change::Key(key_record(&key, "newcomer")));
    let mut seen = gateway.door.authenticator_changes();
    seen.wait_for(|seq| *seq >= 2).await.unwrap();
    let path = "/api/v1/mgt/newcomer/configs";
    let missing = gateway.client().get(gateway.url(path)).bearer_auth(key.expose()).send().await.unwrap();
    assert_eq!(missing.status(), 404, "its own credential may know");
    federation.only_by_lookup(tenant(9, "newcomer", 1));
    let found = gateway.client().get(gateway.url(path)).bearer_auth(key.expose()).send().await.unwrap();
    assert_eq!(found.status(), 200);
    assert_eq!(federation.seen().await.header("x-conflux-tenant-id"), Some("9"));
}

#[tokio::test]
async fn a_revoked_key_is_refused_as_soon_as_the_stream_says_so() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let client = gateway.client();
    let ask =
        async || client.get(gateway.url(FETCH)).bearer_auth(federation.key.expose()).send().await.unwrap().status();
    assert_eq!(ask().await, 200);
    federation.tell(2, Change::KeyGone(federation.key.id().into()));
    let mut seen = gateway.door.authenticator_changes();
    seen.wait_for(|seq| *seq >= 2).await.unwrap();
    assert_eq!(ask().await, 401);
}

#[tokio::test]
async fn bodies_are_bounded_before_they_are_read() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|s| s.limits.rest_body_bytes = 1000).await;
    let client = gateway.client();
    let put = |body: reqwest::Body| client.put(gateway.url(PUT)).bearer_auth(federation.key.expose()).body(body).send();
    assert_eq!(put(vec![0; 1000].into()).await.unwrap().status(), 200);
    let answer = put(vec![0; 1001].into()).await.unwrap();
    assert_eq!(answer.status(), 413);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["retryable"]), (&"RESOURCE_EXHAUSTED".into(), &false.into()));
    // Without an announced length it is noticed on the way.
    let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[0; 100])));
    let endless = reqwest::Body::wrap_stream(chunks);
    assert_eq!(put(endless).await.unwrap().status(), 413);
}

#[tokio::test]
async fn hostile_requests_are_refused_on_the_wire() {
    // As bytes, since no client library would send them. Attacks 11, 21 and 29, and request smuggling.
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let key = federation.key.expose();
    let with = |line: &str, headers: &str| {
        format!("{line}\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n{headers}\r\n")
    };
    for path in [
        "/api/v1/mgt/acme/../globex/configs",
        "/api/v1/mgt/acme%2f..%2fglobex/configs",
        "//api/v1/mgt/acme/configs",
        "/api/v1/mgt/acme;x/configs",
        "/api/v1/mgt/acme%00/configs",
        "/api/v1/mgt/acme\0/configs",
        "/api/v1/mgt/ac\\me/configs",
        "/api/v1/mgt/%61cme/configs",
        "/api/v1/mgt/acme/configs/",
        "/api/v1/mgt/acme/%2e%2e/globex",
        "/api/v1/mgt/\u{e4}/configs",
    ] {
        let answer = gateway.raw(with(&format!("GET {path} HTTP/1.1"), "").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path:?}: {answer}");
        assert!(answer.contains("INVALID_ARGUMENT"), "{path:?}: {answer}");
    }
    for (line, headers) in [
        ("PUT /api/v1/mgt/acme/configs HTTP/1.1", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("PUT /api/v1/mgt/acme/configs HTTP/1.1", "Content-Length: -1\r\n"),
        ("PUT /api/v1/mgt/acme/configs HTTP/1.1", "Transfer-Encoding: gzip\r\n"),
        ("PUT /api/v1/mgt/acme/configs HTTP/1.0", "Transfer-Encoding: chunked\r\n"),
        ("GET /api/v1/mgt/acme/configs HTTP/1.1", "Host: other\r\n"),
        // Two readings of where it ends: what follows must not become a request of its own.
        ("PUT /api/v1/mgt/acme/configs HTTP/1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("PUT /api/v1/mgt/acme/configs HTTP/1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("PUT /api/v1/mgt/acme/configs HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n"),
        ("PUT /api/v1/mgt/acme/configs HTTP/1.1", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        let answer = gateway.raw(with(line, headers).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{line} {headers:?}: {answer}");
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    for broken in ["-1\r\nhello", "FFFFFFFFFFFFFFFFF\r\nhello", "5\r\nhelloX", "zz\r\n"] {
        let head = with("PUT /api/v1/tenants/acme/apps/shop/envs/prod/configs/db.yaml HTTP/1.1", chunked);
        let answer = gateway.raw(format!("{head}{broken}\r\n0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{broken:?}: {answer}");
    }
    let nameless = with("GET /api/v1/mgt/acme/configs HTTP/1.1", "").replace("Host: localhost\r\n", "");
    let answer = gateway.raw(nameless.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "no host: {answer}");
    assert!(federation.all_seen().is_empty(), "no shard was asked");
    let absolute = with("GET https://elsewhere.example/api/v1/mgt/acme/configs HTTP/1.1", "");
    let answer = gateway.raw(absolute.replace("Host: localhost", "Host: elsewhere.example").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(federation.seen().await.uri.path(), "/api/v1/mgt/acme/configs");
    // A head beyond what headers may have, and one that never ends.
    for bytes in [70_000, 700_000] {
        let large = with("GET /api/v1/mgt/acme/configs HTTP/1.1", &format!("X: {}\r\n", "x".repeat(bytes)));
        let answer = gateway.raw(large.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{bytes}: {answer}");
    }
}

#[tokio::test]
async fn grpc_errors_are_grpc_errors() {
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let client = gateway.client();
    let call = async |path: &str, key: Option<String>| {
        let mut request = client.post(gateway.url(path)).header("content-type", "application/grpc").body(vec![0; 5]);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let status = answer.headers().get("grpc-status").map(|v| v.to_str().unwrap().to_owned());
        (status, answer.text().await.unwrap())
    };
    let key = || Some(federation.key.expose());
    assert_eq!(call("/conflux.v1.ConfigService/Fetch", None).await.0.as_deref(), Some("16"));
    assert_eq!(call("/conflux.v1.ConfigService/Nothing", key()).await.0.as_deref(), Some("12"));
    assert_eq!(call("/conflux.internal.v1.ShardService/History", key()).await.0.as_deref(), Some("12"));
    let mut served_by = std::collections::BTreeSet::new();
    for _ in 0..40 {
        served_by.insert(call("/conflux.v1.ConfigService/Fetch", key()).await.1);
    }
    assert_eq!(served_by.len(), 3, "stale by default: {served_by:?}");
    assert_eq!(call("/conflux.v1.ManagementService/GetConfig", key()).await.1, "a-1");
}

#[tokio::test]
async fn what_is_served_is_counted_and_what_is_refused_is_not() {
    // A report on use must not count who was told that there is nothing, and must count who has it already.
    let mut federation = Federation::start().await;
    let gateway = federation.gateway(|_| {}).await;
    let get = |path: &str| gateway.client().get(gateway.url(path)).bearer_auth(federation.key.expose());
    assert_eq!(get(FETCH).header("x-client-label-region", "eu").send().await.unwrap().status(), 200);
    assert_eq!(get("/api/v1/mgt/acme/configs").send().await.unwrap().status(), 200);
    for member in ["a-1", "a-2", "a-3"] {
        federation.act(member, Act::Refuse(ApiError::new(Code::NotFound, "nothing")));
    }
    assert_eq!(get(FETCH).send().await.unwrap().status(), 404);
    let counted = gateway.door.usage.take().told(TenantId(1), std::time::Instant::now(), usize::MAX);
    let configs: Vec<_> = counted.iter().flat_map(|part| &part.configs).collect();
    assert_eq!(configs.len(), 1, "{configs:?}");
    assert_eq!((configs[0].name.as_str(), configs[0].fetches, configs[0].labels.len()), ("db.yaml", 1, 1));
    assert_eq!(configs[0].labels[0].labels["region"], "eu");
}
