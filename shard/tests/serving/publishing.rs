//! Publishing, rollback, drafts, changesets and resolve, as their callers see them.

use serde_json::{Value, json};

use crate::{
    caller::{Answer, Caller, fetch, file},
    member::Member,
};

async fn config(admin: &Caller) -> String {
    let put = admin.put(&file("shop", "a.yaml"), "v: 1").await;
    format!("/api/v1/mgt/acme/configs/{}", put.json()["config_id"].as_str().unwrap())
}

fn field(answer: &Answer) -> String {
    answer.json()["error"]["details"][0]["field"].as_str().unwrap_or_default().to_owned()
}

async fn fetched(caller: &Caller, label: Option<(&str, &str)>) -> String {
    let caller = match label {
        Some((name, value)) => caller.with(&format!("x-client-label-{name}"), value),
        None => caller.clone(),
    };
    let answer = caller.get(&format!("{}?consistency=leader", fetch("shop", "a.yaml"))).await;
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// One call makes a version and gives it to the clients meant; another takes it back; resolve says why.
#[tokio::test]
async fn a_version_is_released_and_taken_back() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let config = config(&admin).await;
    let publish = format!("{config}/publish");
    let body = json!({"content": "v: 2", "strategy": {"type": "targeted", "labels": {"host": "a"}}});

    let preview = admin.post(&format!("{publish}?dry_run=true"), &body).await;
    assert_eq!(preview.status, 200, "{preview:?}");
    let told = preview.json();
    assert_eq!((told["version"].as_u64(), &told["violations"]), (Some(2), &json!([])));
    assert_eq!(told["before"], json!([{"labels": {}, "version": 1, "priority": 0}]));
    assert_eq!(told["after"][1], json!({"labels": {"host": "a"}, "version": 2, "priority": 10}));
    assert!(told["impact"]["notes"].is_array());
    assert_eq!(fetched(&admin, Some(("host", "a"))).await, "v: 1", "nothing was done");

    let made = admin.post(&publish, &body).await;
    assert_eq!((made.status.as_u16(), made.json()["version"].as_u64()), (200, Some(2)), "{made:?}");
    assert_eq!(made.header("x-conflux-revision"), made.json()["revision"].as_str().unwrap());
    assert_eq!(fetched(&admin, Some(("host", "a"))).await, "v: 2");
    assert_eq!(fetched(&admin, None).await, "v: 1");

    let resolved = admin.get(&format!("{config}/resolve?label.host=b")).await.json();
    assert_eq!(resolved["version"], 1);
    assert_eq!(resolved["rules"][0]["why"], "the client's host is \"b\"; \"a\" is asked for");
    assert_eq!((&resolved["rules"][0]["serves"], &resolved["rules"][1]["serves"]), (&json!(false), &json!(true)));
    assert_eq!(admin.get(&format!("{config}/resolve?host=b")).await.code().0, 400);

    admin.post(&publish, &json!({"version": 2, "strategy": {"type": "all"}})).await;
    assert_eq!(fetched(&admin, None).await, "v: 2");
    let back = admin.post(&format!("{config}/rollback"), &json!({})).await;
    assert_eq!(back.json()["version"], 1, "{back:?}");
    assert_eq!(fetched(&admin, None).await, "v: 1");
    assert_eq!(admin.post(&format!("{config}/rollback"), &json!({"version": 9})).await.code().0, 400);
}

/// What is wrong is said with the field's path, before anything is done.
#[tokio::test]
async fn errors_of_a_publish_name_their_field() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let config = config(&admin).await;
    let publish = format!("{config}/publish");
    let all = json!({"type": "all"});
    for (body, expected) in [
        (json!({"content": "v: 2"}), "strategy"),
        (json!({"strategy": all}), "content"),
        (json!({"content": "v: 2", "version": 1, "strategy": all}), "content"),
        (json!({"version": 9, "strategy": all}), "version"),
        (json!({"version": 1, "strategy": {"type": "rolling"}}), "strategy.type"),
        (json!({"version": 1, "strategy": {"type": "canary"}}), "strategy.percentage"),
        (json!({"version": 1, "strategy": {"type": "all", "lables": {}}}), "strategy.lables"),
        (json!({"version": 1, "schema": "x: integer", "strategy": all}), "schema"),
        (json!({"version": 1, "strategy": all, "make_default_after_mins": 5}), "make_default_after_mins"),
    ] {
        let refused = admin.post(&publish, &body).await;
        assert_eq!((refused.code().0, field(&refused).as_str()), (400, expected), "{body}: {refused:?}");
    }
    let broken = admin.post(&publish, &json!({"content": "v: [", "strategy": all})).await;
    assert!(broken.json()["error"]["message"].as_str().unwrap().contains("line 2"), "{broken:?}");
    let preview =
        admin.post(&format!("{publish}?dry_run=true"), &json!({"content": "v: [", "strategy": all})).await.json();
    assert_eq!(preview["violations"][0]["field"], "content", "{preview}");
    assert_eq!(fetched(&admin, None).await, "v: 1");
    // Two rules between which nothing decides.
    let twins = json!({"rules": [{"version": 1}, {"version_id": 1}]});
    let refused = admin.send("PUT", &format!("{config}/releases"), twins.to_string().into()).await;
    assert_eq!(field(&refused), "rules[1]");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("rules[0]"), "{refused:?}");
}

