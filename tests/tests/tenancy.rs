//! What a tenant may have, who did what, and what becomes of old versions: on real processes.

use std::{process::Command, time::Duration};

use conflux_tests::{Federation, Shape, client::Place, federation::binary, until};
use serde_json::{Value, json};

const SMALL: Shape = Shape { replicas: 1, ..Shape::ONE_GROUP };

/// The command line as a user or an operator runs it: exit code, standard output.
fn conflux(federation: &Federation, arguments: &[&str]) -> (i32, String) {
    let file = federation.directory().join("federation.json");
    let output = Command::new(binary()).args(arguments).arg("--federation").arg(file).output().expect("conflux");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// An operator gives more room: the very next write has it; and takes room away without taking anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_an_operator_raises_takes_effect() {
    let federation = Federation::start(SMALL).await.unwrap();
    let demo = federation.demo();
    let place = Place::new("demo", "shop", "prod", "large.txt");
    let large = "x".repeat(200_000);
    let refused = demo.put(&place, large.clone()).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (413, "RESOURCE_EXHAUSTED"), "{}", refused.text());
    assert!(refused.text().contains("quota.config_bytes"), "{}", refused.text());
    let (code, said) = conflux(&federation, &["tenant", "quota", "set", "demo", "--config-bytes", "300000"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("300000") && said.contains("operator") && said.contains("1000"), "{said}");
    demo.put(&place, large).await.unwrap().expect(&[201]).unwrap();

    let path = "/api/v1/admin/tenants/demo/quotas";
    let operator = federation.operator();
    let set = operator.put_json(path, &json!({"configs": 1, "config_bytes": 300_000})).await.unwrap();
    assert_eq!((set.status, &set.json()["applied"]), (200, &json!(true)), "{}", set.text());
    let another = Place { name: "another".into(), ..place.clone() };
    let refused = demo.put(&another, "x").await.unwrap();
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.text().contains("quota.configs"), "{}", refused.text());
    assert_eq!(demo.fetch(&place, "").await.unwrap().status, 200, "what is above a lowered quota stays");
    let wrong = operator.put_json(path, &json!({"config_bytes": 2 << 20})).await.unwrap();
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "INVALID_ARGUMENT"), "{}", wrong.text());
    assert_eq!(demo.put_json(path, &json!({"configs": 9})).await.unwrap().status, 403);
    let shown = operator.get(path).await.unwrap().json();
    assert_eq!((&shown["configs"], &shown["set"]), (&json!(1), &json!(["configs", "config_bytes"])));
}

