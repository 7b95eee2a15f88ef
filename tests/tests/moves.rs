//! Tenants move between shard groups while they are written, read and watched; processes die on the way.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use conflux_tests::{
    Federation, Shape,
    client::{Client, Place},
    load::{Acknowledged, Pattern, StaleReader, Writers, document, percentiles, verify},
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

/// Moves the tenant until a process has died at this place; the move under way then. On a slow machine a freeze may take longer than
/// its budget: that move is given up before it gets there, and another one is begun.
async fn passes(federation: &Federation, tenant: &str, failpoint: &str) -> u64 {
    federation.arm(failpoint);
    let (at, _) = home(federation, tenant).await;
    let under_way = Cell::new(begin(federation, tenant, other(&at)).await);
    until(&format!("{failpoint} is passed"), Duration::from_secs(60), || async {
        if !federation.is_armed(failpoint) {
            return Some(());
        }
        let shown = federation.operator().get(&format!("/api/v1/admin/moves/{}", under_way.get())).await.ok()?.json();
        if shown["state"] == "given_up" {
            under_way.set(begin(federation, tenant, other(&at)).await);
        }
        None
    })
    .await;
    under_way.get()
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

/// A figure of a load, which the environment may raise: `make moves` does.
fn scaled(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// What is done to each tenant, and by how many.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Tenants that move at the same time.
    tenants: usize,
    /// Sets of them, one after the other: what is written to a tenant stays, so that a tenant that is moved a hundred times is not
    /// the size any more that it was to be.
    sets: usize,
    /// Of each tenant, back and forth.
    moves: usize,
    /// What each has before it moves.
    mebibytes: usize,
    /// Of each tenant without a key of the client's own, and as many with one; one more writes large bodies.
    writers: usize,
    large_bytes: usize,
    large_every: Duration,
    /// Of each tenant.
    watchers: usize,
}

impl Scale {
    fn read() -> Self {
        Self {
            tenants: scaled("CONFLUX_TEST_TENANTS", 1),
            sets: scaled("CONFLUX_TEST_SETS", 1),
            moves: scaled("CONFLUX_TEST_MOVES", 6),
            mebibytes: scaled("CONFLUX_TEST_TENANT_MIB", 2),
            writers: scaled("CONFLUX_TEST_WRITERS", 4),
            large_bytes: scaled("CONFLUX_TEST_LARGE_KIB", 256) << 10,
            large_every: Duration::from_millis(scaled("CONFLUX_TEST_LARGE_EVERY_MS", 500) as u64),
            watchers: scaled("CONFLUX_TEST_WATCHERS", 6),
        }
    }
}

/// What the users of one tenant felt.
#[derive(Default)]
struct Felt {
    pauses: Vec<Duration>,
    given_up: usize,
    writes: Vec<Acknowledged>,
    moving: Duration,
}

/// Moves one tenant back and forth while it is used, and checks all that its users were told.
async fn moved_while_used(federation: &Federation, tenant: &str, shard: &str, scale: Scale) -> Felt {
    let client = federation.tenant_on(tenant, Some(shard), &["admin"]).await.unwrap();
    federation.raise_quotas(tenant).await.unwrap();
    for n in 0..(scale.mebibytes as u64) {
        let place = Place::new(tenant, "stock", "test", &format!("s{n}.json"));
        client.put(&place, document(n, (1 << 20) - 64)).await.unwrap().expect(&[201]).unwrap();
    }
    let (from, start) = first(&client, tenant).await;
    let watchers = watchers(federation, &client, tenant, scale.watchers.div_ceil(3), &from).await;
    let plain = Writers::start(&client, tenant, "p", scale.writers, 1024);
    let keyed = Writers::start_keyed(&client, tenant, "k", (scale.writers, 1024), true);
    let pattern = Pattern { writers: 1, bytes: scale.large_bytes, keyed: true, every: scale.large_every };
    let large = Writers::start_as(&client, tenant, "l", pattern);
    let watched = Place::new(tenant, "watched", "test", "first.json");
    let stale = StaleReader::start(&client, watched.clone());
    let strong = StaleReader::start_at(&client, watched, "?consistency=linearizable");
    until("writes run", Duration::from_secs(60), || async { (plain.count() > 20).then_some(()) }).await;
    let began = Instant::now();
    let (mut at, mut felt) = (home(federation, tenant).await, Felt::default());
    while felt.pauses.len() < scale.moves {
        let to = other(&at.0);
        let id = begin(federation, tenant, to).await;
        let shown = ended(federation, id, Duration::from_secs(120 + scale.mebibytes as u64)).await;
        if shown["reason"].as_str().is_some_and(|why| why.starts_with("the freeze took longer")) {
            // The machine is too busy just now: writes waited for the budget of a freeze and went on where they were.
            felt.given_up += 1;
            assert!(felt.given_up <= 10 + scale.moves, "most moves are done: {shown}");
            continue;
        }
        assert_eq!(shown["state"], "done", "{shown}");
        felt.pauses.push(Duration::from_millis(shown["pause_ms"].as_u64().unwrap()));
        let now = home(federation, tenant).await;
        assert_eq!(now.0, to);
        assert!(now.1 > at.1, "each owner has an epoch of its own");
        at = now;
        let before = plain.count();
        until("writes go on", Duration::from_secs(30), || async { (plain.count() > before + 20).then_some(()) }).await;
    }
    felt.moving = began.elapsed();
    for writers in [plain, keyed, large] {
        let (acknowledged, refused) = writers.finish().await;
        assert_eq!(refused, Vec::<String>::new(), "no write is refused");
        felt.writes.extend(acknowledged);
    }
    for reader in [stale, strong] {
        let (served, refused) = reader.finish().await;
        assert_eq!(refused, Vec::<String>::new(), "no read is refused");
        assert!(served > 0);
    }
    verify(&client, tenant, &felt.writes).await;
    all_seen(&client, tenant, &watchers, start).await;
    for watcher in &watchers {
        assert_eq!(watcher.resumed(), 0, "{:?} stays on its stream: {:?}", watcher.transport, watcher.ends());
    }
    felt.writes.retain(|a| a.at > began);
    felt
}

/// Moved back and forth under load: no client notices but by a short wait, nothing is lost, no revision is missed or seen twice on
/// streams that stay open.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_move_while_they_are_used() {
    let scale = Scale::read();
    let federation = Federation::start(TWO_GROUPS).await.unwrap();
    let neighbour = federation.tenant_on("neighbour", Some("shard-a"), &["admin"]).await.unwrap();
    let beside = |prefix| Writers::start(&neighbour, "neighbour", prefix, 1, 1024);
    let alone = beside("n");
    until("writes run", Duration::from_secs(60), || async { (alone.count() > 200).then_some(()) }).await;
    let (before, refused) = alone.finish().await;
    assert_eq!(refused, Vec::<String>::new(), "no neighbour is refused");
    let beside = beside("m");
    let (mut all, mut moving) = (Felt::default(), Duration::ZERO);
    for set in 0..scale.sets {
        let names: Vec<String> = (0..scale.tenants).map(|n| format!("moving-{set}-{n}")).collect();
        let moved = names.iter().enumerate().map(|(n, name)| {
            let shard = if n % 2 == 0 { "shard-a" } else { "shard-b" };
            moved_while_used(&federation, name, shard, scale)
        });
        let felt = futures::future::join_all(moved).await;
        moving += felt.iter().map(|f| f.moving).max().unwrap_or_default();
        for felt in felt {
            all.pauses.extend(felt.pauses);
            all.writes.extend(felt.writes);
            all.given_up += felt.given_up;
        }
        let after = percentiles(all.pauses.clone());
        eprintln!("set {} of {}: {} moves, pauses until here {after:?} ms", set + 1, scale.sets, all.pauses.len());
        for name in &names {
            let path = format!("/api/v1/admin/tenants/{name}");
            federation.operator().delete(&path).await.unwrap().expect(&[200, 202, 204]).unwrap();
        }
    }
    let (meanwhile, refused) = beside.finish().await;
    assert_eq!(refused, Vec::<String>::new(), "no neighbour is refused");
    let took = |acks: &[Acknowledged]| percentiles(acks.iter().map(|a| a.took).collect());
    let per_second = all.writes.len() as u64 / moving.as_secs().max(1);
    eprintln!(
        "{} moves, {} more given up, {scale:?}, in {moving:?}; {} writes, {per_second} a second; [p50, p99, max] in ms: pause of writes {:?}, a write \
         {:?}, a neighbour's write before {:?} and meanwhile {:?}",
        all.pauses.len(),
        all.given_up,
        all.writes.len(),
        percentiles(all.pauses),
        took(&all.writes),
        took(&before),
        took(&meanwhile),
    );
}

