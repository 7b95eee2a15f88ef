//! A tenant moves to and fro between two shard groups while it is written to. There is no such thing in etcd.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::Bench;
use crate::{
    conflux::{Federation, Setup, Space, TENANT},
    connection::Protocol,
    load::{self, Shape},
    results::{Moves, Results},
    statistics::{quantile, sorted},
};

/// Contents to copy beside what is written meanwhile.
const STOCK: u64 = 128;
const STOCK_BYTES: usize = 16 << 10;

/// Writers of 1 KiB, one request in flight each.
const WRITERS: usize = 4;

/// A federation of two groups of its own.
pub async fn measure(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let setup = Setup { shards: Some(2), ..Setup::default() };
    let federation = Federation::start(&bench.run.conflux, &bench.base, &setup).await?;
    let endpoints = [federation.endpoint(Protocol::Http2)?];
    let demo = federation.demo().await?;
    let stock = Space::new(vec![demo.clone()], "stock", STOCK_BYTES, STOCK);
    load::fill(&endpoints, &stock.first_puts(), 0..STOCK, 32).await.context("the stock")?;
    let writes = Space::new(vec![demo], "s", 1024, 100).puts();
    let connections = load::connect(&endpoints, WRITERS).await?;
    let (mut pauses_ms, mut whole_ms, mut given_up, mut tally) = (Vec::new(), Vec::new(), 0, None);
    let next: Arc<AtomicU64> = Arc::default();
    for _ in 0..bench.plan.moves {
        let moving = Box::pin(move_away(&federation));
        // Longer than a move, so that each is under writes from its beginning to its end.
        let shape = Shape { concurrency: WRITERS, window: Duration::from_millis(2500), offered: None };
        let (moved, driven) = tokio::join!(moving, load::drive(&connections, &writes, shape, &next));
        let (shown, took) = moved?;
        whole_ms.push(took.as_secs_f64() * 1e3);
        match shown["pause_ms"].as_f64() {
            Some(pause) if shown["state"] == "done" => pauses_ms.push(pause),
            _ => given_up += 1,
        }
        tally = Some(match tally {
            None => driven?,
            Some(before) => load::Tally::sum(before, driven?)?,
        });
    }
    let tally = tally.context("at least one move")?;
    let at = |share: f64| tally.histogram.value_at_quantile(share);
    let pauses_ms = sorted(pauses_ms);
    eprintln!(
        "{} moves, {given_up} given up: pause p50 {:.0} ms, most {:.0} ms; the longest write {:.0} ms, {} refused",
        bench.plan.moves,
        quantile(&pauses_ms, 0.5),
        quantile(&pauses_ms, 1.0),
        tally.histogram.max() as f64 / 1e3,
        tally.failed
    );
    results.moves = Some(Moves {
        pauses_ms,
        whole_ms,
        given_up,
        writes: tally.answered,
        refused: tally.failed,
        refusal: tally.failure.clone(),
        write_p50_us: at(0.5),
        write_p99_us: at(0.99),
        write_max_us: tally.histogram.max(),
        tenant_bytes: STOCK * STOCK_BYTES as u64,
    });
    Ok(())
}

/// Moves the tenant to the other shard; what is shown of the move when it has ended, and how long it took.
async fn move_away(federation: &Federation) -> Result<(Value, Duration)> {
    // The writers first.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let home = federation.operate(Method::GET, &format!("/api/v1/admin/tenants/{TENANT}"), None).await?;
    let to = if home["shard"] == "shard-a" { "shard-b" } else { "shard-a" };
    let start = Instant::now();
    let id = loop {
        let body = json!({"tenant": TENANT, "to": to});
        match federation.operate(Method::POST, "/api/v1/admin/moves", Some(&body)).await {
            Ok(answer) => break answer["id"].as_u64().context("the move's id")?,
            Err(error) if start.elapsed() > Duration::from_secs(30) => return Err(error.context("no move begins")),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    loop {
        let shown = federation.operate(Method::GET, &format!("/api/v1/admin/moves/{id}"), None).await?;
        if matches!(shown["state"].as_str(), Some("done" | "given_up")) {
            return Ok((shown, start.elapsed()));
        }
        if start.elapsed() > Duration::from_secs(60) {
            bail!("a move that does not end: {shown}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
