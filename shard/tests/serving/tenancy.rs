//! Quotas, applications and environments, audit, retention: as their callers see them.

use serde_json::{Value, json};

use crate::{caller::file, member::Member};

/// What people browse: made by the first config or on purpose, seen by those who may see something in it.
#[tokio::test]
async fn applications_and_environments_are_browsed() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let base = "/api/v1/mgt/acme/apps";
    assert_eq!(admin.put(&file("shop", "a"), "x").await.status, 201);
    let made = admin.post(base, &json!({"name": "bank", "description": "money"})).await;
    assert_eq!((made.status.as_u16(), &made.json()["created"]), (201, &json!(true)), "{made:?}");
    assert_eq!(admin.post(base, &json!({"name": "bank"})).await.code(), (409, "ALREADY_EXISTS".into()));
    let names = |list: Value, key: &str| -> Vec<String> {
        list[key].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(admin.get(base).await.json(), "apps"), ["bank", "shop"]);
    let page = admin.get(&format!("{base}?limit=1")).await.json();
    let next = admin.get(&format!("{base}?cursor={}", page["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!((names(page, "apps"), names(next, "apps")), (vec!["bank".into()], vec!["shop".into()]));

    let envs = format!("{base}/shop/envs");
    assert_eq!(admin.post(&envs, &json!({"name": "dev"})).await.status, 201);
    let patched = admin.send("PATCH", &format!("{envs}/prod"), json!({"description": "live"}).to_string().into()).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    let prod = admin.get(&format!("{envs}/prod")).await.json();
    assert_eq!((&prod["description"], &prod["configs"]), (&json!("live"), &json!(1)));
    assert_eq!(names(admin.get("/api/v1/mgt/apps/shop/envs").await.json(), "envs"), ["dev", "prod"]);

    let reader = member.caller(&[("read", "shop/prod/*")]);
    assert_eq!(names(reader.get(base).await.json(), "apps"), ["shop"]);
    assert_eq!(names(reader.get(&envs).await.json(), "envs"), ["prod"]);
    assert_eq!(reader.get(&format!("{base}/bank")).await.code(), (404, "NOT_FOUND".into()));
    assert_eq!(reader.delete(&format!("{envs}/dev")).await.code(), (403, "PERMISSION_DENIED".into()));
    let conditional = admin.with("if-match", "\"1.1\"").delete(&format!("{envs}/dev")).await;
    assert_eq!(conditional.code(), (400, "INVALID_ARGUMENT".into()));

    assert_eq!(admin.delete(&format!("{envs}/prod")).await.code(), (412, "FAILED_PRECONDITION".into()));
    assert_eq!(admin.delete(&format!("{envs}/dev")).await.status, 200);
    assert_eq!(admin.delete(&format!("{base}/bank")).await.status, 200);
    assert_eq!(names(admin.get(base).await.json(), "apps"), ["shop"]);
}

/// Who changed what: filtered, in pages, and only of what one may read.
#[tokio::test]
async fn the_audit_tells_who_changed_what() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    for (app, content) in [("shop", "1"), ("bank", "2"), ("shop", "3")] {
        admin.put(&file(app, "a"), content).await;
    }
    admin.post("/api/v1/mgt/acme/apps", &json!({"name": "empty"})).await;
    let base = "/api/v1/mgt/acme/audit";
    let seqs = |list: &Value| -> Vec<u64> {
        list["records"].as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect()
    };
    let all = admin.get(base).await.json();
    assert_eq!(seqs(&all), [4, 3, 2, 1]);
    let newest = &all["records"][1];
    assert_eq!((&newest["target"], &newest["request_id"]), (&json!("shop/prod/a"), &json!("request-1")));
    for (query, found) in [
        ("app=shop", vec![3, 1]),
        ("app=shop&name=b", vec![]),
        ("operation=put_scope", vec![4]),
        ("principal=key:other", vec![]),
        ("to=2001-01-01T00:00:00Z", vec![]),
        ("from=2001-01-01T00:00:00Z&env=prod", vec![3, 2, 1]),
        ("limit=3", vec![4, 3, 2]),
    ] {
        assert_eq!(seqs(&admin.get(&format!("{base}?{query}")).await.json()), found, "{query}");
    }
    let page = admin.get(&format!("{base}?limit=3")).await.json();
    let next = admin.get(&format!("{base}?cursor={}", page["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!(seqs(&next), [1]);
    assert_eq!(admin.get(&format!("{base}?from=soon")).await.json()["error"]["details"][0]["field"], "from");

    let reader = member.caller(&[("read", "shop/*/*")]);
    assert_eq!(seqs(&reader.get(base).await.json()), [3, 1]);
    assert_eq!(reader.get(&format!("{base}/verify")).await.code(), (403, "PERMISSION_DENIED".into()));
    let verdict = admin.get("/api/v1/mgt/audit/verify").await.json();
    assert_eq!((&verdict["valid"], &verdict["last"]), (&json!(true), &json!(4)));
    assert_eq!(verdict["hash"], all["records"][0]["hash"]);
}

/// What retention gives up is in the archive before it is gone.
#[tokio::test]
async fn versions_are_archived_and_pruned() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let retention = json!({"max_versions": 2});
    let new = json!({"app": "shop", "env": "prod", "name": "a", "content": "v1", "retention": retention});
    let made = admin.post("/api/v1/mgt/acme/configs", &new).await;
    assert_eq!(made.status, 201, "{made:?}");
    for i in 2..=4 {
        assert_eq!(admin.put(&file("shop", "a"), format!("v{i}")).await.status, 200);
    }
    let config = format!("/api/v1/mgt/acme/configs/{}", made.json()["config_id"].as_str().unwrap());
    // The leader looks every few seconds; what it does is an entry of the log and can be waited for by reading.
    loop {
        let kept = admin.get(&config).await.json()["versions"].as_u64().unwrap();
        if kept == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // What was given up can still be read, by whom it could before; it is nobody's version any more.
    let read_back = admin.get(&format!("{config}/versions/1")).await;
    assert_eq!(
        (&read_back.json()["content"], &read_back.json()["archived"]),
        (&json!("v1"), &json!(true)),
        "{read_back:?}"
    );
    assert!(admin.get(&format!("{config}/versions/4")).await.json().get("archived").is_none());
    let release = json!({"version": 1, "strategy": {"type": "all"}});
    assert_eq!(admin.post(&format!("{config}/publish"), &release).await.code().0, 400);
    assert_eq!(admin.get(&format!("{config}/versions/9")).await.code(), (404, "NOT_FOUND".into()));
    let archived = member.archive().join("acme-1/1").join(made.json()["config_id"].as_str().unwrap());
    assert_eq!(std::fs::read(archived.join("1")).unwrap(), b"v1");
    assert_eq!(std::fs::read(archived.join("2")).unwrap(), b"v2");
    let told: Value = serde_json::from_slice(&std::fs::read(archived.join("2.json")).unwrap()).unwrap();
    assert_eq!((&told["name"], &told["version"]), (&json!("a"), &json!(2)));
    std::fs::write(archived.join("2"), "other").unwrap();
    assert_eq!(admin.get(&format!("{config}/versions/2")).await.code(), (503, "UNAVAILABLE".into()), "it is damaged");
    std::fs::remove_file(archived.join("1.json")).unwrap();
    assert_eq!(admin.get(&format!("{config}/versions/1")).await.code(), (404, "NOT_FOUND".into()));
    let newest = admin.get("/api/v1/mgt/acme/audit?limit=1").await.json()["records"][0].clone();
    assert_eq!((&newest["principal"], &newest["operation"]), (&json!("shard:upkeep"), &json!("prune")));
    assert_eq!(admin.get(&config).await.json()["retention"]["max_versions"], 2);
}

/// A content beyond the tenant's quota is refused as too large, whichever way it comes.
#[tokio::test]
async fn a_content_beyond_the_quota_is_too_large() {
    let member = Member::with_acme().await;
    member.placement.set_quotas(2, "small", conflux_proto::v1::Quotas { config_bytes: 10, ..Default::default() });
    let small = member.admin().of(2, "small", 1);
    let put = "/api/v1/tenants/small/apps/a/envs/e/configs/c";
    let refused = small.put(put, "01234567890").await;
    assert_eq!(refused.code(), (413, "RESOURCE_EXHAUSTED".into()));
    assert_eq!(refused.json()["error"]["details"][0]["field"], "quota.config_bytes");
    assert_eq!(refused.json()["error"]["retryable"], false);
    assert_eq!(small.put(put, "0123456789").await.status, 201);
}
