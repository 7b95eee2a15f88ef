//! The lane before shard members over real mTLS: what a client sees, whatever happens behind the gateway.

mod shards;

use std::time::Duration;

use axum::body::BodyDataStream;
use futures::{SinkExt, StreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tonic::Request;

use self::shards::{Tenant, World};
use super::*;
use crate::watch::grpc::{Found, Watching};

const PATIENCE: Duration = Duration::from_secs(20);

/// A client's event stream.
struct Sse {
    body: BodyDataStream,
    text: String,
}

/// One event of it.
#[derive(Debug, Clone)]
struct Event {
    kind: String,
    id: String,
    data: Value,
}

impl Sse {
    async fn open(world: &World, query: &str) -> Self {
        Self::open_with(world, query, &[]).await
    }

    async fn open_with(world: &World, query: &str, headers: &[(&'static str, &str)]) -> Self {
        let Answer::Response(response) = world.ask(query, headers).await else { panic!("not an event stream") };
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Sse { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event, or none at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
                let Some(data) = field("data: ") else { continue };
                let data = serde_json::from_str(&data).unwrap();
                return Some(Event { kind: field("event: ").unwrap(), id: field("id: ").unwrap(), data });
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("something comes");
            self.text.push_str(std::str::from_utf8(&chunk?.unwrap()).unwrap());
        }
    }

    /// The next that is no progress mark.
    async fn said(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.kind != "progress" {
                return event;
            }
        }
    }

    /// The revisions of the next changes.
    async fn revisions(&mut self, count: usize) -> Vec<u64> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let event = self.said().await;
            assert_eq!(event.kind, "change", "{event:?}");
            seen.push(event.data["events"][0]["revision"].as_u64().unwrap());
        }
        seen
    }

    /// The last event, after which there is none.
    async fn end(&mut self) -> Event {
        let last = self.said().await;
        assert_eq!(last.kind, "error", "{last:?}");
        assert!(self.next().await.is_none(), "the error is the last word");
        last
    }
}

