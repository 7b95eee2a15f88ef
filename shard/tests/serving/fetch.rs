//! What applications read.

use std::time::Duration;

use serde_json::json;

use crate::{
    caller::{fetch, file},
    member::Member,
};

/// The content comes back byte for byte, with what caches and clients need to know of it.
#[tokio::test]
async fn a_file_is_fetched_as_it_was_put() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let content = "a: 1 # kept as it is\n";
    let put = admin.put(&file("shop", "app.yaml"), content).await;
    assert_eq!(put.status, 201, "{put:?}");

    let got = admin.get(&fetch("shop", "app.yaml")).await;
    assert_eq!((got.status.as_u16(), &got.body[..]), (200, content.as_bytes()));
    assert_eq!(got.header("content-type"), "application/yaml");
    assert_eq!(got.header("cache-control"), "private");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    assert_eq!(got.header("x-config-version"), "1");
    assert_eq!(got.header("x-config-hash"), put.header("x-config-hash"));
    assert_eq!(got.header("x-conflux-revision"), put.header("x-conflux-revision"));
    assert_eq!(got.header("x-conflux-epoch"), "1");
    assert!(got.header("x-conflux-age-ms").parse::<u64>().unwrap() < 60_000);
    assert_eq!(got.header("x-request-id"), "request-1");

    let again =
        admin.with("if-none-match", &format!("\"x\", W/{}", got.header("etag"))).get(&fetch("shop", "app.yaml")).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    assert_eq!(again.header("etag"), got.header("etag"));
}

/// Labels choose the version; each level of consistency answers the same when nothing changes.
#[tokio::test]
async fn labels_and_levels_choose_what_is_answered() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let id = admin.put(&file("shop", "a.json"), "{\"v\":1}").await.json()["config_id"].as_str().unwrap().to_owned();
    let base = format!("/api/v1/mgt/acme/configs/{id}");
    let second = admin.post(&format!("{base}/versions"), &json!({"content": "{\"v\":2}"})).await;
    assert_eq!((second.status.as_u16(), second.json()["version"].as_u64()), (201, Some(2)));
    let rules = json!({"rules": [{"version": 1}, {"version": 2, "priority": 9, "labels": {"region": "eu"}}]});
    let set = admin.send("PUT", &format!("{base}/releases"), rules.to_string().into()).await;
    assert_eq!(set.status, 200, "{set:?}");

    let eu = admin.with("x-client-label-region", "eu");
    for level in ["stale", "leader", "linearizable"] {
        let path = format!(
            "{}?consistency={level}&min_revision={}",
            fetch("shop", "a.json"),
            set.header("x-conflux-revision")
        );
        assert_eq!(&admin.get(&path).await.body[..], b"{\"v\":1}", "{level}");
        assert_eq!(&eu.get(&path).await.body[..], b"{\"v\":2}", "{level}");
    }
    let odd = admin.get(&format!("{}?consistency=strong", fetch("shop", "a.json"))).await;
    assert_eq!(odd.code(), (400, "INVALID_ARGUMENT".into()));

    let all = eu.get("/api/v1/fetch/configs/acme/shop/prod").await.json();
    assert_eq!(all["configs"][0]["content"], "{\"v\":2}");
    assert_eq!(all["next_cursor"], "");
}

/// A caller who has seen a later state must not be shown an older one: it waits, or is sent elsewhere; another history
/// is never compared.
#[tokio::test]
async fn min_revision_is_kept() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    admin.put(&file("shop", "a"), "x").await;
    let at = |mark: &str| format!("{}?min_revision={mark}", fetch("shop", "a"));
    let later = admin.within(Duration::from_millis(200)).get(&at("1.50")).await;
    assert_eq!(later.code(), (503, "UNAVAILABLE".into()));
    assert_eq!(later.header("x-conflux-retry"), "try-other");
    assert_eq!(admin.get(&at("2.1")).await.code(), (412, "FAILED_PRECONDITION".into()));

    let path = at("1.2");
    let waiting = tokio::spawn({
        let admin = admin.clone();
        async move { admin.get(&path).await }
    });
    admin.put(&file("shop", "a"), "y").await;
    assert_eq!(&waiting.await.unwrap().body[..], b"y");
}

/// Many large contents come in pages, each once.
#[tokio::test]
async fn an_environment_is_fetched_in_bounded_pages() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    for i in 0..10 {
        let content = format!("{i}{}", "x".repeat((1 << 20) - 1));
        assert_eq!(admin.put(&file("shop", &format!("big-{i}")), content).await.status, 201);
    }
    let (mut names, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = admin.get(&format!("/api/v1/fetch/configs/acme/shop/prod?cursor={cursor}")).await;
        assert!(page.body.len() < 9 << 20);
        let page = page.json();
        pages += 1;
        names.extend(page["configs"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()));
        cursor = page["next_cursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!((pages, names), (2, (0..10).map(|i| format!("big-{i}")).collect::<Vec<_>>()));
}