/// A process dies at each step, and the gateway with it: the move ends by itself within half a minute, and nothing is lost or seen
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_ends_by_itself_whoever_dies() {
    let mut federation = Federation::start(TWO_GROUPS).await.unwrap();
    let demo = federation.demo();
    let (from, start) = first(&demo, "demo").await;
    let watchers = watchers(&federation, &demo, "demo", 1, &from).await;
    let load = Writers::start_keyed(&demo, "demo", "w", (2, 512), true);
    let mut outcomes = Vec::new();
    for failpoint in FAILPOINTS {
        let id = passes(&federation, "demo", failpoint).await;
        let dead = until("a process has died", Duration::from_secs(10), || async {
            federation.description.members.iter().any(|m| !conflux_tests::federation::runs(m.pid)).then_some(())
        });
        dead.await;
        // The gateway as well: its clients come back to another one, and ask again.
        federation.kill_gateway(0).await;
        let dead = federation.restart_the_dead().await;
        federation.start_gateway(0);
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

/// Cancelled at any moment: what the operator is told is what happens. Either it is given up, or it was committed before.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_move_ends_as_it_was_answered() {
    let federation = Federation::start(Shape { replicas: 1, ..TWO_GROUPS }).await.unwrap();
    let demo = federation.demo();
    let load = Writers::start(&demo, "demo", "w", 2, 512);
    let mut given_up = 0;
    for looks in [0, 0, 2, 4, 8, 16, 32, 64] {
        let (at, epoch) = home(&federation, "demo").await;
        let id = begin(&federation, "demo", other(&at)).await;
        let path = format!("/api/v1/admin/moves/{id}");
        for _ in 0..looks {
            federation.operator().get(&path).await.unwrap().expect(&[200]).unwrap();
        }
        let answer = federation.operator().post_json(&format!("{path}/cancel"), &json!({})).await.unwrap();
        let shown = ended(&federation, id, Duration::from_secs(60)).await;
        let (now, later) = home(&federation, "demo").await;
        match answer.status {
            202 => {
                assert_eq!((shown["state"].as_str(), now, later), (Some("given_up"), at, epoch), "{shown}");
                given_up += 1;
            }
            412 => {
                assert_eq!((shown["state"].as_str(), now.as_str()), (Some("done"), other(&at)), "{shown}");
                assert!(later > epoch);
            }
            _ => panic!("{}", answer.text()),
        }
    }
    assert!(given_up > 0, "the first ones are cancelled before anything is copied");
    let (acknowledged, refused) = load.finish().await;
    assert_eq!(refused, Vec::<String>::new(), "no write is refused");
    verify(&demo, "demo", &acknowledged).await;
}

/// Placement has no majority while a move is in its phases: the tenant waits where it is, and the move ends when placement is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_waits_for_placement() {
    let mut federation =
        Federation::start_with(Shape::FULL, &["placement:moves.freeze_budget_ms=10000"]).await.unwrap();
    let demo = federation.demo();
    let (from, start) = first(&demo, "demo").await;
    let watchers = watchers(&federation, &demo, "demo", 1, &from).await;
    let load = Writers::start_keyed(&demo, "demo", "w", (2, 512), true);
    let beside = federation.tenant("beside", &["admin"]).await.unwrap();
    let beside = Writers::start(&beside, "beside", "b", 1, 512);
    let steps = [
        "shard.before_import_rows",
        "move.after_freezing",
        "shard.after_seal",
        "move.after_committed",
        "shard.after_depart",
    ];
    for failpoint in steps {
        let id = passes(&federation, "demo", failpoint).await;
        // Two of three, whoever has died already.
        let alive = |m: &&conflux_tests::federation::Member| conflux_tests::federation::runs(m.pid);
        let members = federation.members("placement");
        let alive: Vec<String> = members.iter().filter(alive).map(|m| m.member.clone()).collect();
        for name in &alive[..alive.len().min(alive.len() + 2 - members.len())] {
            federation.kill(name).await;
        }
        // Whoever is not on its way goes on all the while, and nothing of the move can be decided.
        let (before, from) = (beside.count(), Instant::now());
        let out = Duration::from_secs(scaled("CONFLUX_TEST_OUTAGE_S", 3) as u64);
        until("placement was out for long enough", out + Duration::from_secs(30), || async {
            (from.elapsed() >= out && beside.count() > before + 10).then_some(())
        })
        .await;
        federation.restart_the_dead().await;
        ended(&federation, id, Duration::from_secs(40)).await;
        let before = load.count();
        until("writes go on", Duration::from_secs(30), || async { (load.count() > before + 5).then_some(()) }).await;
    }
    let (acknowledged, _) = load.finish().await;
    verify(&demo, "demo", &acknowledged).await;
    all_seen(&demo, "demo", &watchers, start).await;
}

