//! Moves of tenants, which begin at their times whatever fault goes on.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use conflux_tests::Client;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use crate::{
    ground::{Ground, ask, tell},
    history::{Clock, Micros},
    plan::{Fault, Planned},
};

/// How long placement may take to say yes: whoever is asked through a gateway that cannot reach it asks the next one.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// A move that was begun.
#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    pub id: u64,
    pub tenant: usize,
    pub to: String,
    pub began: Micros,
    /// When it was seen to have ended.
    pub ended: Option<Micros>,
    /// `done` or `given_up`; the last one seen where it has not ended.
    pub state: String,
    pub pause_ms: u64,
}

/// See the module.
pub struct Movers {
    mover: Mover,
    track: Option<JoinHandle<JoinSet<()>>>,
    no_more: Arc<tokio::sync::Notify>,
}

#[derive(Clone)]
struct Mover {
    clock: Clock,
    operators: Vec<Client>,
    shards: Vec<String>,
    tenants: Vec<String>,
    moves: Arc<Mutex<Vec<Moved>>>,
}

impl Movers {
    pub fn new(ground: &Ground, clock: Clock) -> Self {
        let mover = Mover {
            clock,
            operators: ground.operators.clone(),
            shards: ground.shard_groups(),
            tenants: ground.tenants.iter().map(|t| t.name.clone()).collect(),
            moves: Arc::default(),
        };
        Self { mover, track: None, no_more: Arc::default() }
    }

    /// Every move that was begun.
    pub fn moves(&self) -> Vec<Moved> {
        self.mover.moves.lock().clone()
    }

    /// Begins the moves of a schedule, each at its time.
    pub fn begin(&mut self, schedule: &[Planned]) {
        let of = |planned: &Planned| match planned.fault {
            Fault::Move { tenant } => Some((planned.at_ms, tenant)),
            _ => None,
        };
        let planned: Vec<(u64, usize)> = schedule.iter().filter_map(of).collect();
        let (mover, no_more) = (self.mover.clone(), Arc::clone(&self.no_more));
        self.track = Some(tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            for (n, (at_ms, tenant)) in planned.into_iter().enumerate() {
                tokio::select! {
                    () = mover.clock.sleep_until(at_ms) => {}
                    () = no_more.notified() => break,
                }
                under_way.spawn(mover.clone().follow(tenant, n));
            }
            under_way
        }));
    }

    /// No move begins from here on.
    pub fn no_more(&self) {
        self.no_more.notify_one();
    }

    /// Waits until every move that was begun has ended; how many have not.
    pub async fn end(&mut self, within: Duration) -> usize {
        self.no_more();
        if let Some(track) = self.track.take() {
            let all = async {
                let Ok(mut under_way) = track.await else { return };
                while under_way.join_next().await.is_some() {}
            };
            // Those that are left are counted below.
            let _ = tokio::time::timeout(within, all).await;
        }
        self.mover.moves.lock().iter().filter(|m| m.ended.is_none()).count()
    }
}

impl Mover {
    /// Begins a move of the tenant to the next shard group, and follows it until it has ended. Another gateway is asked first
    /// each time: one of them may be cut off just now.
    async fn follow(mut self, tenant: usize, turn: usize) {
        let first = turn % self.operators.len();
        self.operators.rotate_left(first);
        let Some((id, to)) = self.begin(tenant).await else { return };
        let moved = Moved { id, tenant, to, began: self.clock.now(), ended: None, state: String::new(), pause_ms: 0 };
        {
            let mut moves = self.moves.lock();
            if moves.iter().any(|m| m.id == id) {
                return; // it was under way already
            }
            moves.push(moved);
        }
        let path = format!("/api/v1/admin/moves/{id}");
        loop {
            for operator in &self.operators {
                let Ok(Ok(shown)) =
                    tokio::time::timeout(ANSWERS_WITHIN, ask(std::slice::from_ref(operator), &path)).await
                else {
                    continue;
                };
                let mut moves = self.moves.lock();
                let Some(known) = moves.iter_mut().find(|m| m.id == id) else { return };
                known.state = shown["state"].as_str().unwrap_or_default().to_owned();
                known.pause_ms = shown["pause_ms"].as_u64().unwrap_or(0);
                if matches!(known.state.as_str(), "done" | "given_up") {
                    known.ended = Some(self.clock.now());
                    return;
                }
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn begin(&self, tenant: usize) -> Option<(u64, String)> {
        let name = &self.tenants[tenant];
        for operator in &self.operators {
            let asked = ask_for_move(std::slice::from_ref(operator), name, &self.shards);
            if let Ok(Ok(begun)) = tokio::time::timeout(ANSWERS_WITHIN, asked).await {
                return Some(begun);
            }
        }
        None
    }
}

async fn ask_for_move(operators: &[Client], tenant: &str, shards: &[String]) -> Result<(u64, String)> {
    let record = ask(operators, &format!("/api/v1/admin/tenants/{tenant}")).await?;
    let at = shards.iter().position(|s| record["shard"] == **s).context("a shard of this federation")?;
    let to = shards[(at + 1) % shards.len()].clone();
    let begun = tell(operators, "/api/v1/admin/moves", &json!({"tenant": tenant, "to": to})).await?;
    Ok((begun["id"].as_u64().context("a move with an id")?, to))
}
