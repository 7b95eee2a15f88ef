//! `conflux tenant`: for operators.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Session, cell, pages};
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
        TenantCommand::Delete { name, yes: _ } => {
            let answer = client.json(client.call(Method::DELETE, &[&PATH[..], &[&name]].concat())).await?;
            output.done(&format!("tenant {name}: {}", cell(&answer, "state")), answer)
        }
    }
}

fn table(tenants: &[Value]) -> Table {
    let mut table = Table::new(&["NAME", "ID", "SHARD", "EPOCH", "STATE", "DESCRIPTION"]);
    for t in tenants {
        let text = |key| cell(t, key);
        table.row([text("name"), text("id"), text("shard"), text("epoch"), text("state"), text("description")]);
    }
    table
}
