//! A config put through the gateway is read back byte for byte, and tenants do not see one another.

use conflux_tests::{Federation, Shape, client::Place};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_is_read_back_and_other_tenants_see_nothing() {
    let federation = Federation::start(Shape { placement: 1, ..Shape::FULL }).await.unwrap();
    let demo = federation.demo();

    // Byte for byte, comments and blanks included.
    let content = "# pool\nserver:\n  port: 8080   # as ever\n\n\nname: \"ä\"\n";
    let place = Place::new("demo", "shop", "prod", "server.yaml");
    let put = demo.put(&place, content).await.unwrap().expect(&[201]).unwrap();
    assert_eq!(put.json()["version"], 1);
    let fetched = demo.fetch(&place, "").await.unwrap().expect(&[200]).unwrap();
    assert_eq!(fetched.body, content.as_bytes());
    assert_eq!(fetched.header("content-type"), Some("application/yaml"));
    assert_eq!(fetched.header("x-config-version"), Some("1"));
    assert!(fetched.header("x-config-hash").is_some_and(|h| h.starts_with("sha256:")));
    assert!(fetched.header("cache-control").is_some_and(|c| c.contains("private")));
    for name in ["x-conflux-revision", "x-conflux-epoch", "x-conflux-age-ms", "x-request-id", "etag"] {
        assert!(fetched.header(name).is_some(), "{name} is missing");
    }

    // If-None-Match with the content's ETag.
    let etag = fetched.header("etag").unwrap();
    let again = demo.get_with(&place.fetch_path(), &[("if-none-match", etag)]).await.unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));

    // A second version is seen by all three levels at the revision of its write.
    let second = demo.put(&place, "server: {port: 9090}\n").await.unwrap().expect(&[200]).unwrap();
    let revision = second.json()["revision"].as_str().unwrap().to_owned();
    for query in [format!("?min_revision={revision}"), "?consistency=leader".into(), "?consistency=linearizable".into()]
    {
        let fetched = demo.fetch(&place, &query).await.unwrap().expect(&[200]).unwrap();
        assert_eq!(fetched.text(), "server: {port: 9090}\n", "{query}");
        assert_eq!(fetched.header("x-config-version"), Some("2"), "{query}");
    }

    two_tenants_on_two_groups(&federation, &place).await;
    releases_by_label(&federation).await;
    conditional_and_repeated_writes(&federation).await;
}

async fn two_tenants_on_two_groups(federation: &Federation, demos: &Place) {
    let other = federation.tenant_on("other-a", Some("shard-a"), &["admin"]).await.unwrap();
    let third = federation.tenant_on("other-b", Some("shard-b"), &["admin"]).await.unwrap();
    for (client, name) in [(&other, "other-a"), (&third, "other-b")] {
        let place = Place::new(name, "app", "dev", "a.toml");
        client.put(&place, "a = 1\n").await.unwrap().expect(&[201]).unwrap();
        assert_eq!(client.fetch(&place, "?consistency=leader").await.unwrap().text(), "a = 1\n");
    }
    // Without a shard named, names spread over both groups.
    let operator = federation.operator();
    let mut groups = std::collections::BTreeSet::new();
    for i in 0..12 {
        let body = serde_json::json!({ "name": format!("spread-{i}") });
        let made = operator.post_json("/api/v1/admin/tenants", &body).await.unwrap().expect(&[201, 202]).unwrap();
        groups.insert(made.json()["shard"].as_str().unwrap().to_owned());
    }
    assert_eq!(groups.len(), 2, "{groups:?}");

    // A tenant that exists and one that does not answer the same to a foreign key.
    let blank = |a: conflux_tests::client::Answer| {
        let mut json = a.json();
        json["error"]["request_id"] = "".into();
        (a.status, json)
    };
    let ghost = Place { tenant: "no-such-tenant".into(), ..demos.clone() };
    let to_existing = blank(other.fetch(demos, "").await.unwrap());
    let to_ghost = blank(other.fetch(&ghost, "").await.unwrap());
    assert_eq!(to_existing.0, 403);
    assert_eq!(to_existing, to_ghost);
    let by_header = other.get_with("/api/v1/mgt/configs", &[("x-conflux-tenant", "demo")]).await.unwrap();
    assert_eq!(by_header.status, 403);
    // Without a tenant in path or header, the credential's own.
    let own = other.get("/api/v1/mgt/configs").await.unwrap().expect(&[200]).unwrap();
    assert!(own.text().contains("a.toml") && !own.text().contains("server.yaml"));
}

