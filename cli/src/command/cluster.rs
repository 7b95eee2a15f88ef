//! `conflux shard list|weight|drain|remove` and `conflux status`: for operators.

use clap::Subcommand;
use conflux_common::error::Code;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Session, cell, items};
use crate::{
    client::Client,
    failure::{Failure, exit},
    output::{Output, Table, plain},
};

#[derive(Debug, Subcommand)]
pub enum ShardCommand {
    /// List the shard groups that placement knows
    List,
    /// Move all tenants of a shard to the others, and let no new ones come
    #[command(after_help = "Examples:\n  conflux shard drain shard-c\n  conflux shard drain shard-c --at-once 2\n\n\
        Sets the weight to 0, then moves the tenants while they are in use, and ends when none is left. Interrupted, it is simply run\n\
        again. `conflux rebalance --plan` shows what would go where. Exit code 1: a tenant could not be moved, and why.")]
    Drain {
        name: String,
        /// Moves under way at a time
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
        at_once: u16,
    },
    /// Set how many of the new tenants a shard takes, against the others' weights; nobody is moved by that alone
    #[command(after_help = "Example:\n  conflux shard weight shard-c 300\n\n0: it takes no new tenants.")]
    Weight {
        name: String,
        /// 0 to 10000
        weight: u32,
    },
    /// Forget a shard that has no tenants
    #[command(after_help = "Example:\n  conflux shard remove shard-c\n\n\
        Refused while it has tenants. Stop the processes of its members afterwards: what they still report is refused. The name \
        is free for a group that is founded anew, from empty data directories.")]
    Remove { name: String },
}

const SHARDS: [&str; 4] = ["api", "v1", "admin", "shards"];

pub async fn shards(command: ShardCommand, session: Session) -> anyhow::Result<()> {
    let client = session.operator()?;
    match command {
        ShardCommand::List => list(&client, session.output).await,
        ShardCommand::Weight { name, weight } => {
            let call = client.call(Method::PATCH, &[&SHARDS[..], &[&name]].concat()).json(&json!({"weight": weight}));
            let answer = client.json(call).await?;
            session.output.done(&format!("{name} has weight {}", cell(&answer, "weight")), answer)
        }
        ShardCommand::Drain { name, at_once } => {
            super::rebalance::drain(&client, &name, usize::from(at_once), session.output).await
        }
        ShardCommand::Remove { name } => {
            let call = client.call(Method::DELETE, &[&SHARDS[..], &[&name]].concat());
            match client.json(call).await {
                Ok(_) => session.output.done(&format!("{name} is removed: stop its members"), json!({"removed": name})),
                // It says what to do itself; the usual advice for this code would be wrong.
                Err(Failure::Refused { info, .. }) if info.code == Code::FailedPrecondition => {
                    eprintln!("conflux: refused: {}", plain(&info.message));
                    Err(Failure::Told(exit::CONFLICT).into())
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let answer = client.json(client.call(Method::GET, &SHARDS)).await?;
    let mut table = Table::new(&["SHARD", "WEIGHT", "MEMBER", "NODE", "VOTER", "LEADER", "ADDRESS"]);
    for shard in items(&answer, "shards") {
        for member in items(shard, "members") {
            let leads = shard["leader"] == member["node_id"] || shard["leader"] == member["name"];
            table.row([
                cell(shard, "name"),
                cell(shard, "weight"),
                cell(member, "name"),
                cell(member, "node_id"),
                cell(member, "voter"),
                if leads { "yes".into() } else { String::new() },
                cell(member, "service_address"),
            ]);
        }
    }
    output.list(table, answer)
}

/// All groups at a glance.
pub async fn status(session: Session) -> anyhow::Result<()> {
    let client = session.operator()?;
    let answer = client.json(client.call(Method::GET, &["_cluster", "status"])).await?;
    session.output.list(status_table(&answer), answer)
}

fn status_table(answer: &Value) -> Table {
    let mut table = Table::new(&["GROUP", "MEMBER", "NODE", "ROLE", "TERM", "LAST INDEX", "LAG", "ADDRESS"]);
    for group in items(answer, "groups") {
        let status = if group["status"].is_object() { &group["status"] } else { group };
        let name = if group["group"].is_string() { cell(group, "group") } else { cell(group, "name") };
        let members = items(status, "members");
        if members.is_empty() {
            let why = if group["error"].is_object() { cell(&group["error"], "message") } else { cell(group, "error") };
            let role = if why.is_empty() { "unknown".into() } else { why };
            table.row([
                name,
                String::new(),
                String::new(),
                role,
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ]);
            continue;
        }
        for member in members {
            let last = status["last_log_index"].as_u64();
            let lag =
                last.zip(member["matched_index"].as_u64()).map(|(last, has)| last.saturating_sub(has).to_string());
            let leads = !member["node_id"].is_null() && member["node_id"] == status["leader"];
            // Whoever did not answer the gateway may be dead, whatever the others still call it.
            let silent = !member["error"].is_null();
            let role = match (silent, leads, member["voter"].as_bool()) {
                (true, _, Some(false)) => "no answer (learner)",
                (true, ..) => "no answer",
                (_, true, _) => "leader",
                (_, _, Some(true)) => "follower",
                (_, _, Some(false)) => "learner",
                // The gateway still knows its address; the group has it no more.
                (_, _, None) => "no member",
            };
            table.row([
                name.clone(),
                cell(member, "member"),
                cell(member, "node_id"),
                role.into(),
                cell(status, "term"),
                cell(status, "last_log_index"),
                if leads { "0".into() } else { lag.unwrap_or_default() },
                cell(member, "service_address"),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that was killed stood in the table as a follower like any other.
    #[test]
    fn a_member_that_does_not_answer_is_told_from_one_that_does() {
        let member = |n: u64, voter: bool| json!({"member": format!("a-{n}"), "node_id": n, "voter": voter});
        let mut members = vec![member(1, true), member(2, true), member(3, true), member(4, false)];
        members[2]["error"] = json!("connection refused");
        members.push(json!({"member": "a-5", "node_id": 5, "service_address": "h:5"}));
        let answer = json!({"groups": [{"group": "a", "leader": 1, "term": 4, "members": members}]});
        let shown = status_table(&answer).render();
        let row = |name: &str| shown.lines().find(|l| l.contains(name)).unwrap().to_owned();
        assert!(row("a-1").contains("leader"), "{shown}");
        assert!(row("a-2").contains("follower"), "{shown}");
        assert!(row("a-3").contains("no answer") && !row("a-3").contains("follower"), "{shown}");
        assert!(row("a-4").contains("learner"), "{shown}");
        assert!(row("a-5").contains("no member"), "{shown}");
    }
}
