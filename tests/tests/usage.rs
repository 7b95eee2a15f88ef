//! What clients fetch is known to those who manage: what is used, by how many, and whom a release would reach.

use std::time::Duration;

use conflux_tests::{Client, Federation, Shape, client::Place, until};
use serde_json::{Value, json};

const IMPACT: &str = "/api/v1/mgt/demo/configs";

#[tokio::test(flavor = "multi_thread")]
async fn fetches_are_known_to_reports_on_use_and_impact() {
    let mut federation = Federation::start_with(Shape::ONE_GROUP, &["gateway:use_report_s=1"]).await.unwrap();
    let demo = federation.demo();
    let place = Place::new("demo", "seen", "prod", "app.yaml");
    let put = demo.put(&place, "a: 1\n").await.unwrap().expect(&[201]).unwrap().json();
    let id = put["config_id"].as_str().unwrap().to_owned();
    demo.put(&Place::new("demo", "seen", "prod", "idle.yaml"), "a: 1\n").await.unwrap().expect(&[201]).unwrap();

    for region in ["eu", "us"] {
        let labels = [("x-client-label-region", region)];
        for _ in 0..3 {
            let path = format!("{}?min_revision={}", place.fetch_path(), put["revision"].as_str().unwrap());
            demo.get_with(&path, &labels).await.unwrap().expect(&[200]).unwrap();
        }
    }
    // One who has it already is a client too; one who is told that there is nothing is none.
    let etag = demo.fetch(&place, "").await.unwrap().header("etag").unwrap().to_owned();
    let again = demo.get_with(&place.fetch_path(), &[("if-none-match", &etag)]).await.unwrap();
    assert_eq!(again.status, 304);
    let nothing = Place { name: "nothing.yaml".into(), ..place.clone() };
    assert_eq!(demo.fetch(&nothing, "").await.unwrap().status, 404);

    let used = known(&demo, "app.yaml", 8).await;
    assert_eq!((used["fetches"].as_u64(), used["clients"].as_u64()), (Some(8), Some(3)), "{used}");
    assert!(used["last_fetched_ago_ms"].as_u64().is_some_and(|ago| ago < 60_000), "{used}");

    // Nobody has fetched the other one: it is the unused one.
    let unused =
        demo.get("/api/v1/mgt/demo/usage/unused?days=0&app=seen").await.unwrap().expect(&[200]).unwrap().json();
    let names: Vec<&str> = unused["configs"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["idle.yaml"], "{unused}");
    // Younger than thirty days: nothing is said of it yet.
    let old = demo.get("/api/v1/mgt/demo/usage/unused?app=seen").await.unwrap().expect(&[200]).unwrap().json();
    assert_eq!(old["configs"], json!([]));

    impact(&demo, &id).await;

    // A new leader knows what the old one knew: every member was told.
    let leader = federation.leader("shard-a").await.member;
    federation.kill(&leader).await;
    let after = known(&demo, "app.yaml", 8).await;
    assert_eq!(after["clients"].as_u64(), Some(3), "{after}");

    // A whole environment read at once is a use of each config in it.
    demo.get("/api/v1/fetch/configs/demo/seen/prod").await.unwrap().expect(&[200]).unwrap();
    known(&demo, "idle.yaml", 1).await;
}

async fn impact(demo: &Client, id: &str) {
    let ask = async |body: Value| demo.post_json(&format!("{IMPACT}/{id}/impact"), &body).await.unwrap();
    let body = json!({"content": "a: 2\n", "strategy": {"type": "targeted", "labels": {"region": "eu"}}});
    let reach = ask(body).await.expect(&[200]).unwrap().json();
    assert_eq!((reach["changing"].as_u64(), reach["clients_changing"].as_u64()), (Some(1), Some(1)), "{reach}");
    let first = &reach["label_sets"][0];
    assert_eq!((&first["labels"], &first["changes"]), (&json!({"region": "eu"}), &json!(true)), "{reach}");
    assert_eq!((&first["version_now"], &first["version_then"]), (&json!(1), &json!(2)));
    assert_eq!(reach["label_sets"].as_array().unwrap().len(), 3);
    assert!(
        reach["notes"][0].as_str().unwrap().contains("only"),
        "a young federation says how little it knows: {reach}"
    );

    // Rules that would leave everybody with nothing reach everybody.
    let none = ask(json!({"rules": []})).await.expect(&[200]).unwrap().json();
    assert_eq!(none["clients_changing"].as_u64(), Some(3), "{none}");
    assert!(none["label_sets"][0].get("version_then").is_none(), "{none}");

    // What could not be released has no impact either; and nothing was written by asking.
    assert_eq!(ask(json!({"rules": [{"version": 9}]})).await.status, 400);
    assert_eq!(ask(json!({"strategy": {"type": "canary"}})).await.status, 400);
    assert_eq!(ask(json!({"rules": [], "version": 1})).await.status, 400);
    let config = demo.get(&format!("{IMPACT}/{id}")).await.unwrap().expect(&[200]).unwrap().json();
    assert_eq!(config["latest_version"], 1);
}

/// What is known of this config once so many fetches are.
async fn known(demo: &Client, name: &str, fetches: u64) -> Value {
    until("the fetches are known to the leader", Duration::from_secs(40), || async {
        let answer = demo.get("/api/v1/mgt/demo/usage?app=seen").await.ok()?.expect(&[200]).ok()?.json();
        let found = answer["configs"].as_array()?.iter().find(|c| c["name"] == name)?.clone();
        (found["fetches"].as_u64()? >= fetches).then_some(found)
    })
    .await
}
