//! Writes: conditions, keys, bounds, and what an error says.

use serde_json::json;

use crate::{
    caller::{fetch, file},
    member::Member,
};

/// One PUT creates and releases; the next adds a version; conditions keep one from overwriting what one has not seen.
#[tokio::test]
async fn conditions_guard_a_put() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let path = file("shop", "app.toml");
    let first = admin.put(&path, "a = 1").await;
    assert_eq!((first.status.as_u16(), first.json()["created"].as_bool()), (201, Some(true)));
    assert!(first.header("location").ends_with(first.json()["config_id"].as_str().unwrap()));

    assert_eq!(admin.with("if-none-match", "*").put(&path, "a = 2").await.code().0, 412);
    let second = admin.with("if-match", first.header("etag")).put(&path, "a = 2").await;
    assert_eq!((second.status.as_u16(), second.json()["version"].as_u64()), (200, Some(2)));
    let stale = admin.with("if-match", first.header("etag")).put(&path, "a = 3").await;
    assert_eq!(stale.code(), (412, "FAILED_PRECONDITION".into()));
    assert_eq!(stale.json()["error"]["outcome"], "not_applied");
    assert_eq!(&admin.get(&fetch("shop", "app.toml")).await.body[..], b"a = 2");
}

/// A write that is repeated under its key has one effect and one answer, a deletion too; another body is a conflict.
#[tokio::test]
async fn a_key_means_one_effect() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let keyed = admin.with_key("k1");
    let first = keyed.put(&file("shop", "a"), "x").await;
    let again = keyed.put(&file("shop", "a"), "x").await;
    assert_eq!((first.status, first.json()), (again.status, again.json()));
    assert_eq!(keyed.put(&file("shop", "a"), "y").await.code(), (409, "ABORTED".into()));

    let config = format!("/api/v1/mgt/acme/configs/{}", first.json()["config_id"].as_str().unwrap());
    let deleted = admin.with_key("k2").delete(&config).await;
    assert_eq!(deleted.status, 200);
    let repeated = admin.with_key("k2").delete(&config).await;
    assert_eq!((repeated.status.as_u16(), repeated.json()), (200, deleted.json()));
    assert_eq!(admin.with_key("k3").delete(&config).await.code(), (404, "NOT_FOUND".into()));
    assert_eq!(admin.delete(&config).await.code(), (404, "NOT_FOUND".into()));
}

/// What is wrong with a content or a body is said with its place and its bound.
#[tokio::test]
async fn errors_say_what_to_change() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let broken = admin.put(&file("shop", "app.json"), "{\n \"a\": }").await;
    assert_eq!(broken.code(), (400, "INVALID_ARGUMENT".into()));
    assert!(broken.json()["error"]["message"].as_str().unwrap().contains("line 2, column"), "{broken:?}");
    assert_eq!(broken.json()["error"]["request_id"], "request-1");

    let big = admin.put(&file("shop", "big"), vec![b'x'; (1 << 20) + 1]).await;
    assert_eq!(big.code(), (413, "RESOURCE_EXHAUSTED".into()));
    assert!(big.json()["error"]["message"].as_str().unwrap().contains("1048576"), "{big:?}");
    assert_eq!(admin.put(&file("shop", "big"), vec![b'x'; 1 << 20]).await.status, 201, "the bound itself fits");

    let typo = admin.post("/api/v1/mgt/acme/configs", &json!({"app": "a", "env": "b", "nmae": "c"})).await;
    assert_eq!(typo.json()["error"]["details"][0]["field"], "nmae", "{typo:?}");
    let extra = admin.post("/api/v1/mgt/configs", &json!({"app": "a", "env": "b", "name": "c", "x": 1})).await;
    assert_eq!(extra.json()["error"]["details"][0]["field"], "x");
    assert_eq!(admin.send("PATCH", "/api/v1/mgt/configs", "".into()).await.code(), (501, "UNIMPLEMENTED".into()));
    assert_eq!(admin.get("/api/v1/mgt/acme/nothing").await.code(), (404, "NOT_FOUND".into()));
}

/// The management calls show what was made, with and without the tenant in the path.
#[tokio::test]
async fn configs_versions_and_releases_are_shown() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let body = json!({"app": "shop", "env": "prod", "name": "a.json", "content": "{}", "tags": ["x"]});
    let made = admin.post("/api/v1/mgt/acme/configs", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["config_id"].as_str().unwrap().to_owned();
    for base in ["/api/v1/mgt/acme/configs", "/api/v1/mgt/configs"] {
        let shown = admin.get(&format!("{base}/{id}")).await;
        assert_eq!((shown.json()["name"].as_str(), shown.header("etag")), (Some("a.json"), made.header("etag")));
        let listed = admin.get(&format!("{base}?app=shop&tag=x&limit=5")).await.json();
        assert_eq!(listed["configs"][0]["id"], id);
        assert_eq!(admin.get(&format!("{base}?tag=y")).await.json()["configs"], json!([]));
        let version = admin.get(&format!("{base}/{id}/versions/1")).await.json();
        assert_eq!((&version["content"], &version["size"]), (&json!("{}"), &json!(2)));
        let versions = admin.get(&format!("{base}/{id}/versions")).await.json();
        assert_eq!(versions["versions"][0].get("content"), None);
        assert_eq!(admin.get(&format!("{base}/{id}/releases")).await.json()["rules"], json!([]), "nothing is released");
    }
}

/// What was acknowledged is there after a stop and a start, under the same revision; so is the answer to a key.
#[tokio::test]
async fn a_stopped_member_comes_back_with_its_data() {
    let mut member = Member::with_acme().await;
    let put = member.admin().with_key("k").put(&file("shop", "a"), "x").await;
    assert_eq!(put.status, 201, "{put:?}");
    member.stop().await.unwrap();
    member.placement.forget_reports();
    member.start(0);
    member.leader(None).await;
    let got = member.admin().get(&fetch("shop", "a")).await;
    assert_eq!((&got.body[..], got.header("x-conflux-revision")), (&b"x"[..], put.header("x-conflux-revision")));
    let again = member.admin().with_key("k").put(&file("shop", "a"), "x").await;
    assert_eq!((again.status, again.json()), (put.status, put.json()));
}
