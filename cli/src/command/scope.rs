//! `conflux app` and `conflux env`: applications and their environments.

use std::str::FromStr;

use anyhow::bail;
use clap::Subcommand;
use conflux_common::ids::{AppName, EnvName};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Session, cell, config::TenantArg, instant, pages};
use crate::output::Table;

#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// List the applications that you may see into
    List {
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Make an application; the first config of one makes it too
    #[command(after_help = "Example:\n  conflux app create shop --description 'The web shop'")]
    Create {
        app: AppName,
        #[arg(long, default_value = "")]
        description: String,
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Describe one anew
    Describe {
        app: AppName,
        description: String,
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Delete one that has no environments
    Delete {
        app: AppName,
        #[command(flatten)]
        tenant: TenantArg,
    },
}

#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// List the environments of an application that you may see into
    List {
        app: AppName,
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Make an environment; the first config in one makes it too
    #[command(after_help = "Example:\n  conflux env create shop/prod --description 'What customers see'")]
    Create {
        /// app/env
        env: EnvPath,
        #[arg(long, default_value = "")]
        description: String,
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Describe one anew
    Describe {
        /// app/env
        env: EnvPath,
        description: String,
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Delete one that has no configs
    Delete {
        /// app/env
        env: EnvPath,
        #[command(flatten)]
        tenant: TenantArg,
    },
}

/// `app/env`
#[derive(Debug, Clone)]
pub struct EnvPath {
    app: String,
    env: String,
}

impl FromStr for EnvPath {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some((app, env)) = text.split_once('/') else { bail!("app/env is expected, as in shop/prod") };
        Ok(Self { app: AppName::new(app)?.to_string(), env: EnvName::new(env)?.to_string() })
    }
}

/// What is asked of an application, or of an environment of it.
enum Wish {
    List,
    Create(String),
    Describe(String),
    Delete,
}

pub async fn app(command: AppCommand, session: Session) -> anyhow::Result<()> {
    let (wish, app, tenant) = match command {
        AppCommand::List { tenant } => (Wish::List, None, tenant),
        AppCommand::Create { app, description, tenant } => (Wish::Create(description), Some(app), tenant),
        AppCommand::Describe { app, description, tenant } => (Wish::Describe(description), Some(app), tenant),
        AppCommand::Delete { app, tenant } => (Wish::Delete, Some(app), tenant),
    };
    let name = app.map(|app| app.to_string());
    scope(wish, &["apps"], name.as_deref(), &name.clone().unwrap_or_default(), tenant, session).await
}

pub async fn env(command: EnvCommand, session: Session) -> anyhow::Result<()> {
    let (wish, app, env, tenant) = match command {
        EnvCommand::List { app, tenant } => (Wish::List, app.to_string(), None, tenant),
        EnvCommand::Create { env, description, tenant } => (Wish::Create(description), env.app, Some(env.env), tenant),
        EnvCommand::Describe { env, description, tenant } => {
            (Wish::Describe(description), env.app, Some(env.env), tenant)
        }
        EnvCommand::Delete { env, tenant } => (Wish::Delete, env.app, Some(env.env), tenant),
    };
    let shown = format!("{app}/{}", env.as_deref().unwrap_or(""));
    scope(wish, &["apps", &app, "envs"], env.as_deref(), &shown, tenant, session).await
}

async fn scope(
    wish: Wish,
    below: &[&str],
    name: Option<&str>,
    shown: &str,
    tenant: TenantArg,
    session: Session,
) -> anyhow::Result<()> {
    let (client, tenant) = session.user(tenant.tenant.as_deref())?;
    let all: Vec<&str> = [&["api", "v1", "mgt", tenant.as_str()], below].concat();
    let one: Vec<&str> = all.iter().copied().chain(name).collect();
    let output = session.output;
    match wish {
        Wish::List => {
            let kind = if below.len() > 1 { "envs" } else { "apps" };
            let found = pages(&client, &all, &[], kind).await?;
            output.list(table(&found, kind), json!({ kind: found }))
        }
        Wish::Create(description) => {
            let body = json!({"name": name, "description": description});
            let made = client.json(client.call(Method::POST, &all).json(&body)).await?;
            output.done(&format!("{shown} is made"), made)
        }
        Wish::Describe(description) => {
            let body = json!({"description": description});
            let made = client.json(client.call(Method::PATCH, &one).json(&body)).await?;
            output.done(&format!("{shown} is described"), made)
        }
        Wish::Delete => {
            let gone = client.json(client.call(Method::DELETE, &one)).await?;
            output.done(&format!("{shown} is deleted"), gone)
        }
    }
}

fn table(found: &[Value], kind: &str) -> Table {
    let members = if kind == "apps" { "ENVS" } else { "CONFIGS" };
    let mut table = Table::new(&["NAME", members, "MADE", "BY", "DESCRIPTION"]);
    for scope in found {
        table.row([
            cell(scope, "name"),
            cell(scope, &members.to_ascii_lowercase()),
            instant(scope, "created_ms"),
            cell(scope, "created_by"),
            cell(scope, "description"),
        ]);
    }
    table
}
