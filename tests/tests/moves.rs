//! Tenants move between shard groups while they are written, read and watched; processes die on the way.

use std::time::Duration;

use conflux_tests::{
    Federation, Shape,
    client::{Client, Place},
    load::{StaleReader, Writers, document, verify},
    until,
    watch::{Transport, Watcher},
};
use serde_json::{Value, json};

/// Two shard groups of three; one placement member.
const TWO_GROUPS: Shape = Shape { placement: 1, ..Shape::FULL };

/// Every place at which a process may die, in the order in which a move passes them.
const FAILPOINTS: [&str; 20] = [
    "shard.before_track",
    "shard.after_track",
    "shard.before_begin_import",
    "shard.after_begin_import",
    "shard.before_import_rows",
    "shard.after_import_rows",
    "move.before_freezing",
    "move.after_freezing",
    "shard.before_freeze",
    "shard.after_freeze",
    "shard.before_seal",
    "shard.after_seal",
    "move.before_committed",
    "move.after_committed",
    "shard.before_take_over",
    "shard.after_take_over",
    "shard.before_depart",
    "shard.after_depart",
    "move.before_done",
    "move.after_done",
];

/// The shard group of a tenant and its epoch.
async fn home(federation: &Federation, tenant: &str) -> (String, u64) {
    let path = format!("/api/v1/admin/tenants/{tenant}");
    let shown = federation.operator().get(&path).await.unwrap().expect(&[200]).unwrap().json();
    (shown["shard"].as_str().unwrap().to_owned(), shown["epoch"].as_u64().unwrap())
}

fn other(shard: &str) -> &'static str {
    if shard == "shard-a" { "shard-b" } else { "shard-a" }
}

async fn begin(federation: &Federation, tenant: &str, to: &str) -> u64 {
    let body = json!({"tenant": tenant, "to": to});
    let answer = until("the move begins", Duration::from_secs(30), || async {
        let answer = federation.operator().post_json("/api/v1/admin/moves", &body).await.ok()?;
        (answer.status == 202).then_some(answer)
    })
    .await;
    answer.json()["id"].as_u64().unwrap_or_else(|| panic!("a move with an id: {}", answer.text()))
}

/// The move once it has ended.
async fn ended(federation: &Federation, id: u64, within: Duration) -> Value {
    until(&format!("move {id} ends"), within, || async {
        let shown = federation.operator().get(&format!("/api/v1/admin/moves/{id}")).await.ok()?.json();
        matches!(shown["state"].as_str(), Some("done" | "given_up")).then_some(shown)
    })
    .await
}

/// A place of its own in each tenant, and the revision after which watchers begin.
async fn first(client: &Client, tenant: &str) -> (String, u64) {
    let put = client.put(&Place::new(tenant, "watched", "test", "first.json"), "{}").await.unwrap();
    let text = put.expect(&[200, 201]).unwrap().json()["revision"].as_str().unwrap().to_owned();
    let revision = text.split_once('.').unwrap().1.parse().unwrap();
    (text, revision)
}

async fn watchers(federation: &Federation, client: &Client, tenant: &str, each: usize, from: &str) -> Vec<Watcher> {
    let ca = &federation.description.gateways[0].ca_file;
    let mut watchers = Vec::new();
    for transport in Transport::ALL {
        for _ in 0..each {
            watchers.push(Watcher::start(client, ca, tenant, transport, from).await);
        }
    }
    watchers
}

/// Each of them has seen every revision up to the present one, once, in order.
async fn all_seen(client: &Client, tenant: &str, watchers: &[Watcher], start: u64) {
    let last = client.put(&Place::new(tenant, "watched", "test", "first.json"), "{\"last\": 1}").await.unwrap();
    let last = last.expect(&[200]).unwrap().json();
    let end: u64 = last["revision"].as_str().unwrap().split_once('.').unwrap().1.parse().unwrap();
    for watcher in watchers {
        until("the watcher has seen the last", Duration::from_secs(60), || async {
            watcher.seen().last().is_some_and(|s| s.revision >= end).then_some(())
        })
        .await;
        let revisions: Vec<u64> = watcher.seen().iter().map(|s| s.revision).collect();
        let wanted: Vec<u64> = (start + 1..=end).collect();
        assert_eq!(revisions, wanted, "{:?}, resumed {} times", watcher.transport, watcher.resumed());
    }
}

