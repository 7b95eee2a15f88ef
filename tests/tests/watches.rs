//! Watches over three transports deliver each revision once and in order, across leader and gateway trouble.

use std::time::Duration;

use conflux_tests::{
    Federation, Shape,
    client::Place,
    load::Writers,
    until,
    watch::{Transport, Watcher},
};

fn mark(answer: &serde_json::Value) -> (String, u64) {
    let text = answer["revision"].as_str().unwrap();
    let (incarnation, revision) = text.split_once('.').unwrap();
    (incarnation.to_owned(), revision.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_revision_is_seen_once_and_in_order_across_a_leader_kill() {
    let mut federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let demo = federation.demo();
    let ca = federation.description.gateways[0].ca_file.clone();
    let place = Place::new("demo", "watched", "test", "first.json");
    let first = demo.put(&place, "{}").await.unwrap().expect(&[201]).unwrap();
    let (incarnation, start) = mark(&first.json());
    let from = format!("{incarnation}.{start}");
    let mut watchers = Vec::new();
    for transport in Transport::ALL {
        watchers.push(Watcher::start(&demo, &ca, "demo", transport, &from).await);
    }
    let load = Writers::start(&demo, "demo", "w", 4, 512);
    for _ in 0..2 {
        let before = load.count();
        until("the load runs", Duration::from_secs(30), || async { (load.count() > before + 50).then_some(()) }).await;
        let leader = federation.leader("shard-a").await.member;
        federation.kill(&leader).await;
        let before = load.count();
        until("writes resume", Duration::from_secs(30), || async { (load.count() > before + 50).then_some(()) }).await;
        federation.restart(&leader);
    }
    load.finish().await;
    let last = demo.put(&place, "{\"last\": true}").await.unwrap().expect(&[200]).unwrap();
    let (_, end) = mark(&last.json());

    // One that starts late replays history from the same point.
    watchers.push(Watcher::start(&demo, &ca, "demo", Transport::Sse, &from).await);
    for watcher in &watchers {
        until("the watcher has seen the last", Duration::from_secs(30), || async {
            watcher.seen().last().is_some_and(|s| s.revision >= end).then_some(())
        })
        .await;
        let revisions: Vec<u64> = watcher.seen().iter().map(|s| s.revision).collect();
        let wanted: Vec<u64> = (start + 1..=end).collect();
        assert_eq!(revisions, wanted, "{:?}, resumed {} times", watcher.transport, watcher.resumed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_restarts_says_so_and_no_revision_is_lost() {
    let mut federation = Federation::start(Shape { replicas: 1, ..Shape::ONE_GROUP }).await.unwrap();
    let demo = federation.demo();
    let ca = federation.description.gateways[0].ca_file.clone();
    let place = Place::new("demo", "watched", "test", "first.json");
    let first = demo.put(&place, "{}").await.unwrap().expect(&[201]).unwrap();
    let (incarnation, start) = mark(&first.json());
    let mut watchers = Vec::new();
    for transport in Transport::ALL {
        watchers.push(Watcher::start(&demo, &ca, "demo", transport, &format!("{incarnation}.{start}")).await);
    }
    let load = Writers::start(&demo, "demo", "w", 2, 512);
    until("the load runs", Duration::from_secs(30), || async { (load.count() > 20).then_some(()) }).await;
    federation.restart_gateway(0).await;
    let before = load.count();
    until("writes resume", Duration::from_secs(30), || async { (load.count() > before + 20).then_some(()) }).await;
    load.finish().await;
    let last = demo.put(&place, "{\"last\": true}").await.unwrap().expect(&[200]).unwrap();
    let (_, end) = mark(&last.json());
    for watcher in &watchers {
        until("the watcher has seen the last", Duration::from_secs(30), || async {
            watcher.seen().last().is_some_and(|s| s.revision >= end).then_some(())
        })
        .await;
        let revisions: Vec<u64> = watcher.seen().iter().map(|s| s.revision).collect();
        assert_eq!(revisions, (start + 1..=end).collect::<Vec<u64>>(), "{:?}", watcher.transport);
        let hints = match watcher.transport {
            Transport::Sse => ["retry: ", "UNAVAILABLE"],
            Transport::WebSocket => ["Restart", "shutting down"],
            // The token is in the details of the error.
            Transport::Grpc => ["shutting down", "resume"],
        };
        let said = watcher.ends().into_iter().next().expect("the stream ended");
        assert!(hints.iter().all(|hint| said.contains(hint)), "{:?}: {said}", watcher.transport);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_by_label_speaks_only_when_its_version_changes() {
    let federation = Federation::start(Shape { replicas: 1, ..Shape::ONE_GROUP }).await.unwrap();
    let demo = federation.demo();
    let place = Place::new("demo", "labelled", "test", "f.json");
    let put = demo.put(&place, "{\"v\":1}").await.unwrap().expect(&[201]).unwrap().json();
    let id = put["config_id"].as_str().unwrap();
    let path = "/api/v1/watch/demo?app=labelled&env=test&name=f.json&label.region=eu";
    let from = put["revision"].as_str().unwrap();
    let response = demo.request(reqwest::Method::GET, &format!("{path}&from={from}")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    demo.post_json(&format!("/api/v1/mgt/demo/configs/{id}/versions"), &serde_json::json!({"content": "{\"v\":2}"}))
        .await
        .unwrap()
        .expect(&[201])
        .unwrap();
    let release = |region: &str, version: u64| {
        serde_json::json!({"rules": [{"version": 1},
            {"labels": {"region": region}, "version": version, "priority": 5}]})
    };
    let releases = format!("/api/v1/mgt/demo/configs/{id}/releases");
    demo.put_json(&releases, &release("us", 2)).await.unwrap().expect(&[200]).unwrap();
    let wanted = demo.put_json(&releases, &release("eu", 2)).await.unwrap().expect(&[200]).unwrap().json();
    let (_, wanted) = mark(&wanted);

    // The first event on the stream is the one release that changes what `region=eu` resolves to.
    use futures::StreamExt;
    let mut body = response.bytes_stream();
    let mut text = String::new();
    let first = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
            let event = text.lines().filter_map(|l| l.strip_prefix("data:")).find_map(|d| {
                let frame: serde_json::Value = serde_json::from_str(d).ok()?;
                frame["events"].as_array()?.first().cloned()
            });
            if let Some(event) = event {
                return event;
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(first["revision"].as_u64().unwrap(), wanted, "{first}");
    assert_eq!(first["type"], "released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_its_watch() {
    let federation = Federation::start(Shape { replicas: 1, ..Shape::ONE_GROUP }).await.unwrap();
    let operator = federation.operator();
    let body = serde_json::json!({"tenant": "demo", "roles": ["reader"]});
    let key = operator.post_json("/api/v1/admin/keys", &body).await.unwrap().expect(&[201]).unwrap().json();
    let reader = federation.client(key["key"].as_str().unwrap());
    until("the key works", Duration::from_secs(10), || async {
        (reader.get("/api/v1/mgt/demo/configs").await.ok()?.status == 200).then_some(())
    })
    .await;
    let response = reader.request(reqwest::Method::GET, "/api/v1/watch/demo").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let id = key["id"].as_str().unwrap();
    operator.delete(&format!("/api/v1/admin/keys/{id}")).await.unwrap().expect(&[200, 204]).unwrap();
    // The stream ends by itself; without the revocation it would go on for ever.
    use futures::StreamExt;
    let mut body = response.bytes_stream();
    tokio::time::timeout(Duration::from_secs(10), async { while let Some(Ok(_)) = body.next().await {} })
        .await
        .expect("the watch ends");
    assert_eq!(reader.get("/api/v1/mgt/demo/configs").await.unwrap().status, 401);
}