/// A draft may be wrong, reaches nobody, and is published once; a repetition of that call gets the same answer.
#[tokio::test]
async fn drafts_become_versions() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let config = config(&admin).await;
    let drafts = format!("{config}/drafts");
    let etag = admin.get(&config).await.header("etag").to_owned();
    let kept = admin.post(&drafts, &json!({"content": "v: [", "description": "next"})).await;
    assert_eq!((kept.status.as_u16(), kept.json()["draft"].as_u64()), (201, Some(1)), "{kept:?}");
    assert_eq!(kept.json()["violations"][0]["field"], "content");
    let publish = json!({"draft": 1, "strategy": {"type": "all"}});
    assert_eq!(admin.post(&format!("{config}/publish"), &publish).await.code().0, 400, "it is wrong yet");
    let changed = admin.put(&format!("{drafts}/1"), json!({"content": "v: 2"}).to_string()).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["violations"]), (200, &json!([])), "{changed:?}");
    let shown = admin.get(&format!("{drafts}/1")).await.json();
    assert_eq!((&shown["content"], &shown["number"], &shown["format"]), (&json!("v: 2"), &json!(1), &json!("yaml")));
    assert_eq!(admin.get(&drafts).await.json()["drafts"].as_array().unwrap().len(), 1);
    assert_eq!(admin.get(&config).await.header("etag"), etag, "a draft is no change of the config");

    let keyed = admin.with_key("k");
    let made = keyed.post(&format!("{config}/publish"), &publish).await;
    assert_eq!((made.status.as_u16(), made.json()["version"].as_u64()), (200, Some(2)), "{made:?}");
    let again = keyed.post(&format!("{config}/publish"), &publish).await;
    assert_eq!((again.status, again.json()), (made.status, made.json()), "the draft is gone, the call is the same");
    assert_eq!(admin.get(&format!("{drafts}/1")).await.code().0, 404);
    assert_eq!(admin.post(&format!("{config}/publish"), &publish).await.code().0, 404);
    assert_eq!(fetched(&admin, None).await, "v: 2");
    admin.post(&drafts, &json!({"content": "v: 3"})).await;
    assert_eq!(admin.delete(&format!("{drafts}/2")).await.status, 200);
    assert_eq!(admin.delete(&format!("{drafts}/2")).await.code().0, 404);
}

/// What is said of a config is changed field by field; null clears.
#[tokio::test]
async fn a_config_is_described_anew() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let config = config(&admin).await;
    let patch = async |body: Value| admin.send("PATCH", &config, body.to_string().into()).await;
    let first = patch(json!({
        "description": "d", "tags": ["b", "a"], "schema": "{\"type\": \"object\"}", "retention": {"max_versions": 3}
    }));
    let first = first.await;
    assert_eq!(first.status, 200, "{first:?}");
    let shown = admin.get(&config).await.json();
    assert_eq!((&shown["tags"], &shown["retention"]["max_versions"]), (&json!(["a", "b"]), &json!(3)));
    // The schema holds for what comes.
    let list = admin.put(&file("shop", "a.yaml"), "- 1").await;
    assert_eq!(list.code(), (400, "INVALID_ARGUMENT".into()), "{list:?}");
    let second = patch(json!({"schema": null, "retention": null})).await;
    assert_ne!(second.json()["etag"], first.json()["etag"]);
    let shown = admin.get(&config).await.json();
    assert_eq!((&shown["schema"], &shown["retention"], &shown["description"]), (&json!(""), &Value::Null, &json!("d")));
    assert_eq!(field(&patch(json!({"desc": "x"})).await), "desc");
    assert_eq!(field(&patch(json!({"schema": "{\"type\": 3}"})).await), "schema");
    assert_eq!(admin.with("if-match", "\"1.1\"").send("PATCH", &config, "{}".into()).await.code().0, 412);
    for (query, found) in [
        ("prefix=a.", 1),
        ("prefix=b", 0),
        ("name=a.yaml", 1),
        ("name=a", 0),
        ("format=yaml&tag=a", 1),
        ("format=json", 0),
    ] {
        let listed = admin.get(&format!("/api/v1/mgt/acme/configs?{query}")).await.json();
        assert_eq!(listed["configs"].as_array().unwrap().len(), found, "{query}");
    }
}

