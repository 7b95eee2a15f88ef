//! What users do with versions, through the gateway: canary, blue/green, one node, rollback, changesets; every replica gives a client the
//! same answer; and a canary that becomes the default by itself does so once, though the leader is killed before.

use std::{collections::BTreeMap, time::Duration};

use conflux_tests::{
    Federation, Shape,
    client::{Answer, Client, Place},
    replica, until,
    watch::{Transport, Watcher},
};
use serde_json::{Value, json};

/// A config with two versions, of which the first is the default.
struct Subject {
    demo: Client,
    place: Place,
    id: String,
    path: String,
}

impl Subject {
    async fn new(demo: &Client, name: &str) -> Self {
        let place = Place::new("demo", "shop", "prod", name);
        let put = demo.put(&place, "{\"v\":1}").await.unwrap().expect(&[201]).unwrap().json();
        let id = put["config_id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/mgt/demo/configs/{id}");
        Self { demo: demo.clone(), place, id, path }
    }

    async fn publish(&self, body: &Value) -> Value {
        let path = format!("{}/publish", self.path);
        self.demo.post_json(&path, body).await.unwrap().expect(&[200]).unwrap().json()
    }

    /// The version that a client with this label is served.
    async fn version_for(&self, label: Option<(&str, &str)>) -> u64 {
        let header = label.map(|(name, value)| (format!("x-client-label-{name}"), value));
        let headers: Vec<(&str, &str)> = header.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let path = format!("{}?consistency=leader", self.place.fetch_path());
        let answer = self.demo.get_with(&path, &headers).await.unwrap().expect(&[200]).unwrap();
        answer.header("x-config-version").unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_released_to_whom_they_are_meant_for() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let demo = federation.demo();

    // First, since a minute must pass: a canary that becomes the default by itself.
    let promised = Subject::new(&demo, "promised.json").await;
    let canary = json!({
        "content": "{\"v\":2}", "make_default_after_mins": 1,
        "strategy": {"type": "canary", "percentage": {"basis_points": 1000, "sticky_label": "client"}},
    });
    let made = promised.publish(&canary).await;
    let promotion = demo.get(&format!("{}/promotion", promised.path)).await.unwrap().expect(&[200]).unwrap().json();
    assert_eq!((&promotion["version"], &promotion["due_ms"]), (&json!(2), &made["promotion_due_ms"]));
    let ca = federation.description.gateways[0].ca_file.clone();
    let from = made["revision"].as_str().unwrap();
    let watcher = Watcher::start(&demo, &ca, "demo", Transport::Sse, from).await;

    // The new leader must know of it, not the one that took the publish.
    let leader = federation.leader("shard-a").await.member;
    federation.kill(&leader).await;

    a_canary_holds_its_share_and_grows(&demo, &federation).await;
    blue_and_green_and_one_node(&demo).await;
    a_changeset_is_all_or_nothing(&demo).await;

    until("the canary has become the default", Duration::from_secs(150), || async {
        watcher.seen().iter().any(|s| s.name == "promised.json").then_some(())
    })
    .await;
    assert_eq!(promised.version_for(None).await, 2);
    let config = demo.get(&promised.path).await.unwrap().expect(&[200]).unwrap().json();
    assert_eq!(
        (&config["releases"], &config["promotion"]),
        (&json!([{"labels": {}, "version": 2, "priority": 0}]), &Value::Null)
    );

    // Once: neither the member that comes back nor another leader does it again.
    federation.restart(&leader);
    let next = federation.leader("shard-a").await.member;
    federation.kill(&next).await;
    let last = demo.put(&Place::new("demo", "shop", "prod", "last.json"), "{}").await.unwrap().expect(&[201]).unwrap();
    let last: u64 = last.json()["revision"].as_str().unwrap().split_once('.').unwrap().1.parse().unwrap();
    until("the watcher has seen the last", Duration::from_secs(30), || async {
        watcher.seen().iter().any(|s| s.revision >= last).then_some(())
    })
    .await;
    let seen = watcher.seen();
    let promotions: Vec<&str> = seen.iter().filter(|s| s.name == "promised.json").map(|s| s.kind.as_str()).collect();
    assert_eq!(promotions, ["released"]);
    let record = demo.get("/api/v1/mgt/demo/audit?name=promised.json").await.unwrap().expect(&[200]).unwrap().json();
    assert!(record.to_string().contains("shard:upkeep"), "{record}");
    federation.restart(&next);
}

/// A tenth of the clients, then a fifth: nobody falls out, and every replica says the same of each client.
async fn a_canary_holds_its_share_and_grows(demo: &Client, federation: &Federation) {
    let subject = Subject::new(demo, "canary.json").await;
    let release = |basis_points: u32| json!({"content": "{\"v\":2}", "strategy": {"type": "canary", "percentage": {"basis_points": basis_points}}});
    let mut before: BTreeMap<String, u64> = BTreeMap::new();
    for (share, expected) in [(1_000, 15..=75), (2_000, 45..=125)] {
        let made = subject.publish(&release(share)).await;
        assert_eq!(made["version"], 2, "a wider share of the same content is no other version");
        let mut now = BTreeMap::new();
        for i in 0..400 {
            let client = format!("c{i}");
            now.insert(client.clone(), subject.version_for(Some(("client", &client))).await);
        }
        let inside = now.values().filter(|version| **version == 2).count();
        assert!(expected.contains(&inside), "{inside} of 400 at {share} basis points");
        assert!(before.iter().all(|(client, version)| *version == 1 || now[client] == 2), "somebody fell out");
        before = now;
        let revision = made["revision"].as_str().unwrap();
        let asked: Vec<&String> = before.keys().take(50).collect();
        for (member, versions) in
            replica::versions_on_each(federation, "shard-a", "demo", &subject.place, revision, &asked).await
        {
            for (client, version) in asked.iter().zip(versions) {
                assert_eq!(version, before[*client], "{client} on {member}");
            }
        }
    }
    assert_eq!(subject.version_for(None).await, 1, "a client without the label is out");
    let resolved =
        demo.get(&format!("{}/resolve?label.client=c0", subject.path)).await.unwrap().expect(&[200]).unwrap();
    assert_eq!(resolved.json()["version"].as_u64().unwrap(), before["c0"]);
}

/// Two sides and one machine, a switch of sides, and the way back.
async fn blue_and_green_and_one_node(demo: &Client) {
    let subject = Subject::new(demo, "sides.json").await;
    let to = |kind: &str, label: &str, value: &str| json!({"type": kind, "labels": {label: value}});
    subject.publish(&json!({"content": "{\"v\":2}", "strategy": to("blue_green", "slot", "green")})).await;
    assert_eq!(subject.version_for(Some(("slot", "green"))).await, 2);
    assert_eq!(subject.version_for(Some(("slot", "blue"))).await, 1);
    subject.publish(&json!({"content": "{\"v\":3}", "strategy": to("targeted", "hostname", "web-3")})).await;
    assert_eq!(subject.version_for(Some(("hostname", "web-3"))).await, 3);
    assert_eq!(subject.version_for(Some(("slot", "green"))).await, 2);
    let everybody = json!({"version": 2, "strategy": {"type": "all"}});
    subject.publish(&everybody).await;
    assert_eq!(subject.version_for(Some(("hostname", "web-3"))).await, 2);
    let back = demo.post_json(&format!("{}/rollback", subject.path), &json!({})).await.unwrap().expect(&[200]).unwrap();
    assert_eq!(back.json()["version"], 1);
    assert_eq!(subject.version_for(None).await, 1);
}

async fn a_changeset_is_all_or_nothing(demo: &Client) {
    let (one, two) = (Subject::new(demo, "one.json").await, Subject::new(demo, "two.json").await);
    let send = async |changes: Value| -> Answer {
        let body = json!({"description": "both", "changes": changes});
        demo.post_json("/api/v1/mgt/demo/changesets", &body).await.unwrap()
    };
    let publish =
        |subject: &Subject| json!({"publish": {"id": subject.id, "content": "{\"v\":2}", "strategy": {"type": "all"}}});
    let refused = send(json!([publish(&one), {"rollback": {"id": two.id}}])).await;
    assert_eq!((refused.status, refused.code().as_str()), (412, "FAILED_PRECONDITION"), "{}", refused.text());
    assert_eq!(refused.json()["error"]["details"][0]["field"], "changes[1].version");
    assert_eq!((one.version_for(None).await, two.version_for(None).await), (1, 1));

    // As large as an entry of the log holds: several contents, beyond the bound of other calls.
    let mut changes = vec![publish(&one), publish(&two)];
    for i in 0..20 {
        let content = format!("{{\"n\":{i},\"text\":\"{}\"}}", "x".repeat(99_000));
        changes.push(
            json!({"put": {"app": "shop", "env": "prod", "name": format!("large-{i}.json"), "content": content}}),
        );
    }
    let done = send(Value::Array(changes)).await.expect(&[200]).unwrap().json();
    assert_eq!(done["results"].as_array().unwrap().len(), 22);
    assert!(done["results"].as_array().unwrap().iter().all(|r| r["revision"] == done["revision"]));
    assert_eq!((one.version_for(None).await, two.version_for(None).await), (2, 2));
}
