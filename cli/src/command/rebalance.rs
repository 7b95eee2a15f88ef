//! `conflux rebalance` and `conflux shard drain`: plans of moves, and carrying them out. A plan is placement's; here its moves are
//! started, a few at a time, and followed. Interrupted or repeated, this does no harm: what has begun goes on by itself, and the
//! next plan begins with what it finds.

use std::collections::VecDeque;

use anyhow::Context;
use clap::Args;
use conflux_common::error::Code;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Session, cell, items,
    moves::{self, LOOK_EVERY, Teller},
};
use crate::{
    client::Client,
    failure::{Failure, exit},
    output::{self, Output, Table},
};

/// For `--help`.
pub const HELP: &str = "Examples:\n  conflux rebalance --plan\n  conflux rebalance --execute\n  \
    conflux rebalance --execute --at-once 2 --limit 20\n\n\
    Shards of weight 0 are emptied; the others get what their weights say (`conflux shard weight`), with as few bytes moved as it\n\
    takes. Ctrl-C ends the command, not the moves that have begun; run it again to go on. Exit code 1: a move was given up.";

#[derive(Debug, Args)]
#[group(skip)]
pub struct RebalanceArgs {
    /// Show which tenants should move where, and why; nothing is moved
    #[arg(long, required_unless_present = "execute", conflicts_with = "execute")]
    plan: bool,
    /// Make the moves, and show how far they have come
    #[arg(long)]
    execute: bool,
    /// Moves under way at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,
    /// At most so many moves, 1 to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

pub async fn run(args: RebalanceArgs, session: Session) -> anyhow::Result<()> {
    let client = session.operator()?;
    let plan = plan(&client, None, args.limit).await?;
    if !args.execute {
        return show(&plan, session.output);
    }
    let ended = carry_out(&client, &plan, usize::from(args.at_once), session.output).await?;
    tell_notes(&plan);
    let text = format!("{} moved, {} not", ended.moved, ended.failed.len());
    ended.tell(&text, session.output)
}

/// Sets the weight to 0 and moves all tenants away, until none is left.
pub async fn drain(client: &Client, shard: &str, at_once: usize, output: Output) -> anyhow::Result<()> {
    let path = ["api", "v1", "admin", "shards", shard];
    let now = client.json(client.call(Method::PATCH, &path).json(&json!({"weight": 0}))).await?;
    if output == Output::Table {
        output::line(&format!("{shard} has weight {}: it takes no new tenants", cell(&now, "weight")))?;
    }
    let mut all = Ended::default();
    loop {
        let plan = plan(client, Some(shard), 1000).await?;
        let standing =
            items(&plan, "shards").iter().find(|s| s["name"] == shard).context("the shard is not in the plan")?;
        let left = standing["before"]["tenants"].as_u64().unwrap_or_default();
        let under_way = under_way_from(client, shard).await?;
        if left == 0 && under_way.is_empty() {
            let text = format!("{shard} is empty: `conflux shard remove {shard}` forgets it");
            return all.tell(&text, output);
        }
        if items(&plan, "moves").is_empty() && under_way.is_empty() {
            tell_notes(&plan);
            anyhow::bail!("{left} tenants are left on {shard} and cannot be moved now");
        }
        let ended = follow(client, todo(&plan), under_way, at_once, output).await?;
        let stuck = ended.moved == 0;
        all.moved += ended.moved;
        all.failed = ended.failed;
        if stuck {
            // Nothing came about in a whole round: somebody has to look.
            let text = format!("{} tenants could not be moved away from {shard}", all.failed.len());
            return all.tell(&text, output);
        }
    }
}

async fn plan(client: &Client, drain: Option<&str>, limit: u16) -> Result<Value, Failure> {
    let limit = limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(drain.map(|shard| ("drain", shard)));
    client.json(client.call_with(Method::GET, &["api", "v1", "admin", "rebalance"], &query)).await
}

/// Moves that were begun before, away from this shard.
async fn under_way_from(client: &Client, shard: &str) -> anyhow::Result<Vec<Value>> {
    let path = ["api", "v1", "admin", "moves"];
    let mut moves = super::pages(client, &path, &[("state", "under_way")], "moves").await?;
    moves.retain(|m| m["from"] == shard);
    Ok(moves)
}

fn show(plan: &Value, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return output.done("", plan.clone());
    }
    output::line(shards_table(plan).render().trim_end_matches('\n'))?;
    output::line("")?;
    if items(plan, "moves").is_empty() {
        output::line("Nothing is to be moved.")?;
    } else {
        output::line(moves_table(plan).render().trim_end_matches('\n'))?;
        output::line(&format!("\n{} moves, {}", items(plan, "moves").len(), size(plan["bytes"].as_u64())))?;
    }
    if plan["under_way"].as_u64().is_some_and(|n| n > 0) {
        output::line(&format!("{} moves are under way and counted as done", cell(plan, "under_way")))?;
    }
    tell_notes(plan);
    Ok(())
}

