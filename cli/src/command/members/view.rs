//! What a group says of itself, asked through a gateway, and the tables of it.

use reqwest::Method;
use serde_json::Value;

use super::super::{cell, items};
use crate::{
    client::Client,
    failure::Failure,
    output::{Output, Table, line},
};

/// One group of a federation.
pub struct GroupView<'a> {
    pub client: &'a Client,
    pub group: &'a str,
}

impl GroupView<'_> {
    /// `/_cluster/{group}/status`
    pub async fn status(&self) -> Result<Value, Failure> {
        self.client.json(self.client.call(Method::GET, &["_cluster", self.group, "status"])).await
    }
}

/// The member of this name in a group's status, if the group has one.
pub fn member<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    items(status, "members").iter().find(|m| m["member"] == name && !m["voter"].is_null())
}

/// The leader's name.
pub fn leader(status: &Value) -> Option<&str> {
    let id = status["leader"].as_u64()?;
    items(status, "members").iter().find(|m| m["node_id"] == id)?["member"].as_str()
}

/// Log entries that it is not known to have.
pub fn lag(status: &Value, member: &Value) -> Option<u64> {
    let last = status["last_log_index"].as_u64()?;
    let matched = member["matched_index"].as_u64().or_else(|| member["status"]["last_log_index"].as_u64());
    matched.map(|has| last.saturating_sub(has))
}

/// Whoever did not answer may be dead, whatever the others still call it.
pub fn role(status: &Value, member: &Value) -> &'static str {
    let leads = !member["node_id"].is_null() && member["node_id"] == status["leader"];
    match (member["error"].is_null(), leads, member["voter"].as_bool()) {
        (_, _, None) => "no member",
        (false, _, Some(false)) => "no answer (learner)",
        (false, _, Some(true)) => "no answer",
        (true, true, _) => "leader",
        (true, _, Some(true)) => "follower",
        (true, _, Some(false)) => "learner",
    }
}

/// One group, member by member.
pub async fn one(group: &GroupView<'_>, output: Output) -> anyhow::Result<()> {
    let status = group.status().await?;
    output.list(members(&status), status.clone())?;
    tell_problems(output, std::slice::from_ref(&status))
}

/// All groups, a line for each.
pub async fn all(client: &Client, output: Output) -> anyhow::Result<()> {
    let answer = client.json(client.call(Method::GET, &["_cluster", "status"])).await?;
    let groups = items(&answer, "groups").to_vec();
    output.list(summary(&groups), answer)?;
    tell_problems(output, &groups)
}

/// Below the table, for people; programs have them in the object.
fn tell_problems(output: Output, groups: &[Value]) -> anyhow::Result<()> {
    if output == Output::Json {
        return Ok(());
    }
    for text in problems(groups) {
        line(&text)?;
    }
    Ok(())
}

/// What is wrong with a group or one of its members, a line each.
pub fn problems(groups: &[Value]) -> Vec<String> {
    let mut told = Vec::new();
    for group in groups {
        let name = cell(group, "group");
        told.extend(items(group, "problems").iter().filter_map(Value::as_str).map(|p| format!("! {name}: {p}")));
        for member in items(group, "members") {
            let who = cell(member, "member");
            told.extend(items(member, "problems").iter().filter_map(Value::as_str).map(|p| format!("! {who}: {p}")));
        }
    }
    told
}

fn summary(groups: &[Value]) -> Table {
    let mut table = Table::new(&["GROUP", "LEADER", "TERM", "LAST", "VOTERS", "ANSWER", "LEVEL", "STATE"]);
    for group in groups {
        let voters: Vec<&Value> = items(group, "members").iter().filter(|m| m["voter"] == true).collect();
        let answer = voters.iter().filter(|m| m["error"].is_null()).count();
        table.row([
            cell(group, "group"),
            leader(group).unwrap_or_default().to_owned(),
            cell(group, "term"),
            cell(group, "last_log_index"),
            voters.len().to_string(),
            answer.to_string(),
            cell(group, "level"),
            if problems(std::slice::from_ref(group)).is_empty() { "ok" } else { "see below" }.into(),
        ]);
    }
    table
}

fn members(status: &Value) -> Table {
    let head =
        ["MEMBER", "NODE", "ROLE", "TERM", "APPLIED", "LAST", "LAG", "RELEASE", "LEVEL", "DATA", "FREE", "ADDRESS"];
    let mut table = Table::new(&head);
    for member in items(status, "members") {
        let own = &member["status"];
        let disk = &own["disk"];
        let data = disk["log_bytes"].as_u64().zip(disk["state_bytes"].as_u64()).map(|(l, s)| bytes(l + s));
        let free = disk["free_bytes"].as_u64().map(|b| format!("{} ({} %)", bytes(b), cell(disk, "free_percent")));
        table.row([
            cell(member, "member"),
            cell(member, "node_id"),
            role(status, member).into(),
            cell(own, "term"),
            cell(own, "applied_index"),
            cell(own, "last_log_index"),
            lag(status, member).map(|n| n.to_string()).unwrap_or_default(),
            cell(own, "version"),
            cell(own, "level"),
            data.unwrap_or_default(),
            free.unwrap_or_default(),
            cell(member, "service_address"),
        ]);
    }
    table
}

/// For people: three digits are enough.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What an operator decides by must be in the table, also of a member that does not answer.
    #[test]
    fn the_table_shows_who_is_where() {
        let status = json!({"group": "a", "leader": 1, "last_log_index": 90, "problems": ["2 of 3 voters answer"],
        "members": [
            {"member": "a-1", "node_id": 1, "voter": true, "status": {"term": 4, "applied_index": 90,
                "last_log_index": 90, "version": "0.1.0", "level": 2,
                "disk": {"log_bytes": 1 << 20, "state_bytes": 1 << 20, "free_bytes": 5_u64 << 30, "free_percent": 50}}},
            {"member": "a-2", "node_id": 2, "voter": true, "matched_index": 80, "error": "refused",
                "problems": ["the gateway has no answer: refused"]},
            {"member": "a-3", "node_id": 1003, "voter": false, "matched_index": 10, "status": {"term": 4}},
        ]});
        let shown = members(&status).render();
        let row = |name: &str| shown.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        for part in ["leader", "2.0 MiB", "5.0 GiB (50 %)", "0.1.0"] {
            assert!(row("a-1").contains(part), "{part}: {shown}");
        }
        assert!(row("a-2").contains("no answer") && row("a-2").contains(" 10 "), "{shown}");
        assert!(row("a-3").contains("learner") && row("a-3").contains(" 80 "), "{shown}");
        assert_eq!(
            problems(std::slice::from_ref(&status)),
            ["! a: 2 of 3 voters answer", "! a-2: the gateway has no answer: refused"]
        );
        assert!(summary(&[status]).render().contains("see below"));
    }
}