/// Moved back and forth under load: no client notices but by a short wait, nothing is lost, no revision is missed or seen twice on
/// streams that stay open.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_while_it_is_used() {
    const MOVES: usize = 6;
    let federation = Federation::start(TWO_GROUPS).await.unwrap();
    let demo = federation.demo();
    federation.raise_quotas("demo").await.unwrap();
    // Something to copy: two mebibytes.
    for n in 0..32 {
        let place = Place::new("demo", "stock", "test", &format!("s{n}.json"));
        demo.put(&place, document(n, 64 << 10)).await.unwrap().expect(&[201]).unwrap();
    }
    let (from, start) = first(&demo, "demo").await;
    let watchers = watchers(&federation, &demo, "demo", 2, &from).await;
    let plain = Writers::start(&demo, "demo", "p", 4, 1024);
    let keyed = Writers::start_keyed(&demo, "demo", "k", (4, 1024), true);
    let large = Writers::start(&demo, "demo", "l", 1, 1 << 19);
    let stale = StaleReader::start(&demo, Place::new("demo", "watched", "test", "first.json"));
    let strong =
        StaleReader::start_at(&demo, Place::new("demo", "watched", "test", "first.json"), "?consistency=linearizable");
    let (mut at, mut pauses) = (home(&federation, "demo").await, Vec::new());
    for _ in 0..MOVES {
        let to = other(&at.0);
        let id = begin(&federation, "demo", to).await;
        let shown = ended(&federation, id, Duration::from_secs(60)).await;
        assert_eq!(shown["state"], "done", "{shown}");
        pauses.push(shown["pause_ms"].as_u64().unwrap());
        let now = home(&federation, "demo").await;
        assert_eq!(now.0, to);
        assert!(now.1 > at.1, "each owner has an epoch of its own");
        at = now;
        let before = plain.count();
        until("writes go on", Duration::from_secs(30), || async { (plain.count() > before + 20).then_some(()) }).await;
    }
    let mut all = Vec::new();
    for writers in [plain, keyed, large] {
        let (acknowledged, refused) = writers.finish().await;
        assert_eq!(refused, Vec::<String>::new(), "no write is refused");
        all.extend(acknowledged);
    }
    for reader in [stale, strong] {
        let (served, refused) = reader.finish().await;
        assert_eq!(refused, Vec::<String>::new(), "no read is refused");
        assert!(served > 0);
    }
    pauses.sort_unstable();
    eprintln!("{} writes over {MOVES} moves; pauses in ms: {pauses:?}", all.len());
    verify(&demo, "demo", &all).await;
    all_seen(&demo, "demo", &watchers, start).await;
    for watcher in &watchers {
        assert_eq!(watcher.resumed(), 0, "{:?} stays on its stream: {:?}", watcher.transport, watcher.ends());
    }
}

/// A process dies at each step: the move ends by itself within half a minute, and nothing is lost or seen twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_ends_by_itself_whoever_dies() {
    let mut federation = Federation::start(TWO_GROUPS).await.unwrap();
    let demo = federation.demo();
    let (from, start) = first(&demo, "demo").await;
    let watchers = watchers(&federation, &demo, "demo", 1, &from).await;
    let load = Writers::start_keyed(&demo, "demo", "w", (2, 512), true);
    let mut outcomes = Vec::new();
    for failpoint in FAILPOINTS {
        let (at, _) = home(&federation, "demo").await;
        federation.arm(failpoint);
        let id = begin(&federation, "demo", other(&at)).await;
        until(&format!("{failpoint} is passed"), Duration::from_secs(30), || async {
            (!federation.is_armed(failpoint)).then_some(())
        })
        .await;
        let dead = until("a process has died", Duration::from_secs(10), || async {
            federation.description.members.iter().any(|m| !conflux_tests::federation::runs(m.pid)).then_some(())
        });
        dead.await;
        let dead = federation.restart_the_dead().await;
        let shown = ended(&federation, id, Duration::from_secs(30)).await;
        outcomes.push(format!("{failpoint}: {dead:?}, {}, {} ms", shown["state"], shown["pause_ms"]));
        let before = load.count();
        until("writes go on", Duration::from_secs(30), || async { (load.count() > before + 5).then_some(()) }).await;
    }
    eprintln!("{}", outcomes.join("\n"));
    let (acknowledged, _) = load.finish().await;
    verify(&demo, "demo", &acknowledged).await;
    all_seen(&demo, "demo", &watchers, start).await;
}

/// Given up by an operator, or because the other shard is not there: the tenant goes on where it was, and can be moved later.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_cannot_be_is_given_up() {
    let mut federation = Federation::start(TWO_GROUPS).await.unwrap();
    let demo = federation.demo();
    let (at, epoch) = home(&federation, "demo").await;
    let to = other(&at);
    let load = Writers::start(&demo, "demo", "w", 2, 512);
    // Two of three members of the destination are gone: no quorum.
    let names: Vec<String> = federation.members(to).into_iter().map(|m| m.member).collect();
    for name in &names[..2] {
        federation.kill(name).await;
    }
    let id = begin(&federation, "demo", to).await;
    let again =
        federation.operator().post_json("/api/v1/admin/moves", &json!({"tenant": "demo", "to": to})).await.unwrap();
    assert_eq!((again.status, again.json()["id"].as_u64()), (202, Some(id)), "asked again: {}", again.text());
    let refused = federation.operator().delete("/api/v1/admin/tenants/demo").await.unwrap();
    assert_eq!(refused.code(), "FAILED_PRECONDITION", "{}", refused.text());
    let cancelled =
        federation.operator().post_json(&format!("/api/v1/admin/moves/{id}/cancel"), &json!({})).await.unwrap();
    assert!(matches!(cancelled.status, 200 | 202), "{}", cancelled.text());
    for name in &names[..2] {
        federation.restart(name);
    }
    let shown = ended(&federation, id, Duration::from_secs(60)).await;
    assert_eq!(shown["state"], "given_up", "{shown}");
    assert_eq!(home(&federation, "demo").await, (at.clone(), epoch), "where it was, under its epoch");
    // The same move now succeeds, under an epoch that was never used.
    let id = begin(&federation, "demo", to).await;
    let shown = ended(&federation, id, Duration::from_secs(60)).await;
    assert_eq!(shown["state"], "done", "{shown}");
    assert_eq!(home(&federation, "demo").await, (to.to_owned(), epoch + 2));
    let (acknowledged, refused) = load.finish().await;
    assert_eq!(refused, Vec::<String>::new());
    verify(&demo, "demo", &acknowledged).await;
}
