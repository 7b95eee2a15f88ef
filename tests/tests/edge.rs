//! Stale fetches that the gateway answers from its own release sets: as a shard would, within the bound, and not a moment longer.

use std::time::{Duration, Instant};

use conflux_tests::{
    Federation, Shape,
    client::{Answer, Client, Place},
    until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

/// Two shard groups; one placement member.
const TWO_GROUPS: Shape = Shape { placement: 1, ..Shape::FULL };

/// Fetches that the first gateway has answered by itself.
async fn hits(federation: &Federation) -> u64 {
    let url = format!("{}/metrics", federation.description.gateways[0].metrics_url);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|l| l.starts_with("conflux_gateway_edge_hits_total"));
    line.and_then(|l| l.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Fetches until the gateway answers by itself; that answer.
async fn from_edge(federation: &Federation, client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    until("the gateway answers by itself", Duration::from_secs(30), || async {
        let before = hits(federation).await;
        let answer = client.get_with(path, headers).await.ok()?;
        (hits(federation).await > before).then_some(answer)
    })
    .await
}

/// Status, body and all headers that do not differ from request to request.
fn shown(answer: &Answer) -> (u16, Vec<u8>, Vec<(String, String)>) {
    let own = ["x-request-id", "x-conflux-age-ms", "date"];
    let headers = answer.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let mut headers: Vec<_> = headers.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    headers.sort();
    (answer.status, answer.body.to_vec(), headers)
}

fn revision_of(answer: &Answer) -> (u64, u64) {
    let text = answer.header("x-conflux-revision").expect("a revision");
    let (incarnation, revision) = text.split_once('.').expect("two numbers");
    (incarnation.parse().unwrap(), revision.parse().unwrap())
}

fn age_of(answer: &Answer) -> Duration {
    Duration::from_millis(answer.header("x-conflux-age-ms").expect("an age").parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_answers_is_what_a_shard_would() {
    // The bound is wide, so that a busy machine does not send to the shard what is meant to be answered here.
    let settings = ["gateway:edge.max_age_ms=5000", "gateway:use_report_s=1"];
    let federation = Federation::start_with(Shape::ONE_GROUP, &settings).await.unwrap();
    let demo = federation.demo();
    same_answers(&federation, &demo).await;
    own_writes_are_seen(&federation, &demo).await;
    grants_and_revocation(&federation).await;
    fetches_are_counted(&federation, &demo).await;
}

/// Labels, shares, ETags: every answer of the gateway is compared with the leader's.
async fn same_answers(federation: &Federation, demo: &Client) {
    let place = Place::new("demo", "shop", "prod", "flags.json");
    let put = demo.put(&place, "{\"v\":1}").await.unwrap().expect(&[201]).unwrap().json();
    let id = put["config_id"].as_str().unwrap();
    let versions = format!("/api/v1/mgt/demo/configs/{id}/versions");
    for v in 2..=3 {
        let content = json!({ "content": format!("{{\"v\":{v}}}") });
        demo.post_json(&versions, &content).await.unwrap().expect(&[201]).unwrap();
    }
    let rules = json!({ "rules": [
        { "version": 1 },
        { "labels": { "region": "eu" }, "version": 2, "priority": 10 },
        { "version": 3, "priority": 5, "percentage": { "basis_points": 6000, "sticky_label": "client" } },
    ]});
    demo.put_json(&format!("/api/v1/mgt/demo/configs/{id}/releases"), &rules).await.unwrap().expect(&[200]).unwrap();

    let path = place.fetch_path();
    let asked = format!("{path}?consistency=leader");
    let mut contents = std::collections::BTreeSet::new();
    for n in 0..12 {
        let client = format!("c{n}");
        let mut labels = vec![("x-client-label-client", client.as_str())];
        labels.extend((n % 3 == 0).then_some(("x-client-label-region", "eu")));
        let shard = demo.get_with(&asked, &labels).await.unwrap().expect(&[200]).unwrap();
        let edge = from_edge(federation, demo, &path, &labels).await;
        assert_eq!(shown(&edge), shown(&shard), "{labels:?}");
        contents.insert(edge.text());

        let etag = shard.header("etag").unwrap();
        for known in [etag.to_owned(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".into()] {
            let headers: Vec<_> = labels.iter().copied().chain([("if-none-match", known.as_str())]).collect();
            let edge = from_edge(federation, demo, &path, &headers).await;
            let shard = demo.get_with(&asked, &headers).await.unwrap();
            assert_eq!(shard.status, 304);
            assert_eq!(shown(&edge), shown(&shard), "{headers:?}");
        }
        let headers: Vec<_> = labels.iter().copied().chain([("if-none-match", "\"other\"")]).collect();
        assert_eq!(from_edge(federation, demo, &path, &headers).await.status, 200);
    }
    assert_eq!(contents.len(), 3, "each of the three rules has served somebody: {contents:?}");

    // What is refused, missing or asked otherwise is answered as it was.
    let twice = [("x-client-label-a", "1"), ("x-client-label-a", "2")];
    assert_eq!(demo.get_with(&path, &twice).await.unwrap().status, 400);
    assert_eq!(demo.get(&format!("{path}?other=1")).await.unwrap().status, 400);
    assert_eq!(demo.get(&format!("{path}?min_revision=9.1")).await.unwrap().status, 412);
    assert_eq!(demo.fetch(&Place { name: "none".into(), ..place.clone() }, "").await.unwrap().status, 404);
    let head = demo.send(demo.request(reqwest::Method::HEAD, &path)).await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));

    // Deleted: gone here too, as soon as anybody can know.
    let deleted = demo.delete(&format!("/api/v1/mgt/demo/configs/{id}")).await.unwrap().expect(&[200, 204]).unwrap();
    let revision = deleted.header("x-conflux-revision").unwrap();
    let after = demo.get(&format!("{path}?min_revision={revision}")).await.unwrap();
    assert_eq!(after.status, 404, "{revision}: {}", after.text());
}

/// Who names the revision of its write is served that write or a later one, however often and fast it asks.
async fn own_writes_are_seen(federation: &Federation, demo: &Client) {
    let place = Place::new("demo", "shop", "prod", "often.txt");
    let before = hits(federation).await;
    for n in 0..150 {
        let put = demo.put(&place, format!("{n}")).await.unwrap().expect(&[200, 201]).unwrap().json();
        let revision = put["revision"].as_str().unwrap();
        for _ in 0..4 {
            let answer = demo.fetch(&place, &format!("?min_revision={revision}")).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, n.to_string()), "after {revision}");
            let own = revision.split_once('.').unwrap().1.parse::<u64>().unwrap();
            assert!(revision_of(&answer).1 >= own);
        }
    }
    // And without a write in between the gateway answers them.
    from_edge(federation, demo, &place.fetch_path(), &[]).await;
    assert!(hits(federation).await > before);
}

/// What is held for one is not given to another, and a revoked key gets nothing of it any more.
async fn grants_and_revocation(federation: &Federation) {
    let demo = federation.demo();
    let place = Place::new("demo", "shop", "prod", "secret.txt");
    demo.put(&place, "s").await.unwrap().expect(&[201]).unwrap();
    let operator = federation.operator();
    let body = json!({ "tenant": "demo", "roles": ["reader"] });
    let made = operator.post_json("/api/v1/admin/keys", &body).await.unwrap().expect(&[201]).unwrap().json();
    let reader = federation.client(made["key"].as_str().unwrap());
    until("the key is known", Duration::from_secs(20), || async {
        (reader.fetch(&place, "").await.ok()?.status == 200).then_some(())
    })
    .await;
    from_edge(federation, &reader, &place.fetch_path(), &[]).await;

    let role = json!({ "tenant": "demo", "name": "bank", "grants": [{ "action": "read", "pattern": "bank/*/*" }] });
    operator.post_json("/api/v1/admin/roles", &role).await.unwrap().expect(&[200, 201]).unwrap();
    let body = json!({ "tenant": "demo", "roles": ["bank"] });
    let made_other = operator.post_json("/api/v1/admin/keys", &body).await.unwrap().expect(&[201]).unwrap().json();
    let other = federation.client(made_other["key"].as_str().unwrap());
    until("the other key is known", Duration::from_secs(20), || async {
        (other.fetch(&place, "").await.ok()?.status == 404).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(reader.fetch(&place, "").await.unwrap().status, 200);
        assert_eq!(other.fetch(&place, "").await.unwrap().status, 404, "as if it were not there");
    }
    assert_eq!(reader.anonymous().fetch(&place, "").await.unwrap().status, 401);

    let id = made["id"].as_str().unwrap();
    operator.delete(&format!("/api/v1/admin/keys/{id}")).await.unwrap().expect(&[200]).unwrap();
    until("the key is refused", Duration::from_secs(10), || async {
        (reader.fetch(&place, "").await.ok()?.status == 401).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(reader.fetch(&place, "").await.unwrap().status, 401);
    }
}

/// Reports on use count what never reached a shard.
async fn fetches_are_counted(federation: &Federation, demo: &Client) {
    let place = Place::new("demo", "counted", "prod", "a.txt");
    demo.put(&place, "a").await.unwrap().expect(&[201]).unwrap();
    from_edge(federation, demo, &place.fetch_path(), &[]).await;
    let used = || async {
        let answer = demo.get("/api/v1/mgt/demo/usage?app=counted").await.ok()?.expect(&[200]).ok()?.json();
        answer["configs"].as_array()?.first()?["fetches"].as_u64()
    };
    let before = until("the first fetches are known", Duration::from_secs(30), used).await;
    let held = hits(federation).await;
    for _ in 0..100 {
        demo.fetch(&place, "").await.unwrap().expect(&[200]).unwrap();
    }
    assert!(hits(federation).await > held);
    until("all fetches are known", Duration::from_secs(30), || async {
        used().await.filter(|now| *now >= before + 100)
    })
    .await;
}

fn signal_shards(federation: &Federation, signal: Signal) {
    for member in federation.members("shard-a") {
        kill(Pid::from_raw(member.pid), signal).expect("a running process");
    }
}

/// Fetches with little patience: a shard that does not answer must not hold the test up.
async fn fetch_soon(client: &Client, place: &Place) -> Answer {
    client.get_with(&place.fetch_path(), &[("grpc-timeout", "300m")]).await.unwrap()
}

/// With the shard's processes stopped nobody can vouch for a set any more: it is not answered from beyond the bound.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_beyond_the_bound() {
    let federation = Federation::start_with(Shape::ONE_GROUP, &["gateway:edge.max_age_ms=2000"]).await.unwrap();
    let demo = federation.demo();
    let place = Place::new("demo", "shop", "prod", "a.txt");
    demo.put(&place, "a").await.unwrap().expect(&[201]).unwrap();
    from_edge(&federation, &demo, &place.fetch_path(), &[]).await;

    signal_shards(&federation, Signal::SIGSTOP);
    let stopped = Instant::now();
    let mut served = 0;
    let refused = loop {
        let asked = Instant::now();
        let answer = fetch_soon(&demo, &place).await;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(age_of(&answer) < Duration::from_secs(2), "{answer:?}");
        // The truth of the age: nobody could vouch for anything after the stop.
        assert!(age_of(&answer) >= asked.saturating_duration_since(stopped), "it says {:?}", age_of(&answer));
        assert!(answer.header("x-conflux-stale").is_none());
    };
    assert!(served > 0, "within the bound the gateway goes on alone");
    assert!(matches!(refused.status, 503 | 504), "{refused:?}");
    for _ in 0..5 {
        assert!(matches!(fetch_soon(&demo, &place).await.status, 503 | 504));
    }
    signal_shards(&federation, Signal::SIGCONT);
    until("it is served again", Duration::from_secs(60), || async {
        (demo.fetch(&place, "").await.ok()?.status == 200).then_some(())
    })
    .await;
    from_edge(&federation, &demo, &place.fetch_path(), &[]).await;
}

/// Where the operator prefers an old answer to none, it is given, and says how old it is.
#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_old_answers_are_marked() {
    let settings = ["gateway:edge.serve_stale_on_outage=true", "gateway:use_report_s=1"];
    let federation = Federation::start_with(Shape::ONE_GROUP, &settings).await.unwrap();
    let demo = federation.demo();
    let place = Place::new("demo", "shop", "prod", "a.txt");
    let put = demo.put(&place, "a").await.unwrap().expect(&[201]).unwrap().json();
    let whole = from_edge(&federation, &demo, &place.fetch_path(), &[]).await;

    signal_shards(&federation, Signal::SIGSTOP);
    let stopped = Instant::now();
    let marked = until("an answer is marked", Duration::from_secs(30), || async {
        let asked = Instant::now();
        let answer = demo.fetch(&place, "").await.ok()?;
        assert_eq!((answer.status, &answer.body), (200, &whole.body));
        assert!(age_of(&answer) >= asked.saturating_duration_since(stopped), "it says {:?}", age_of(&answer));
        (answer.header("x-conflux-stale") == Some("outage")).then_some(answer)
    })
    .await;
    assert!(age_of(&marked) >= Duration::from_secs(1), "{marked:?}");
    assert_eq!(marked.header("etag"), whole.header("etag"));
    for _ in 0..20 {
        let answer = demo.fetch(&place, "").await.unwrap();
        assert_eq!((answer.status, answer.header("x-conflux-stale")), (200, Some("outage")));
    }
    // What the client has seen beyond it is not forgotten, and a strong read is not weakened.
    let seen: (&str, u64) =
        put["revision"].as_str().unwrap().split_once('.').map(|(i, r)| (i, r.parse().unwrap())).unwrap();
    let later = format!("{}?min_revision={}.{}", place.fetch_path(), seen.0, seen.1 + 1);
    let patience = [("grpc-timeout", "300m")];
    assert!(matches!(demo.get_with(&later, &patience).await.unwrap().status, 503 | 504));
    let strong = format!("{}?consistency=linearizable", place.fetch_path());
    assert!(matches!(demo.get_with(&strong, &patience).await.unwrap().status, 503 | 504));

    signal_shards(&federation, Signal::SIGCONT);
    until("it is current again", Duration::from_secs(60), || async {
        let answer = demo.fetch(&place, "").await.ok()?;
        (answer.status == 200 && answer.header("x-conflux-stale").is_none()).then_some(())
    })
    .await;
}

/// While its tenant moves from shard to shard, a reader never goes back behind what it has seen, and sees what is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_never_goes_back_while_its_tenant_moves() {
    let federation = Federation::start(TWO_GROUPS).await.unwrap();
    let demo = federation.demo();
    let place = Place::new("demo", "shop", "prod", "moving.txt");
    demo.put(&place, "0").await.unwrap().expect(&[201]).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..4 {
        let (client, place, stop) = (demo.clone(), place.clone(), stop.clone());
        readers.push(tokio::spawn(async move {
            let (mut seen, mut content, mut reads) = (None::<(u64, u64)>, 0u64, 0u64);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let query = seen.map(|(i, r)| format!("?min_revision={i}.{r}")).unwrap_or_default();
                let answer = client.fetch(&place, &query).await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                let (revision, now) = (revision_of(&answer), answer.text().parse().unwrap());
                assert!(seen.is_none_or(|seen| revision >= seen), "{revision:?} after {seen:?}");
                assert!(now >= content, "{now} after {content}");
                (seen, content, reads) = (Some(revision), now, reads + 1);
            }
            (content, reads)
        }));
    }
    let mut written = 0u64;
    for _ in 0..4 {
        let tenant = federation.operator().get("/api/v1/admin/tenants/demo").await.unwrap().json();
        let to = if tenant["shard"] == "shard-a" { "shard-b" } else { "shard-a" };
        let body = json!({ "tenant": "demo", "to": to });
        let id = until("the move begins", Duration::from_secs(30), || async {
            let answer = federation.operator().post_json("/api/v1/admin/moves", &body).await.ok()?;
            (answer.status == 202).then(|| answer.json()["id"].as_u64())?
        })
        .await;
        loop {
            written += 1;
            let put = demo.put(&place, written.to_string()).await.unwrap().expect(&[200]).unwrap().json();
            let query = format!("?min_revision={}", put["revision"].as_str().unwrap());
            let fetched = demo.fetch(&place, &query).await.unwrap().expect(&[200]).unwrap();
            assert_eq!(fetched.text(), written.to_string());
            let shown = federation.operator().get(&format!("/api/v1/admin/moves/{id}")).await.unwrap().json();
            if matches!(shown["state"].as_str(), Some("done" | "given_up")) {
                break;
            }
        }
        // At its new home the gateway answers again, under the new epoch.
        let edge = from_edge(&federation, &demo, &place.fetch_path(), &[]).await;
        let leader = demo.fetch(&place, "?consistency=leader").await.unwrap();
        assert_eq!(edge.header("x-conflux-epoch"), leader.header("x-conflux-epoch"));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        let (content, reads) = reader.await.unwrap();
        assert!(reads > 0 && content <= written);
    }
}

/// Switched off, nothing is held, and everything works as it did.
#[tokio::test(flavor = "multi_thread")]
async fn without_bytes_every_fetch_goes_to_a_shard() {
    let federation = Federation::start_with(Shape::ONE_GROUP, &["gateway:edge.bytes=0"]).await.unwrap();
    let demo = federation.demo();
    let place = Place::new("demo", "shop", "prod", "a.txt");
    demo.put(&place, "a").await.unwrap().expect(&[201]).unwrap();
    for _ in 0..50 {
        assert_eq!(demo.fetch(&place, "").await.unwrap().text(), "a");
    }
    assert_eq!(hits(&federation).await, 0);
}
