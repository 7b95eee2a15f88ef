//! An environment as an archive and back, compared with another, and promoted to it.

use conflux_tests::{Client, Federation, Shape, client::Place};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn environments_travel_as_archives_and_by_promotion() {
    let federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let demo = federation.demo();
    archives(&demo).await;
    hostile_archives(&demo).await;
    compare_and_promote(&demo).await;
    grants(&federation).await;
}

/// Configs that pack badly, and all of the exported environment.
const LARGE: u64 = 24;
const ALL: usize = LARGE as usize + 2;

/// Text of nearly a hundred kilobytes that packs badly, the same for the same number.
fn noise(seed: u64) -> String {
    let mut state = seed + 1;
    let letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state >> 32) as u8 % 64)
    };
    std::iter::repeat_with(letter).take(99_000).collect()
}

async fn put(client: &Client, place: &Place, content: &str) -> Value {
    client.put(place, content.to_owned()).await.unwrap().expect(&[200, 201]).unwrap().json()
}

fn place(env: &str, name: &str) -> Place {
    Place::new("demo", "store", env, name)
}

async fn export(client: &Client, query: &str) -> Vec<u8> {
    let answer = client.get(&format!("/api/v1/mgt/demo/export{query}")).await.unwrap().expect(&[200]).unwrap();
    assert_eq!(answer.header("content-type"), Some("application/zip"));
    answer.body.to_vec()
}

async fn import(client: &Client, archive: Vec<u8>, query: &str) -> conflux_tests::client::Answer {
    let request = client.request(Method::POST, &format!("/api/v1/mgt/demo/import{query}")).body(archive);
    client.send(request).await.unwrap()
}

async fn content(client: &Client, place: &Place) -> (u16, String) {
    let answer = client.fetch(place, "?consistency=leader").await.unwrap();
    (answer.status, answer.text())
}

async fn archives(demo: &Client) {
    put(demo, &place("dev", "app.yaml"), "# as it is\na: 1   # and blanks\n").await;
    put(demo, &place("dev", "app.yaml"), "a: 2\n").await;
    // Together larger than any other body that the gateway takes.
    for n in 0..LARGE {
        put(demo, &place("dev", &format!("large{n}.txt")), &noise(n)).await;
    }
    let draft = json!({"app": "store", "env": "dev", "name": "later.json", "content": "{}", "tags": ["web"],
        "description": "not yet"});
    demo.post_json("/api/v1/mgt/demo/configs", &draft).await.unwrap().expect(&[201]).unwrap();

    let archive = export(demo, "?app=store&env=dev").await;
    assert!(archive.len() > 3 << 19, "{} bytes", archive.len());
    assert_eq!(export(demo, "?app=store&env=dev").await, archive, "the same state is the same archive");

    let dry = import(demo, archive.clone(), "?env=copy&dry_run=true").await.expect(&[200]).unwrap().json();
    assert_eq!(dry["created"].as_array().unwrap().len(), ALL, "{dry}");
    assert_eq!(content(demo, &place("copy", "app.yaml")).await.0, 404, "a dry run writes nothing");

    let done = import(demo, archive.clone(), "?env=copy").await.expect(&[200]).unwrap().json();
    assert_eq!((done["created"].as_array().unwrap().len(), &done["unchanged"]), (ALL, &json!([])), "{done}");
    assert_eq!(content(demo, &place("copy", "app.yaml")).await, (200, "a: 2\n".into()));
    assert_eq!(content(demo, &place("copy", "large3.txt")).await, (200, noise(3)));
    assert_eq!(content(demo, &place("copy", "later.json")).await.0, 404, "what was not released is not released");
    let later = demo.get("/api/v1/mgt/demo/configs?app=store&env=copy&name=later.json").await.unwrap().json();
    let later = &later["configs"][0];
    assert_eq!((&later["tags"], &later["description"]), (&json!(["web"]), &json!("not yet")), "{later}");
    assert_eq!(later["latest_version"], 1);

    // Again: nothing. After a change: that one only, and it is taken back.
    let before = revision(demo).await;
    let again = import(demo, archive.clone(), "?env=copy").await.expect(&[200]).unwrap().json();
    assert_eq!(again["unchanged"].as_array().unwrap().len(), ALL, "{again}");
    assert_eq!(revision(demo).await, before, "the same archive makes no revision");
    put(demo, &place("copy", "app.yaml"), "a: 3\n").await;
    let mended = import(demo, archive, "?env=copy").await.expect(&[200]).unwrap().json();
    assert_eq!(mended["changed"], json!(["store/copy/app.yaml"]), "{mended}");
    assert_eq!(content(demo, &place("copy", "app.yaml")).await.1, "a: 2\n");
}

async fn revision(demo: &Client) -> String {
    let answer = demo.get("/api/v1/mgt/demo/configs?limit=1").await.unwrap().expect(&[200]).unwrap();
    answer.header("x-conflux-revision").unwrap().to_owned()
}

