//! `conflux tenant`: for operators.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Session, cell, items, pages};
use crate::output::Table;

const PATH: [&str; 4] = ["api", "v1", "admin", "tenants"];

#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make a tenant
    #[command(after_help = "Example:\n  conflux tenant create acme --description 'The Acme company'")]
    Create {
        name: String,
        #[arg(long, default_value = "")]
        description: String,
        /// On this shard group [default: placement chooses by weight]
        #[arg(long)]
        shard: Option<String>,
    },
    /// List all tenants with the shards that hold them
    List,
    /// Show one
    Get { name: String },
    /// What a tenant may have
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Delete a tenant with everything in it
    #[command(after_help = "Example:\n  conflux tenant delete acme --yes\n\n\
        It stops being served at once and cannot be brought back but from a backup.")]
    Delete {
        name: String,
        /// Yes, with everything in it
        #[arg(long, required = true)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Show a tenant's quotas
    Get { name: String },
    /// Change some of them; the others stay
    #[command(after_help = "Example:\n  conflux tenant quota set acme --configs 5000 --config-bytes 1048576\n\n\
        0 goes back to the default. A quota holds for what grows: what is above a lowered one stays.")]
    Set(SetArgs),
}

#[derive(Debug, Args)]
pub struct SetArgs {
    name: String,
    /// Configs [default: 1000]
    #[arg(long)]
    configs: Option<u64>,
    /// Bytes of one content, at most 1048576 [default: 102400]
    #[arg(long)]
    config_bytes: Option<u64>,
    /// Versions kept of one config [default: 10000]
    #[arg(long)]
    versions: Option<u64>,
    /// Bytes of all contents, each counted once [default: 1073741824]
    #[arg(long)]
    total_bytes: Option<u64>,
}

pub async fn run(command: TenantCommand, session: Session) -> anyhow::Result<()> {
    let (client, output) = (session.operator()?, session.output);
    match command {
        TenantCommand::Create { name, description, shard } => {
            let mut body = json!({"name": name, "description": description});
            if let Some(shard) = shard {
                body["shard"] = json!(shard);
            }
            let made = client.json(client.call(Method::POST, &PATH).json(&body)).await?;
            output.done(&format!("tenant {name} is {} on {}", cell(&made, "state"), cell(&made, "shard")), made)
        }
        TenantCommand::List => {
            let tenants = pages(&client, &PATH, &[], "tenants").await?;
            output.list(table(&tenants), json!({"tenants": tenants}))
        }
        TenantCommand::Get { name } => {
            let answer = client.json(client.call(Method::GET, &[&PATH[..], &[&name]].concat())).await?;
            output.list(table(std::slice::from_ref(&answer)), answer)
        }
        TenantCommand::Quota(QuotaCommand::Get { name }) => {
            let answer = client.json(client.call(Method::GET, &quotas(&name))).await?;
            output.list(quota_table(&answer), answer)
        }
        TenantCommand::Quota(QuotaCommand::Set(args)) => {
            let now = client.json(client.call(Method::GET, &quotas(&args.name))).await?;
            let answer = client.json(client.call(Method::PUT, &quotas(&args.name)).json(&changed(&now, &args))).await?;
            if answer["applied"] != true {
                eprintln!("conflux: the tenant's shard has not heard of it yet; it will");
            }
            output.list(quota_table(&answer), answer)
        }
        TenantCommand::Delete { name, yes: _ } => {
            let answer = client.json(client.call(Method::DELETE, &[&PATH[..], &[&name]].concat())).await?;
            output.done(&format!("tenant {name}: {}", cell(&answer, "state")), answer)
        }
    }
}

fn quotas(name: &str) -> Vec<&str> {
    PATH.iter().copied().chain([name, "quotas"]).collect()
}

/// Those that an operator had set stay as they are unless this call names them.
fn changed(now: &Value, args: &SetArgs) -> Value {
    let mut body = serde_json::Map::new();
    for (key, given) in [
        ("configs", args.configs),
        ("config_bytes", args.config_bytes),
        ("versions", args.versions),
        ("total_bytes", args.total_bytes),
    ] {
        let was_set = items(now, "set").iter().any(|name| name == key);
        if let Some(value) = given.or_else(|| now[key].as_u64().filter(|_| was_set)) {
            body.insert(key.to_owned(), json!(value));
        }
    }
    Value::Object(body)
}

fn quota_table(quotas: &Value) -> Table {
    let mut table = Table::new(&["QUOTA", "VALUE", "FROM"]);
    for key in ["configs", "config_bytes", "versions", "total_bytes"] {
        let was_set = items(quotas, "set").iter().any(|name| name == key);
        table.row([key.to_owned(), cell(quotas, key), if was_set { "operator" } else { "default" }.to_owned()]);
    }
    table
}

fn table(tenants: &[Value]) -> Table {
    let mut table = Table::new(&["NAME", "ID", "SHARD", "EPOCH", "STATE", "DESCRIPTION"]);
    for t in tenants {
        let text = |key| cell(t, key);
        table.row([text("name"), text("id"), text("shard"), text("epoch"), text("state"), text("description")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changing one quota must not take back another that an operator has set.
    #[test]
    fn quotas_that_are_not_named_stay() {
        let now =
            json!({"configs": 5000, "config_bytes": 102_400, "versions": 10_000, "total_bytes": 1, "set": ["configs"]});
        let args = SetArgs {
            name: "acme".into(),
            configs: None,
            config_bytes: Some(1 << 20),
            versions: Some(0),
            total_bytes: None,
        };
        assert_eq!(changed(&now, &args), json!({"configs": 5000, "config_bytes": 1 << 20, "versions": 0}));
    }
}