/// All changes of a changeset, or none; the refusal says which one.
#[tokio::test]
async fn a_changeset_is_all_or_nothing() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let config = config(&admin).await;
    let id = config.rsplit('/').next().unwrap().to_owned();
    let put =
        |name: &str, content: &str| json!({"put": {"app": "shop", "env": "prod", "name": name, "content": content}});
    let publish = json!({"publish": {"id": id, "content": "v: 2", "strategy": {"type": "all"}}});
    let send = async |caller: &Caller, changes: Value| {
        caller.post("/api/v1/mgt/acme/changesets", &json!({"description": "two", "changes": changes})).await
    };
    for (changes, expected) in [
        (json!([publish, put("b.yaml", "x: [")]), "changes[1].content"),
        (json!([publish, {"rollback": {"id": "c99"}}]), "changes[1]"),
        (json!([publish, put("a.yaml", "v: 3")]), "changes[1]"),
        (json!([publish, {"if_absent": true}]), "changes[1]"),
        (json!([publish, {"rollback": {"id": "99"}}]), "changes[1].rollback"),
        (
            json!([put("b.yaml", "x: 1"), {"publish": {"id": id, "version": 7, "strategy": {"type": "all"}}}]),
            "changes[1].version",
        ),
    ] {
        let refused = send(&admin, changes.clone()).await;
        assert!(field(&refused).starts_with(expected), "{changes}: {refused:?}");
        assert!(refused.status.is_client_error());
    }
    assert_eq!(
        (fetched(&admin, None).await.as_str(), admin.get(&fetch("shop", "b.yaml")).await.status.as_u16()),
        ("v: 1", 404)
    );

    let keyed = admin.with_key("k");
    let done = send(&keyed, json!([publish, put("b.yaml", "x: 1")])).await;
    assert_eq!(done.status, 200, "{done:?}");
    let told = done.json();
    let revisions: Vec<&Value> = told["results"].as_array().unwrap().iter().map(|r| &r["revision"]).collect();
    assert_eq!(revisions, [&told["revision"], &told["revision"]]);
    assert_eq!(fetched(&admin, None).await, "v: 2");
    let again = send(&keyed, json!([publish, put("b.yaml", "x: 1")])).await;
    assert_eq!(again.json(), told);
    assert_eq!(send(&keyed, json!([publish])).await.code(), (409, "ABORTED".into()));

    // Each change needs what it would need alone.
    let writer = member.caller(&[("write", "*/*/*"), ("list", "*/*/*")]);
    let refused = send(&writer, json!([{"update": {"id": id, "description": "d"}}, {"delete": {"id": id}}])).await;
    assert_eq!(refused.code(), (403, "PERMISSION_DENIED".into()), "{refused:?}");
    assert_eq!(send(&writer, json!([{"update": {"id": id, "description": "d"}}])).await.status, 200);
    let large = json!({"changes": [put("l.txt", &"x".repeat((1 << 20) + 1))]});
    let large = admin.post("/api/v1/mgt/changesets", &large).await;
    assert_eq!(large.code().0, 413, "{large:?}");
}

/// A promotion is seen, and cancelled; who may not publish may do neither.
#[tokio::test]
async fn a_promotion_is_shown_and_cancelled() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let config = config(&admin).await;
    let body = json!({
        "content": "v: 2", "strategy": {"type": "canary", "percentage": {"basis_points": 1000}},
        "make_default_after_mins": 5
    });
    let made = admin.post(&format!("{config}/publish"), &body).await.json();
    let shown = admin.get(&format!("{config}/promotion")).await.json();
    assert_eq!((&shown["version"], &shown["due_ms"]), (&json!(2), &made["promotion_due_ms"]));
    let writer = member.caller(&[("write", "*/*/*"), ("read", "*/*/*")]);
    for (method, path) in [("DELETE", "promotion"), ("POST", "rollback"), ("POST", "publish")] {
        let body = if path == "publish" { body.to_string() } else { "{}".to_owned() };
        let refused = writer.send(method, &format!("{config}/{path}"), body.into()).await;
        assert_eq!(refused.code(), (403, "PERMISSION_DENIED".into()), "{path}: {refused:?}");
    }
    assert_eq!(writer.post(&format!("{config}/drafts"), &json!({"content": "v: 3"})).await.status, 201);
    assert_eq!(admin.delete(&format!("{config}/promotion")).await.status, 200);
    assert_eq!(admin.get(&format!("{config}/promotion")).await.code(), (404, "NOT_FOUND".into()));
    assert_eq!(admin.delete(&format!("{config}/promotion")).await.code().0, 404);
}