async fn releases_by_label(federation: &Federation) {
    let demo = federation.demo();
    let place = Place::new("demo", "shop", "prod", "flags.json");
    let put = demo.put(&place, "{\"v\":1}").await.unwrap().expect(&[201]).unwrap();
    let id = put.json()["config_id"].as_str().unwrap().to_owned();
    let versions = format!("/api/v1/mgt/demo/configs/{id}/versions");
    demo.post_json(&versions, &serde_json::json!({ "content": "{\"v\":2}" })).await.unwrap().expect(&[201]).unwrap();
    // A version that is not released reaches nobody.
    assert_eq!(demo.fetch(&place, "?consistency=leader").await.unwrap().text(), "{\"v\":1}");
    let rules = serde_json::json!({ "rules": [
        { "version": 1 },
        { "labels": { "region": "eu" }, "version": 2, "priority": 10 },
    ]});
    demo.put_json(&format!("/api/v1/mgt/demo/configs/{id}/releases"), &rules).await.unwrap().expect(&[200]).unwrap();
    let path = format!("{}?consistency=leader", place.fetch_path());
    assert_eq!(demo.get_with(&path, &[("X-Client-Label-Region", "eu")]).await.unwrap().text(), "{\"v\":2}");
    assert_eq!(demo.get_with(&path, &[("X-Client-Label-Region", "us")]).await.unwrap().text(), "{\"v\":1}");

    // Listed with a cursor, then deleted; the name may be used again with a new id.
    let page = demo.get("/api/v1/mgt/demo/configs?limit=1").await.unwrap().expect(&[200]).unwrap().json();
    assert_eq!(page["configs"].as_array().unwrap().len(), 1);
    assert!(page["next_cursor"].as_str().is_some_and(|c| !c.is_empty()));
    demo.delete(&format!("/api/v1/mgt/demo/configs/{id}")).await.unwrap().expect(&[200, 204]).unwrap();
    assert_eq!(demo.fetch(&place, "?consistency=leader").await.unwrap().status, 404);
    let again = demo.put(&place, "{\"v\":3}").await.unwrap().expect(&[201]).unwrap();
    assert_ne!(again.json()["config_id"].as_str().unwrap(), id);
}

async fn conditional_and_repeated_writes(federation: &Federation) {
    let demo = federation.demo();
    let place = Place::new("demo", "shop", "prod", "once.toml");
    let first = demo.put_with(&place, "n = 1\n", &[("if-none-match", "*")]).await.unwrap().expect(&[201]).unwrap();
    let etag = first.json()["etag"].as_str().unwrap().to_owned();
    let taken = demo.put_with(&place, "n = 1\n", &[("if-none-match", "*")]).await.unwrap();
    assert_eq!((taken.status, taken.code().as_str()), (412, "FAILED_PRECONDITION"));
    demo.put_with(&place, "n = 2\n", &[("if-match", &etag)]).await.unwrap().expect(&[200]).unwrap();
    assert_eq!(demo.put_with(&place, "n = 3\n", &[("if-match", &etag)]).await.unwrap().status, 412);

    // The same key with the same body has one effect and one answer; with another body it is a conflict.
    let key = [("idempotency-key", "k-1")];
    let one = demo.put_with(&place, "n = 4\n", &key).await.unwrap().expect(&[200]).unwrap();
    let two = demo.put_with(&place, "n = 4\n", &key).await.unwrap().expect(&[200]).unwrap();
    assert_eq!(one.json(), two.json());
    assert_eq!(demo.put_with(&place, "n = 5\n", &key).await.unwrap().status, 409);

    // Syntax is checked before anything is written, and the error says where.
    let bad = demo.put(&place, "n = \n").await.unwrap();
    assert_eq!((bad.status, bad.code().as_str()), (400, "INVALID_ARGUMENT"));
    assert!(bad.text().contains("line"), "{}", bad.text());
}
