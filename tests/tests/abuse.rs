//! Oversized, truncated and slow: a typed error or a bounded wait, while the others are served and memory stays bounded.

use std::time::{Duration, Instant};

use conflux_tests::{Federation, Shape, client::Place, raw};
use tokio::io::AsyncWriteExt;

const SMALL: Shape = Shape { replicas: 1, ..Shape::ONE_GROUP };
const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn oversized_truncated_and_slow_requests_harm_nobody_else() {
    let federation = Federation::start(SMALL).await.unwrap();
    let gateway = federation.description.gateways[0].clone();
    let demo = federation.demo();
    let key = demo.key.clone().unwrap();
    let place = Place::new("demo", "shop", "prod", "a.json");
    demo.put(&place, "{}").await.unwrap().expect(&[201]).unwrap();
    federation.raise_quotas("demo").await.unwrap();
    let resting = Federation::resident_bytes(gateway.pid);

    // Bodies: exactly the ceiling is taken, one byte more is not, and neither is a length that lies.
    let largest = conflux_tests::load::document(1, MIB);
    demo.put(&place, largest).await.unwrap().expect(&[200]).unwrap();
    let over = demo.put(&place, conflux_tests::load::document(2, MIB + 1)).await.unwrap();
    assert_eq!((over.status, over.code().as_str()), (413, "RESOURCE_EXHAUSTED"), "{}", over.text());
    let put = |extra: &str| {
        format!("PUT {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{extra}\r\n", place.put_path())
    };
    let huge = put("Content-Length: 1000000000000\r\n");
    assert_eq!(raw::exchange(&gateway.url, &gateway.ca_file, huge.as_bytes()).await.unwrap().0, 413);
    for lie in ["Content-Length: -1\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: x\r\n"] {
        let answer = raw::exchange(&gateway.url, &gateway.ca_file, put(lie).as_bytes()).await;
        assert!(answer.as_ref().is_ok_and(|(s, _)| *s == 400) || answer.is_err(), "{lie:?}: {answer:?}");
    }

    // Headers and names.
    let long = format!("GET {} HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", place.fetch_path(), "x".repeat(MIB));
    let answer = raw::exchange(&gateway.url, &gateway.ca_file, long.as_bytes()).await;
    assert!(answer.as_ref().is_ok_and(|(s, _)| matches!(s, 400 | 413 | 431)) || answer.is_err(), "{answer:?}");
    let name = Place { name: "n".repeat(129), ..place.clone() };
    let long_name = demo.put(&name, "{}").await.unwrap();
    assert_eq!((long_name.status, long_name.code().as_str()), (400, "INVALID_ARGUMENT"));
    assert!(long_name.text().contains("config name"), "{}", long_name.text());

    // Truncated JSON, as content and as the body of a call.
    let cut = demo.put(&place, "{\"a\": [1, 2").await.unwrap();
    assert_eq!(cut.status, 400);
    assert!(cut.text().contains("column"), "{}", cut.text());
    let call =
        demo.request(reqwest::Method::POST, "/api/v1/mgt/demo/configs").header("content-type", "application/json");
    let cut = demo.send(call.body("{\"app\": \"x\"")).await.unwrap();
    assert_eq!((cut.status, cut.code().as_str()), (400, "INVALID_ARGUMENT"), "{}", cut.text());

    // A thousand idle connections and fifty clients that never finish their request.
    let mut held = Vec::new();
    for _ in 0..1000 {
        held.push(raw::connect(&gateway.url, &gateway.ca_file).await.unwrap());
    }
    for slow in held.iter_mut().take(50) {
        slow.write_all(put("Content-Length: 100000\r\n").as_bytes()).await.unwrap();
        slow.write_all(b"{\"half\":").await.unwrap();
    }
    for _ in 0..200 {
        assert_eq!(demo.fetch(&place, "").await.unwrap().status, 200);
    }
    let holding = Federation::resident_bytes(gateway.pid);
    println!("gateway: {} MiB at rest, {} MiB with 1000 connections held", resting / MIB as u64, holding / MIB as u64);
    assert!(holding - resting.min(holding) < 256 * MIB as u64, "{holding} bytes with 1000 connections");

    // The slow client is answered or cut within its bound, not held for ever.
    let mut slow = held.swap_remove(0);
    let started = Instant::now();
    let mut rest = Vec::new();
    let ended =
        tokio::time::timeout(Duration::from_secs(90), tokio::io::AsyncReadExt::read_to_end(&mut slow, &mut rest));
    assert!(ended.await.is_ok(), "a client that never finishes is held for ever");
    println!(
        "a slow client is cut after {:?}: {}",
        started.elapsed(),
        String::from_utf8_lossy(&rest).lines().next().unwrap_or("")
    );
}