/// The shard that it is to go to has no room: the operator is told, the tenant goes on where it is, and moves once there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_gives_a_move_up_until_there_is_room() {
    const MEBIBYTES: u32 = 512;
    let mut federation = Federation::start(TWO_GROUPS).await.unwrap();
    let demo = federation.demo();
    federation.raise_quotas("demo").await.unwrap();
    let (at, epoch) = home(&federation, "demo").await;
    let to = other(&at);
    for n in 0..16 {
        let place = Place::new("demo", "stock", "test", &format!("s{n}.json"));
        demo.put(&place, document(n, 256 << 10)).await.unwrap().expect(&[201]).unwrap();
    }
    let load = Writers::start(&demo, "demo", "w", 2, 512);
    let names: Vec<String> = federation.members(to).into_iter().map(|m| m.member).collect();
    for name in &names {
        federation.kill(name).await;
        federation.restart_on_small_disk(name, MEBIBYTES);
    }
    federation.leader(to).await;
    // All but a twentieth of each disk is taken by somebody else.
    let ballast = |federation: &Federation, name: &str| {
        federation.inside(name, &federation.member(name).data_dir.join("ballast"))
    };
    for name in &names {
        let path = ballast(&federation, name);
        until("the small disk is there", Duration::from_secs(30), || async {
            let disk = nix::sys::statvfs::statvfs(path.parent()?).ok()?;
            (disk.blocks() * disk.fragment_size() == u64::from(MEBIBYTES) << 20).then_some(())
        })
        .await;
    }
    until("the group says that it has no room", Duration::from_secs(30), || async {
        // Again each time: a member gives back what it had set aside for its files.
        for name in &names {
            take_all_but(&ballast(&federation, name), (u64::from(MEBIBYTES) << 20) / 20).unwrap();
        }
        let status = federation.status(to).await.ok()?;
        let members = status["members"].as_array()?.clone();
        members.iter().all(|m| m["status"]["disk"]["refuses_growth"] == true).then_some(())
    })
    .await;
    let id = begin(&federation, "demo", to).await;
    let shown = ended(&federation, id, Duration::from_secs(120)).await;
    assert_eq!(shown["state"], "given_up", "{shown}");
    let why = shown["reason"].as_str().unwrap_or_default();
    assert!(why.contains("free space"), "the operator is told what to do: {shown}");
    assert_eq!(home(&federation, "demo").await, (at.clone(), epoch), "where it was, under its epoch");
    for name in &names {
        std::fs::remove_file(ballast(&federation, name)).unwrap();
    }
    until("the group has room", Duration::from_secs(30), || async {
        let status = federation.status(to).await.ok()?;
        let members = status["members"].as_array()?.clone();
        members.iter().all(|m| m["status"]["disk"]["refuses_growth"] == false).then_some(())
    })
    .await;
    let id = begin(&federation, "demo", to).await;
    let shown = ended(&federation, id, Duration::from_secs(60)).await;
    assert_eq!(shown["state"], "done", "{shown}");
    let (acknowledged, refused) = load.finish().await;
    assert_eq!(refused, Vec::<String>::new(), "no write is refused");
    verify(&demo, "demo", &acknowledged).await;
}

