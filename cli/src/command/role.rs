//! `conflux role`: what the holders of a tenant's keys may do, for operators.

use std::str::FromStr;

use anyhow::Context;
use clap::Subcommand;
use conflux_common::grant::{Action, ResourcePattern};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Session, cell, items};
use crate::output::Table;

#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Make or replace a role of a tenant
    #[command(after_help = "Example:\n  conflux role set --tenant acme shop-writer \\\n    \
        --grant 'read=shop/*/*' --grant 'write=shop/dev/*'\n\n\
        Actions: read, write, delete, list, publish. Patterns: app/env/name, `*` stands for any characters of its part.")]
    Set {
        #[arg(long)]
        tenant: String,
        name: String,
        /// ACTION=PATTERN (may be repeated)
        #[arg(long = "grant", required = true, value_name = "GRANT")]
        grants: Vec<GrantText>,
    },
    /// List the roles of a tenant, those that are always there too
    List {
        #[arg(long)]
        tenant: String,
    },
    /// Delete a role; refused while a key has it
    Delete {
        #[arg(long)]
        tenant: String,
        name: String,
    },
}

/// `read=shop/*/*`
#[derive(Debug, Clone)]
pub struct GrantText {
    action: Action,
    pattern: ResourcePattern,
}

impl FromStr for GrantText {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (action, pattern) = text.split_once('=').context("ACTION=PATTERN is expected, as in read=shop/*/*")?;
        Ok(Self { action: action.parse()?, pattern: pattern.parse()? })
    }
}

pub async fn run(command: RoleCommand, session: Session) -> anyhow::Result<()> {
    let (client, output) = (session.operator()?, session.output);
    let path = |tenant: &str, name: Option<&str>| -> Vec<String> {
        let base = ["api", "v1", "admin", "tenants", tenant, "roles"];
        base.into_iter().chain(name).map(str::to_owned).collect()
    };
    fn refs(path: &[String]) -> Vec<&str> {
        path.iter().map(String::as_str).collect()
    }
    match command {
        RoleCommand::Set { tenant, name, grants } => {
            let grants: Vec<Value> = grants.iter().map(|g| json!({"action": g.action, "pattern": g.pattern})).collect();
            let call = client.call(Method::PUT, &refs(&path(&tenant, Some(&name))));
            let answer = client.json(call.json(&json!({"grants": grants}))).await?;
            output.done(&format!("role {name} of {tenant} is set"), answer)
        }
        RoleCommand::List { tenant } => {
            let answer = client.json(client.call(Method::GET, &refs(&path(&tenant, None)))).await?;
            let mut table = Table::new(&["ROLE", "ACTION", "PATTERN"]);
            for role in items(&answer, "roles") {
                for grant in items(role, "grants") {
                    table.row([cell(role, "name"), cell(grant, "action"), cell(grant, "pattern")]);
                }
            }
            output.list(table, answer)
        }
        RoleCommand::Delete { tenant, name } => {
            let answer = client.json(client.call(Method::DELETE, &refs(&path(&tenant, Some(&name))))).await?;
            output.done(&format!("role {name} of {tenant} is deleted"), answer)
        }
    }
}