/// The chain of changes goes on over a change of leader, and whoever reads it can check it.
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_chain_holds_over_a_leader_kill() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let demo = federation.demo();
    let put = async |n: u32| {
        let place = Place::new("demo", "audit", "test", &format!("a-{}.json", n % 7));
        demo.put(&place, format!("{{\"n\": {n}}}")).await.unwrap().expect(&[200, 201]).unwrap()
    };
    let mut last = put(0).await;
    for n in 1..60 {
        if n == 30 {
            let leader = federation.leader("shard-a").await;
            federation.kill(&leader.member).await;
            last = put(n).await;
            federation.restart(&leader.member);
        } else {
            last = put(n).await;
        }
    }
    let audit = demo.get("/api/v1/mgt/demo/audit?app=audit&limit=1000").await.unwrap().expect(&[200]).unwrap().json();
    let records = audit["records"].as_array().unwrap();
    assert_eq!(records.len(), 60, "one record for each accepted change");
    assert_eq!(records[0]["request_id"].as_str(), last.header("x-request-id"));
    let (code, said) = conflux(&federation, &["audit", "verify", "--tenant", "demo"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the chain holds"), "{said}");
    // Every replica has the same chain.
    let heads = until("all replicas tell the same", Duration::from_secs(30), || async {
        let mut heads = std::collections::BTreeSet::new();
        for _ in 0..12 {
            let verdict = demo.get("/api/v1/mgt/demo/audit/verify?consistency=stale").await.ok()?.json();
            heads.insert((verdict["valid"].as_bool()?, verdict["hash"].as_str()?.to_owned()));
        }
        (heads.len() == 1).then_some(heads)
    })
    .await;
    assert!(heads.first().unwrap().0);
    let (code, said) = conflux(&federation, &["audit", "list", "--tenant", "demo", "--app", "audit", "--limit", "3"]);
    assert!(code == 0 && said.lines().count() == 4 && said.contains("put_config"), "{code}: {said}");
}

/// An auditor finds who was refused what, and neither a key nor a content.
#[tokio::test(flavor = "multi_thread")]
async fn refused_attempts_are_in_the_gateways_file() {
    let federation = Federation::start(SMALL).await.unwrap();
    let reader = federation.tenant("acme", &["reader"]).await.unwrap();
    let place = Place::new("acme", "shop", "prod", "a.json");
    let refused = reader.put(&place, "{\"secret\": \"in the body\"}").await.unwrap();
    assert_eq!(refused.status, 403);
    let elsewhere = reader.get("/api/v1/mgt/demo/configs").await.unwrap();
    assert_eq!(elsewhere.status, 403);
    let stranger = federation.client("cfx_aaaaaaaaaaaaaaaa_wrongsecretwrongsecretwrongsecretwrongsecre");
    assert_eq!(stranger.get("/api/v1/mgt/acme/configs").await.unwrap().status, 401);
    let invalid = federation.demo().put(&Place::new("demo", "shop", "prod", "b.json"), "{").await.unwrap();
    assert_eq!(invalid.status, 400);
    assert_eq!(reader.fetch(&place, "").await.unwrap().status, 404, "a miss of a reader is no refusal");

    let gateway = std::fs::read_dir(federation.directory()).unwrap().filter_map(Result::ok);
    let file = gateway.map(|entry| entry.path().join("refused.jsonl")).find(|path| path.exists()).expect("the file");
    let lines: Vec<Value> = until("all are on disk", Duration::from_secs(10), || async {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let has = |answer: &conflux_tests::client::Answer| {
            let id = answer.header("x-request-id").unwrap();
            lines.iter().any(|l| l["request_id"] == id)
        };
        [&refused, &elsewhere, &invalid].into_iter().all(has).then_some(lines)
    })
    .await;
    let of = |answer: &conflux_tests::client::Answer| {
        let id = answer.header("x-request-id").unwrap().to_owned();
        lines.iter().find(|l| l["request_id"] == id.as_str()).unwrap().clone()
    };
    let first = of(&refused);
    assert_eq!((&first["status"], &first["code"]), (&json!(403), &json!("PERMISSION_DENIED")));
    assert_eq!((&first["tenant"], &first["method"]), (&json!("acme"), &json!("PUT")));
    assert_eq!(first["path"], place.put_path());
    assert!(first["principal"].as_str().unwrap().starts_with("key:") && first["client"].is_string(), "{first}");
    assert_eq!(of(&invalid)["code"], "INVALID_ARGUMENT");
    assert!(lines.iter().any(|l| l["status"] == 401 && l["principal"] == ""), "{lines:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    // The secret itself may have an underscore.
    let secret = reader.key.as_ref().unwrap().splitn(3, '_').nth(2).unwrap();
    assert!(!text.contains(secret) && !text.contains("wrongsecret") && !text.contains("in the body"));
}

/// Old versions go by themselves, after they have been archived, and what is served stays.
#[tokio::test(flavor = "multi_thread")]
async fn retention_archives_and_prunes() {
    let archive = tempfile::tempdir().unwrap();
    let setting = format!("shard:archive.directory={}", archive.path().display());
    let federation = Federation::start_with(Shape::ONE_GROUP, &[&setting]).await.unwrap();
    let demo = federation.demo();
    let new = json!({
        "app": "shop", "env": "prod", "name": "kept.json", "content": "{\"v\":1}", "retention": {"max_versions": 3},
    });
    let made = demo.post_json("/api/v1/mgt/demo/configs", &new).await.unwrap().expect(&[201]).unwrap().json();
    let config = format!("/api/v1/mgt/demo/configs/{}", made["config_id"].as_str().unwrap());
    let rules = json!({"rules": [{"labels": {"region": "eu"}, "version": 1, "priority": 5}]});
    demo.put_json(&format!("{config}/releases"), &rules).await.unwrap().expect(&[200]).unwrap();
    let place = Place::new("demo", "shop", "prod", "kept.json");
    for v in 2..=6 {
        demo.put(&place, format!("{{\"v\":{v}}}")).await.unwrap().expect(&[200]).unwrap();
    }
    until("three versions are left", Duration::from_secs(30), || async {
        (demo.get(&config).await.ok()?.json()["versions"] == 3).then_some(())
    })
    .await;
    let versions = demo.get(&format!("{config}/versions")).await.unwrap().json();
    let left: Vec<u64> = versions["versions"].as_array().unwrap().iter().filter_map(|v| v["number"].as_u64()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&6) && left.contains(&1), "the latest and what a rule serves stay: {left:?}");
    let gone = (1..=6).filter(|v| !left.contains(v));
    for version in gone {
        let pattern = format!("{}/{version}", made["config_id"].as_str().unwrap());
        let tenant = std::fs::read_dir(archive.path()).unwrap().next().unwrap().unwrap().path();
        let content = std::fs::read_to_string(tenant.join("1").join(&pattern)).unwrap();
        assert_eq!(content, format!("{{\"v\":{version}}}"));
    }
    let eu = demo.get_with(&place.fetch_path(), &[("x-client-label-region", "eu")]).await.unwrap();
    assert_eq!(eu.text(), "{\"v\":1}");
    let (code, said) = conflux(&federation, &["audit", "list", "--tenant", "demo", "--operation", "prune"]);
    assert!(code == 0 && said.contains("shard:upkeep") && said.contains("archived"), "{said}");
    // Applications and environments, as people browse them.
    let (code, said) = conflux(&federation, &["env", "list", "shop", "--tenant", "demo"]);
    assert!(code == 0 && said.contains("prod"), "{said}");
}