fn tell_notes(plan: &Value) {
    for note in items(plan, "notes") {
        eprintln!("conflux: {}", output::plain(note.as_str().unwrap_or_default()));
    }
}

fn moves_table(plan: &Value) -> Table {
    let mut table = Table::new(&["TENANT", "FROM", "TO", "SIZE", "WHY"]);
    for m in items(plan, "moves") {
        table.row([cell(m, "tenant"), cell(m, "from"), cell(m, "to"), size(m["bytes"].as_u64()), cell(m, "why")]);
    }
    table
}

/// Each shard before and after, as `before -> after`.
fn shards_table(plan: &Value) -> Table {
    let mut table = Table::new(&["SHARD", "WEIGHT", "LOAD %", "TENANTS", "SIZE", "WRITES/S", "FETCHES/S", "NOTE"]);
    for s in items(plan, "shards") {
        let both = |of: &dyn Fn(&Value) -> String| {
            let (before, after) = (of(&s["before"]), of(&s["after"]));
            if before == after { before } else { format!("{before} -> {after}") }
        };
        let rate = |key: &'static str| move |v: &Value| format!("{:.1}", v[key].as_f64().unwrap_or_default());
        let note = match (&s["trouble"], &s["emptied"]) {
            (Value::String(why), _) => format!("does not answer: {why}"),
            (_, Value::Bool(true)) => "is emptied".to_owned(),
            _ => String::new(),
        };
        table.row([
            cell(s, "name"),
            cell(s, "weight"),
            both(&|v| v["load_percent"].as_u64().map_or_else(|| "-".to_owned(), |p| p.to_string())),
            both(&|v| cell(v, "tenants")),
            both(&|v| size(v["bytes"].as_u64())),
            both(&rate("writes_per_second")),
            both(&rate("fetches_per_second")),
            note,
        ]);
    }
    table
}