async fn hostile_archives(demo: &Client) {
    let archive = export(demo, "?app=store&env=dev&prefix=app").await;
    let named = |from: &[u8], to: &[u8]| {
        let mut archive = archive.clone();
        for at in 0..archive.len() - from.len() {
            if archive[at..].starts_with(from) {
                archive[at..at + to.len()].copy_from_slice(to);
            }
        }
        archive
    };
    let escaping = import(demo, named(b"configs/store/dev/", b"configs/../../../x"), "?env=evil").await;
    assert_eq!((escaping.status, escaping.code().as_str()), (400, "INVALID_ARGUMENT"));
    assert!(escaping.text().contains("configs/../../../x"), "the entry is named: {}", escaping.text());
    assert_eq!(import(demo, b"no zip".to_vec(), "").await.status, 400);
    assert_eq!(import(demo, archive[..archive.len() - 9].to_vec(), "").await.status, 400);
    assert_eq!(import(demo, vec![0; (8 << 20) + 1], "").await.status, 413);
    assert_eq!(import(demo, archive, "?dry_rum=true").await.status, 400);
    assert_eq!(content(demo, &place("evil", "app.yaml")).await.0, 404);
}

async fn compare_and_promote(demo: &Client) {
    put(demo, &place("a", "same.yaml"), "x: 1\n").await;
    put(demo, &place("b", "same.yaml"), "x: 1\n").await;
    put(demo, &place("a", "other.yaml"), "x: 1\ny: 2\n").await;
    let there = put(demo, &place("b", "other.yaml"), "x: 1\ny: 1\n").await;
    put(demo, &place("a", "new.yaml"), "n: 1\n").await;
    put(demo, &place("b", "own.yaml"), "o: 1\n").await;
    // A rule for some clients is of the environment that it is in.
    let id = there["config_id"].as_str().unwrap();
    let rules = json!({"rules": [{"version": 1}, {"labels": {"region": "eu"}, "version": 1, "priority": 10}]});
    demo.put_json(&format!("/api/v1/mgt/demo/configs/{id}/releases"), &rules).await.unwrap().expect(&[200]).unwrap();

    let compared =
        demo.get("/api/v1/mgt/demo/compare?app=store&from=a&to=b").await.unwrap().expect(&[200]).unwrap().json();
    let relations: Vec<(&str, &str)> = compared["configs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["relation"].as_str().unwrap()))
        .collect();
    let expected =
        [("new.yaml", "only_in_from"), ("other.yaml", "differs"), ("own.yaml", "only_in_to"), ("same.yaml", "same")];
    assert_eq!(relations, expected, "{compared}");
    let other = &compared["configs"][1];
    assert!(other["diff"].as_str().unwrap().contains("-y: 1\n+y: 2\n"), "{other}");
    let seen = other["to"]["etag"].as_str().unwrap().to_owned();

    let promote = async |more: Value| {
        let mut body = json!({"app": "store", "from": "a", "to": "b"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        demo.post_json("/api/v1/mgt/demo/promote", &body).await.unwrap()
    };
    let dry = promote(json!({"dry_run": true})).await.expect(&[200]).unwrap().json();
    assert_eq!(dry["promoted"].as_array().unwrap().len(), 2, "{dry}");
    assert_eq!(content(demo, &place("b", "new.yaml")).await.0, 404);

    // Somebody is faster: what was compared is not there any more, and nothing at all is done.
    put(demo, &place("b", "other.yaml"), "x: 1\ny: 7\n").await;
    let late = promote(json!({"expected": {"other.yaml": seen, "new.yaml": ""}})).await;
    assert_eq!((late.status, late.code().as_str()), (412, "FAILED_PRECONDITION"), "{}", late.text());
    assert_eq!(content(demo, &place("b", "new.yaml")).await.0, 404, "all or nothing");

    let done = promote(json!({})).await.expect(&[200]).unwrap().json();
    assert!(done["revision"].is_string(), "{done}");
    assert_eq!(content(demo, &place("b", "new.yaml")).await, (200, "n: 1\n".into()));
    assert_eq!(content(demo, &place("b", "other.yaml")).await, (200, "x: 1\ny: 2\n".into()));
    let path = format!("{}?consistency=leader", place("b", "other.yaml").fetch_path());
    let eu = demo.get_with(&path, &[("x-client-label-region", "eu")]).await.unwrap();
    assert_eq!(eu.text(), "x: 1\ny: 1\n", "rules with labels stay");
    assert_eq!(content(demo, &place("b", "own.yaml")).await, (200, "o: 1\n".into()), "what is only there stays");
    let again = promote(json!({})).await.expect(&[200]).unwrap().json();
    assert_eq!((&again["promoted"], again.get("revision")), (&json!([]), None), "{again}");
}

async fn grants(federation: &Federation) {
    // Who may only read must neither import nor promote.
    let reader = federation
        .operator()
        .post_json("/api/v1/admin/keys", &json!({"tenant": "demo", "roles": ["reader"]}))
        .await
        .unwrap()
        .expect(&[201])
        .unwrap();
    let reader = federation.client(reader.json()["key"].as_str().unwrap());
    conflux_tests::until("the key is known", std::time::Duration::from_secs(20), || async {
        (reader.get("/api/v1/mgt/demo/configs").await.ok()?.status == 200).then_some(())
    })
    .await;
    let archive = export(&reader, "?app=store&env=a").await;
    assert_eq!(import(&reader, archive, "?env=mine").await.status, 403);
    let body = json!({"app": "store", "from": "dev", "to": "b"});
    assert_eq!(reader.post_json("/api/v1/mgt/demo/promote", &body).await.unwrap().status, 403);
}