/// Lets a file grow until only so many bytes of its disk are free. In small steps: others write there too.
fn take_all_but(path: &std::path::Path, room: u64) -> std::io::Result<()> {
    const STEP: u64 = 4 << 20;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    loop {
        let disk = nix::sys::statvfs::statvfs(path)?;
        let free = disk.blocks_available() * disk.fragment_size();
        if free < room + disk.fragment_size() {
            return Ok(());
        }
        std::io::Write::write_all(&mut file, &vec![0; STEP.min(free - room) as usize])?;
    }
}

/// Deleted and made again under its name while requests are under way: nobody reads or writes the other one's data.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_used_again_is_another_tenant() {
    let federation = Federation::start(Shape { replicas: 1, ..TWO_GROUPS }).await.unwrap();
    let operator = federation.operator();
    let old = federation.tenant_on("acme", Some("shard-a"), &["admin"]).await.unwrap();
    let place = Place::new("acme", "shop", "prod", "a.json");
    old.put(&place, "{\"of\": \"old\"}").await.unwrap().expect(&[201]).unwrap();
    let id = begin(&federation, "acme", "shard-b").await;
    assert_eq!(ended(&federation, id, Duration::from_secs(60)).await["state"], "done");
    let load = Writers::start(&old, "acme", "w", 2, 512);
    until("writes run", Duration::from_secs(30), || async { (load.count() > 10).then_some(()) }).await;
    operator.delete("/api/v1/admin/tenants/acme").await.unwrap().expect(&[200, 202, 204]).unwrap();
    let body = json!({"name": "acme", "shard": "shard-a"});
    until("the name is free", Duration::from_secs(60), || async {
        let made = operator.post_json("/api/v1/admin/tenants", &body).await.ok()?;
        matches!(made.status, 201 | 202).then_some(())
    })
    .await;
    let new = federation.key_of("acme", &["admin"]).await.unwrap();
    assert_eq!(new.fetch(&place, "").await.unwrap().status, 404, "nothing of the old one is there");
    let refused = old.put(&place, "{\"of\": \"late\"}").await.unwrap();
    assert_eq!(refused.status, 401, "the old one's key is of nobody: {}", refused.text());
    let put = new.put(&place, "{\"of\": \"new\"}").await.unwrap().expect(&[201]).unwrap().json();
    assert_eq!(put["version"], 1);
    let (acknowledged, _) = load.finish().await;
    assert!(!acknowledged.is_empty());
    let listed = new.get("/api/v1/mgt/acme/configs").await.unwrap().expect(&[200]).unwrap().json();
    assert_eq!(listed["configs"].as_array().map(Vec::len), Some(1), "{listed}");
}