/// Bytes for people.
fn size(bytes: Option<u64>) -> String {
    let bytes = bytes.unwrap_or_default();
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

/// What became of the moves.
#[derive(Debug, Default)]
struct Ended {
    moved: usize,
    /// Tenant and reason.
    failed: Vec<(String, String)>,
}

impl Ended {
    /// The end of the command: exit code 1 where something was not moved.
    fn tell(self, text: &str, output: Output) -> anyhow::Result<()> {
        let failed: Vec<Value> = self.failed.iter().map(|(t, why)| json!({"tenant": t, "why": why})).collect();
        match output {
            Output::Table => {
                for (tenant, why) in &self.failed {
                    output::line(&output::plain(&format!("not moved: {tenant}: {why}")))?;
                }
                output::line(text)?;
            }
            Output::Json => output::line(&json!({"moved": self.moved, "failed": failed}).to_string())?,
        }
        if self.failed.is_empty() { Ok(()) } else { Err(Failure::Told(exit::FAILED).into()) }
    }
}

/// Tenant and destination of each move of a plan.
fn todo(plan: &Value) -> VecDeque<(String, String)> {
    items(plan, "moves").iter().map(|m| (cell(m, "tenant"), cell(m, "to"))).collect()
}

async fn carry_out(client: &Client, plan: &Value, at_once: usize, output: Output) -> anyhow::Result<Ended> {
    follow(client, todo(plan), Vec::new(), at_once, output).await
}

/// Makes the moves, so many at a time, and waits for them and for those that have begun.
async fn follow(
    client: &Client,
    mut todo: VecDeque<(String, String)>,
    begun: Vec<Value>,
    at_once: usize,
    output: Output,
) -> anyhow::Result<Ended> {
    let (mut ended, mut teller) = (Ended::default(), Teller::default());
    let mut running: Vec<u64> = begun.iter().map(moves::id_of).collect();
    while !todo.is_empty() || !running.is_empty() {
        while running.len() < at_once {
            let Some((tenant, to)) = todo.pop_front() else { break };
            match moves::start(client, &tenant, &to).await {
                Ok(m) => {
                    teller.tell(&m, output)?;
                    running.push(moves::id_of(&m));
                }
                // Placement is busy or elects a leader: the same call again begins no second move.
                Err(e) if e.may_pass() => {
                    todo.push_front((tenant, to));
                    break;
                }
                Err(Failure::Refused { info, .. }) if is_of_the_tenant(info.code) => {
                    ended.failed.push((tenant, info.message));
                }
                Err(e) => return Err(e.into()),
            }
        }
        let mut still = Vec::new();
        for id in running {
            match moves::show(client, id).await {
                Ok(m) => {
                    teller.tell(&m, output)?;
                    match m["state"].as_str() {
                        Some("done") => ended.moved += 1,
                        _ if moves::has_ended(&m) => ended.failed.push((cell(&m, "tenant"), cell(&m, "reason"))),
                        _ => still.push(id),
                    }
                }
                Err(e) if e.may_pass() => still.push(id),
                Err(e) => return Err(e.into()),
            }
        }
        running = still;
        if !running.is_empty() || !todo.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(ended)
}

/// Refusals that say something of one tenant: the others can still be moved.
fn is_of_the_tenant(code: Code) -> bool {
    matches!(code, Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument | Code::Aborted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator decides by this table: what changes, and what a shard says, must be in it.
    #[test]
    fn a_plan_is_shown_before_and_after() {
        let carried = |tenants: u64, percent: Value| json!({"tenants": tenants, "bytes": tenants << 20, "writes_per_second": 2.5, "fetches_per_second": 0.0, "load_percent": percent});
        let plan = json!({
            "shards": [
                {"name": "a", "weight": 100, "emptied": false, "trouble": null, "before": carried(4, json!(200)), "after": carried(2, json!(100))},
                {"name": "b", "weight": 0, "emptied": true, "trouble": null, "before": carried(1, Value::Null), "after": carried(1, Value::Null)},
                {"name": "c", "weight": 100, "emptied": false, "trouble": "no leader", "before": carried(0, json!(0)), "after": carried(0, json!(0))},
            ],
            "moves": [{"tenant": "t1", "from": "a", "to": "b", "bytes": 1_572_864, "why": "a carries 200 % of its share"}],
        });
        let shards = shards_table(&plan).render();
        assert!(shards.contains("200 -> 100") && shards.contains("4.0 MiB -> 2.0 MiB"), "{shards}");
        assert!(shards.contains("is emptied") && shards.contains("does not answer: no leader"), "{shards}");
        let moves = moves_table(&plan).render();
        assert!(moves.contains("1.5 MiB") && moves.contains("200 % of its share"), "{moves}");
        assert_eq!(todo(&plan), [("t1".to_owned(), "b".to_owned())]);
        assert_eq!(size(Some(900)), "900 B");
    }
}