async fn refused(world: &World, query: &str) -> (StatusCode, Value) {
    let Answer::Response(response) = world.ask(query, &[]).await else { panic!("not refused") };
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn token(revision: u64) -> String {
    use conflux_common::ids::{Incarnation, Revision, RevisionMark, TenantId};
    let mark = RevisionMark { incarnation: Incarnation(1), revision: Revision(revision) };
    token::Scope::new(&"test".parse().unwrap(), TenantId(1)).token(mark)
}

#[tokio::test]
async fn history_and_live_join_without_a_gap_and_resume_by_id() {
    // The heart of a watch: the past from the history, the present from the feed, each revision once.
    let world = World::start(Settings::default()).await;
    let mut sse = Sse::open(&world, "from=1.1").await;
    let first = sse.next().await.unwrap();
    assert_eq!(
        (first.kind.as_str(), &first.data["progress"], &first.data["revision"]),
        ("progress", &json!(true), &json!("1.1"))
    );
    assert_eq!(sse.revisions(4).await, [2, 3, 4, 5]);
    assert_eq!(world.a.commit("new.yaml"), 6);
    let event = sse.said().await;
    assert_eq!(event.id, token(6));
    assert_eq!(
        event.data,
        json!({"revision": "1.6", "token": token(6), "events": [{
            "revision": 6, "time": "2023-11-14T22:13:20.123Z", "type": "released", "app": "shop", "env": "prod",
            "name": "new.yaml", "config_id": "c1", "version": 6, "hash": "sha256:00"}]})
    );
    // As a browser reconnects: its URL still says `from`, the header is newer.
    let mut resumed = Sse::open_with(&world, "from=1.1", &[("last-event-id", &token(4))]).await;
    assert_eq!(resumed.revisions(2).await, [5, 6]);
    // From now: nothing that was there before.
    let mut now = Sse::open(&world, "").await;
    assert_eq!(now.next().await.unwrap().data["revision"], "1.6");
    world.a.commit("x");
    assert_eq!(now.revisions(1).await, [7]);
    assert_eq!(sse.revisions(1).await, [7]);
}

#[tokio::test]
async fn only_what_is_selected_is_told_and_progress_passes_the_rest() {
    // A filtered watch must be able to resume above what did not concern it.
    let world = World::start(Settings::default()).await;
    let mut sse = Sse::open(&world, "app=shop&env=prod&name=mine&from=1.0").await;
    for name in ["other", "mine", "other"] {
        world.a.commit(name);
    }
    assert_eq!(sse.revisions(1).await, [7]);
    let mark = sse.next().await.unwrap();
    assert_eq!((mark.kind.as_str(), mark.id), ("progress", token(8)));
}

#[tokio::test]
async fn a_broken_feed_goes_on_at_another_member() {
    // On the client's stream nothing is to be seen of it: nothing lost, nothing twice.
    let world = World::start(Settings::default()).await;
    let mut sse = Sse::open(&world, "from=1.5").await;
    let mut wanted = 6;
    for _ in 0..3 {
        for member in world.a.fed() {
            world.a.break_feed(&member);
        }
        world.a.commit("x");
        world.a.commit("y");
        assert_eq!(sse.revisions(2).await, [wanted, wanted + 1]);
        wanted += 2;
    }
}

#[tokio::test]
async fn a_member_that_is_far_behind_is_left_for_another() {
    // Cut off since before the tenant came, it says of everything that it is elsewhere, and would for ever.
    let world = World::start(Settings::default()).await;
    *world.a.blind.lock() = Some("a-1".into());
    let mut sse = Sse::open(&world, "from=1.3").await;
    assert_eq!(sse.revisions(2).await, [4, 5]);
    assert!(world.a.fed().len() > 1, "the leader was asked first");
}

#[tokio::test]
async fn what_cannot_be_resumed_is_refused_before_the_stream_opens() {
    let world = World::start(Settings::default()).await;
    let mut tenant = world.a.tenant();
    tenant.floor = 3;
    tenant.revisions.retain(|r| r.revision > 3);
    world.a.set(Some(tenant));
    let foreign =
        token::Scope::new(&"other".parse().unwrap(), conflux_common::ids::TenantId(1)).token("1.4".parse().unwrap());
    for (query, status, code, detail) in [
        ("from=1.2".to_owned(), 410, "OUT_OF_RANGE", Some("1.3")),
        ("from=1.9".to_owned(), 410, "OUT_OF_RANGE", None),
        ("from=7.4".to_owned(), 410, "OUT_OF_RANGE", Some("1.3")),
        (format!("from={foreign}"), 400, "INVALID_ARGUMENT", None),
        ("from=5".to_owned(), 400, "INVALID_ARGUMENT", None),
        ("env=prod".to_owned(), 400, "INVALID_ARGUMENT", None),
    ] {
        let (got, body) = refused(&world, &query).await;
        assert_eq!((got.as_u16(), body["error"]["code"].as_str()), (status, Some(code)), "{query}: {body}");
        if let Some(floor) = detail {
            let details = body["error"]["details"].as_array().unwrap();
            assert!(details.contains(&json!({"field": "floor", "description": floor})), "{query}: {body}");
        }
    }
    world.key("shop/dev/*");
    assert_eq!(refused(&world, "").await.0, 403, "a grant narrower than the selection");
}

#[tokio::test]
async fn a_revocation_ends_the_watch_and_nothing_is_told_after_it() {
    let world = World::start(Settings::default()).await;
    let mut sse = Sse::open(&world, "from=1.5").await;
    world.a.commit("before");
    assert_eq!(sse.revisions(1).await, [6]);
    world.key("shop/dev/*");
    assert_eq!(sse.end().await.data["error"]["code"], "PERMISSION_DENIED");
    world.key("*/*/*");
    let mut sse = Sse::open(&world, "from=1.6").await;
    world.revoke();
    // The feed still brings what must not be told any more.
    world.a.commit("after");
    let mut last = sse.said().await;
    if last.kind == "change" {
        // Only if it came through before the revocation did.
        last = sse.said().await;
    }
    assert_eq!(last.data["error"]["code"], "UNAUTHENTICATED");
    assert!(sse.next().await.is_none());
}

#[tokio::test]
async fn a_watch_does_not_outlive_its_credential_nor_the_word_of_placement() {
    // Nothing changes in the directory then: the watch has to look by itself.
    let world = World::start_with(Settings::default(), Duration::ZERO).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    world.key_until("*/*/*", now.as_millis() as u64 + 1500);
    let mut sse = Sse::open(&world, "from=1.5").await;
    assert_eq!(sse.end().await.data["error"]["code"], "UNAUTHENTICATED");
    world.key("*/*/*");
    let mut sse = Sse::open(&world, "from=1.5").await;
    let end = sse.end().await;
    assert_eq!((end.data["error"]["code"].as_str(), end.id), (Some("UNAVAILABLE"), token(5)), "never 401");
}

#[tokio::test]
async fn watchers_go_on_when_their_tenant_moves() {
    let world = World::start(Settings::default()).await;
    let mut sse = Sse::open(&world, "from=1.3").await;
    assert_eq!(sse.revisions(2).await, [4, 5]);
    world.a.commit("x");
    // The source lets go before the gateway has heard where the tenant is now.
    let moved = Tenant { epoch: 2, ..world.a.tenant() };
    world.a.set(None);
    world.b.set(Some(moved));
    world.b.commit("y");
    world.route("b", 2);
    world.b.commit("z");
    assert_eq!(sse.revisions(3).await, [6, 7, 8]);
    // A placement replica that is behind does not know the tenant (any more, or yet): only its shard can say that.
    world.routes.change(|t| t.apply(&conflux_proto::internal::change::Change::TenantGone(1)));
    world.b.commit("w");
    assert_eq!(sse.revisions(1).await, [9]);
    let deleted = Tenant { deleted: true, ..world.b.tenant() };
    world.b.set(Some(deleted));
    assert_eq!(sse.end().await.data["error"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn a_slow_watcher_is_cut_with_where_to_resume_and_holds_nobody_up() {
    let world = World::start(Settings { held_revisions: 16, ..Settings::default() }).await;
    let mut slow = Sse::open(&world, "from=1.5").await;
    let mut quick = Sse::open(&world, "from=1.5").await;
    slow.next().await;
    world.a.commit("x");
    assert_eq!(slow.revisions(1).await, [6]);
    assert_eq!(quick.revisions(1).await, [6]);
    for n in 7..=60 {
        assert_eq!(world.a.commit("x"), n);
        assert_eq!(quick.revisions(1).await, [n]);
    }
    let end = slow.end().await;
    assert_eq!((end.data["error"]["code"].as_str(), end.id), (Some("RESOURCE_EXHAUSTED"), token(6)));
    let resume = json!({"field": "resume", "description": token(6)});
    assert!(end.data["error"]["details"].as_array().unwrap().contains(&resume), "{}", end.data);
    let mut resumed = Sse::open_with(&world, "", &[("last-event-id", &token(6))]).await;
    assert_eq!(resumed.revisions(54).await, (7..=60).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_restore_that_lost_history_ends_the_watch() {
    // Revision 4 of the new life is not the one after revision 3 of the old.
    let world = World::start(Settings::default()).await;
    let mut sse = Sse::open(&world, "from=1.5").await;
    sse.next().await;
    world.a.set(Some(Tenant { epoch: 1, incarnation: 2, floor: 3, ..Default::default() }));
    world.a.break_feed(&world.a.fed()[0]);
    let end = sse.end().await;
    assert_eq!(end.data["error"]["code"], "OUT_OF_RANGE");
    let floor = json!({"field": "floor", "description": "2.3"});
    assert!(end.data["error"]["details"].as_array().unwrap().contains(&floor), "{}", end.data);
}

#[tokio::test]
async fn a_gateway_that_stops_says_where_to_resume() {
    let world = World::start(Settings::default()).await;
    let mut sse = Sse::open(&world, "from=1.5").await;
    let mut socket = websocket(&world, "from=1.5", &[]).await;
    world.draining.cancel();
    let end = sse.end().await;
    assert_eq!(
        (end.data["error"]["code"].as_str(), end.data["token"].as_str()),
        (Some("UNAVAILABLE"), Some(&*token(5)))
    );
    assert_eq!(close_code(&mut socket).await, 1012);
}

#[tokio::test]
async fn places_are_bounded() {
    let world = World::start(Settings { max_watchers_per_principal: 1, ..Settings::default() }).await;
    let held = Sse::open(&world, "").await;
    let (status, body) = refused(&world, "").await;
    assert_eq!((status.as_u16(), body["error"]["retryable"].as_bool()), (429, Some(true)));
    drop(held);
    Sse::open(&world, "").await;
}

const HANDSHAKE: [(&str, &str); 5] = [
    ("upgrade", "websocket"),
    ("connection", "upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("host", "gateway.example:8443"),
];

async fn websocket(world: &World, query: &str, more: &[(&'static str, &str)]) -> WebSocketStream<DuplexStream> {
    let Answer::Upgrade(upgrade) = world.ask(query, &[&HANDSHAKE, more].concat()).await else { panic!("no upgrade") };
    assert_eq!(upgrade.response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn((upgrade.serve)(theirs));
    WebSocketStream::from_raw_socket(ours, Role::Client, None).await
}

async fn text(socket: &mut WebSocketStream<DuplexStream>) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        if let Message::Text(text) = message {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

async fn close_code(socket: &mut WebSocketStream<DuplexStream>) -> u16 {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        if let Message::Close(frame) = message {
            return frame.unwrap().code.into();
        }
    }
}

#[tokio::test]
async fn a_websocket_changes_its_subscription_in_place() {
    let world = World::start(Settings::default()).await;
    let mut socket = websocket(&world, "app=shop&env=prod&name=a&from=1.5", &[]).await;
    assert_eq!(text(&mut socket).await["progress"], true);
    world.a.commit("b");
    world.a.commit("a");
    assert_eq!(text(&mut socket).await["revision"], "1.7");
    let wish = json!({"subscribe": {"app": "shop", "env": "prod", "name": "b"}});
    socket.send(Message::text(wish.to_string())).await.unwrap();
    let answer = text(&mut socket).await;
    assert_eq!((&answer["subscribed"], &answer["revision"]), (&json!(true), &json!("1.7")), "later changes only");
    world.a.commit("a");
    world.a.commit("b");
    let event = text(&mut socket).await;
    assert_eq!((&event["events"][0]["name"], &event["token"]), (&json!("b"), &json!(token(9))));
    // A wish that is refused changes nothing.
    for refused in ["{\"subscribe\": {\"env\": \"prod\"}}", "{\"unsubscribe\": {}}", "no json"] {
        socket.send(Message::text(refused)).await.unwrap();
        assert_eq!(text(&mut socket).await["error"]["code"], "INVALID_ARGUMENT", "{refused}");
    }
    // With a place to begin at, it is told the past as well.
    let wish = json!({"subscribe": {"app": "shop", "from": "1.7"}});
    socket.send(Message::text(wish.to_string())).await.unwrap();
    assert_eq!(text(&mut socket).await["subscribed"], true);
    assert_eq!(text(&mut socket).await["revision"], "1.8");
    assert_eq!(text(&mut socket).await["revision"], "1.9");
}

#[tokio::test]
async fn a_websocket_is_closed_with_a_code_that_says_why() {
    let world = World::start(Settings::default()).await;
    let mut socket = websocket(&world, "", &[]).await;
    socket.send(Message::text("x".repeat(20_000))).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1009);
    let mut socket = websocket(&world, "", &[]).await;
    text(&mut socket).await;
    world.revoke();
    assert_eq!(text(&mut socket).await["error"]["code"], "UNAUTHENTICATED");
    assert_eq!(close_code(&mut socket).await, 1008);
}

#[tokio::test]
async fn a_page_of_another_site_may_not_open_a_websocket() {
    let allowed_origins = vec!["https://console.example".to_owned()];
    let world = World::start(Settings { allowed_origins, ..Settings::default() }).await;
    for (origin, allowed) in [
        ("https://gateway.example:8443", true),
        ("https://console.example", true),
        ("https://evil.example", false),
        ("https://gateway.example", false),
        ("null", false),
    ] {
        let answer = world.ask("", &[&HANDSHAKE[..], &[("origin", origin)]].concat()).await;
        match answer {
            Answer::Upgrade(_) => assert!(allowed, "{origin}"),
            Answer::Response(response) => assert_eq!((response.status().as_u16(), allowed), (403, false), "{origin}"),
        }
    }
}

#[tokio::test]
async fn grpc_watchers_see_the_same() {
    use conflux_proto::v1::{WatchRequest, config_service_server::ConfigService};
    let world = World::start(Settings::default()).await;
    world.lane.start();
    let service = Watching { lane: world.lane.clone() };
    let ask = |from: &str| {
        let mut request = Request::new(WatchRequest { from: from.into(), ..Default::default() });
        let (identity, route) = (world.identity(), world.tenant_route());
        request.extensions_mut().insert(Found { identity, route, request_id: "r".into() });
        service.watch(request)
    };
    let mut stream = ask("1.4").await.unwrap().into_inner();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!((first.progress, first.revision.as_str(), first.events.len()), (true, "1.4", 0));
    let change = stream.next().await.unwrap().unwrap();
    assert_eq!((change.events[0].revision, &change.token, change.progress), (5, &token(5), false));
    world.revoke();
    let end = loop {
        match stream.next().await.unwrap() {
            Ok(message) => assert!(message.progress),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), tonic::Code::Unauthenticated);
    assert!(stream.next().await.is_none());
    world.key("*/*/*");
    let refused = ask("1.9").await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
}
