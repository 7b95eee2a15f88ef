//! `conflux shard list` and `conflux status`: for operators.

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::{Session, cell, items};
use crate::output::Table;

#[derive(Debug, Subcommand)]
pub enum ShardCommand {
    /// List the shard groups that placement knows
    List,
}

pub async fn shards(command: ShardCommand, session: Session) -> anyhow::Result<()> {
    let ShardCommand::List = command;
    let client = session.operator()?;
    let answer = client.json(client.call(Method::GET, &["api", "v1", "admin", "shards"])).await?;
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
    session.output.list(table, answer)
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
    use serde_json::json;

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
