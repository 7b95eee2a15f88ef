//! `conflux restored`: placement's records against what the shards have, and operators' decisions.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Session, cell, items, pages};
use crate::{client::Client, output::Table};

#[derive(Debug, Subcommand)]
pub enum RestoredCommand {
    /// List tenants that are not served, are missing, or are claimed by a shard that placement does not name
    #[command(after_help = "Example:\n  conflux restored list")]
    List,
    /// Serve a shard's restored copy of a tenant: it gets a fresh epoch, any other copy is refused from then on
    #[command(after_help = "Example:\n  conflux restored serve 17 --shard shard-a")]
    Serve(Copy),
    /// Give a shard's restored copy up; a tombstone stays
    #[command(after_help = "Example:\n  conflux restored drop 17 --shard shard-a --yes")]
    Drop {
        #[command(flatten)]
        copy: Copy,
        /// Yes, with everything in it
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// Which copy.
#[derive(Debug, Args)]
pub struct Copy {
    /// The tenant's id, as `conflux restored list` shows it
    id: u64,
    /// The shard that has the copy
    #[arg(long)]
    shard: String,
}

/// A tenant of which placement and shards do not say the same.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
struct Finding {
    id: u64,
    name: String,
    shard: String,
    is: String,
    what_to_do: &'static str,
}

pub async fn run(command: RestoredCommand, session: Session) -> anyhow::Result<()> {
    let (client, output) = (session.operator()?, session.output);
    match command {
        RestoredCommand::List => {
            let records = pages(&client, &["api", "v1", "admin", "tenants"], &[], "tenants").await?;
            let shards = client.json(client.call(Method::GET, &["api", "v1", "admin", "shards"])).await?;
            let mut held = BTreeMap::new();
            for shard in items(&shards, "shards") {
                let name = cell(shard, "name");
                let tenants = tenants_of(&client, &name).await?;
                held.insert(name, tenants);
            }
            let findings = compare(&records, &held);
            let mut table = Table::new(&["ID", "TENANT", "SHARD", "IS", "WHAT TO DO"]);
            for f in &findings {
                let (name, shard, is) = (f.name.clone(), f.shard.clone(), f.is.clone());
                table.row([f.id.to_string(), name, shard, is, f.what_to_do.to_owned()]);
            }
            output.list(table, json!({ "tenants": findings }))
        }
        RestoredCommand::Serve(copy) => {
            let answer = decide(&client, &copy, "serve").await?;
            output.done(&format!("tenant {} is served by {} at epoch {}", copy.id, copy.shard, answer["epoch"]), answer)
        }
        RestoredCommand::Drop { copy, yes: _ } => {
            let answer = decide(&client, &copy, "drop").await?;
            output.done(&format!("{} gives its copy of tenant {} up", copy.shard, copy.id), answer)
        }
    }
}

async fn tenants_of(client: &Client, shard: &str) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let call = client.call_with(Method::GET, &["_cluster", shard, "restored"], &[("after", &after)]);
        let page = client.json(call).await?;
        all.extend_from_slice(items(&page, "tenants"));
        after = cell(&page, "next");
        if after.is_empty() {
            return Ok(all);
        }
    }
}

async fn decide(client: &Client, copy: &Copy, decision: &str) -> anyhow::Result<Value> {
    let path = ["_cluster", &copy.shard, "restored", &copy.id.to_string()];
    Ok(client.json(client.call(Method::POST, &path).json(&json!({ "decision": decision }))).await?)
}

/// Pure: what does not fit together.
fn compare(records: &[Value], held: &BTreeMap<String, Vec<Value>>) -> Vec<Finding> {
    let by_id: BTreeMap<u64, &Value> = records.iter().filter_map(|r| Some((r["id"].as_u64()?, r))).collect();
    let mut findings = Vec::new();
    for (shard, tenants) in held {
        for tenant in tenants.iter().filter(|t| t["state"] == "active") {
            let id = tenant["id"].as_u64().unwrap_or_default();
            let epoch = &tenant["epoch"];
            let waits = tenant["waits"] == true;
            let record = by_id.get(&id);
            let is = match record {
                None => format!("here at epoch {epoch}; placement does not know it"),
                Some(r) if cell(r, "shard") != *shard => {
                    format!("here at epoch {epoch}; placement gives it to {} at epoch {}", cell(r, "shard"), r["epoch"])
                }
                Some(r) if r["epoch"] != *epoch => format!("here at epoch {epoch}; placement has epoch {}", r["epoch"]),
                Some(_) if waits => "being compared with placement".into(),
                Some(_) => continue,
            };
            let ours = record.is_some_and(|r| cell(r, "shard") == *shard && r["epoch"] == *epoch);
            let what_to_do = match (ours, waits) {
                (true, _) => "wait",
                (false, true) => "serve or drop this copy",
                (false, false) => {
                    "placement was restored from an older backup: restore this shard too, or its newer backup"
                }
            };
            findings.push(Finding { id, name: cell(tenant, "name"), shard: shard.clone(), is, what_to_do });
        }
    }
    for (id, record) in by_id {
        let shard = cell(record, "shard");
        let row = held.get(&shard).and_then(|all| all.iter().find(|t| t["id"] == id));
        let is = match row {
            Some(row) if row["state"] == "active" || record["state"] != "stable" => continue,
            Some(row) => format!("{} there at epoch {}; placement has it as stable", cell(row, "state"), row["epoch"]),
            None if record["state"] != "stable" => continue,
            None => "missing: placement has it as stable, the shard has nothing of it".into(),
        };
        let what_to_do = "delete the tenant, or serve another shard's copy";
        findings.push(Finding { id, name: cell(record, "name"), shard, is, what_to_do });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is not served must be found here, with what can be done; and nothing else.
    #[test]
    fn what_does_not_fit_is_found() {
        let record = |id: u64, shard: &str, epoch: u64, state: &str| json!({"id": id, "name": format!("t{id}"), "shard": shard, "epoch": epoch, "state": state});
        let row = |id: u64, epoch: u64, state: &str, waits: bool| json!({"id": id, "name": format!("t{id}"), "epoch": epoch, "state": state, "waits": waits});
        let records = [
            record(1, "a", 1, "stable"),
            record(2, "b", 3, "stable"),
            record(3, "a", 1, "stable"),
            record(4, "a", 1, "stable"),
            record(6, "b", 2, "deleting"),
        ];
        let a = vec![
            row(1, 1, "active", false),
            row(2, 1, "active", true),
            row(4, 2, "deleted", false),
            row(5, 1, "active", true),
        ];
        let b = vec![row(2, 3, "active", false)];
        let found = compare(&records, &[("a".to_owned(), a), ("b".to_owned(), b)].into());
        let told: Vec<(u64, &str)> = found.iter().map(|f| (f.id, f.is.as_str())).collect();
        assert_eq!(
            told,
            [
                (2, "here at epoch 1; placement gives it to b at epoch 3"),
                (5, "here at epoch 1; placement does not know it"),
                (3, "missing: placement has it as stable, the shard has nothing of it"),
                (4, "deleted there at epoch 2; placement has it as stable"),
            ]
        );
        assert_eq!(found[0].what_to_do, "serve or drop this copy");
    }
}
