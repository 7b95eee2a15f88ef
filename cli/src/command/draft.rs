//! `conflux config drafts`: contents that are kept and not released.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, json};

use super::{
    Session, cell,
    config::{ConfigPath, TenantArg, content, id_of, put_content, text_or_bytes},
    instant, items, pages,
};
use crate::output::{self, Output, Table};

#[derive(Debug, Subcommand)]
pub enum DraftCommand {
    /// List a config's drafts
    List(DraftsOf),
    /// Keep a content as a draft; with --draft in the place of an earlier one
    #[command(
        after_help = "Example:\n  conflux config drafts save shop/prod/app.yaml -f app.yaml --description 'new prices'\n  \
        conflux config publish shop/prod/app.yaml --draft 1"
    )]
    Save {
        #[command(flatten)]
        of: DraftsOf,
        /// The content [default: standard input]
        #[arg(long, short)]
        file: Option<PathBuf>,
        /// The draft to replace
        #[arg(long)]
        draft: Option<u64>,
        #[arg(long)]
        format: Option<String>,
        #[arg(long)]
        description: Option<String>,
    },
    /// Print a draft's content
    Show {
        #[command(flatten)]
        of: DraftsOf,
        /// Its number
        draft: u64,
    },
    /// Drop a draft
    Drop {
        #[command(flatten)]
        of: DraftsOf,
        /// Its number
        draft: u64,
    },
}

#[derive(Debug, Args)]
pub struct DraftsOf {
    /// app/env/name
    config: ConfigPath,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn run(command: DraftCommand, session: &Session) -> anyhow::Result<()> {
    let (DraftCommand::List(of)
    | DraftCommand::Save { of, .. }
    | DraftCommand::Show { of, .. }
    | DraftCommand::Drop { of, .. }) = &command;
    let (client, tenant) = session.user(of.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &of.config).await?;
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "drafts"];
    match &command {
        DraftCommand::List(_) => {
            let drafts = pages(&client, &path, &[], "drafts").await?;
            let mut table = Table::new(&["DRAFT", "FORMAT", "BYTES", "CHANGED", "BY", "DESCRIPTION"]);
            for d in &drafts {
                let changed = instant(d, "updated_ms");
                table.row([
                    cell(d, "number"),
                    cell(d, "format"),
                    cell(d, "size"),
                    changed,
                    cell(d, "created_by"),
                    cell(d, "description"),
                ]);
            }
            session.output.list(table, json!({"config_id": id, "drafts": drafts}))
        }
        DraftCommand::Save { file, draft, format, description, .. } => {
            let mut body = Map::new();
            put_content(&mut body, content(file.as_deref())?);
            for (key, value) in [("format", format), ("description", description)] {
                if let Some(value) = value {
                    body.insert(key.into(), json!(value));
                }
            }
            let number = draft.map(|d| d.to_string());
            let call = match &number {
                None => client.call(Method::POST, &path),
                Some(number) => client.call(Method::PUT, &[&path[..], &[number]].concat()),
            };
            let answer = client.json(call.json(&body)).await?;
            let number = number.unwrap_or_else(|| cell(&answer, "draft"));
            let mut text = format!("draft {number} of {} is kept", of.config);
            for warning in items(&answer, "violations") {
                text.push_str(&format!("\n  not valid yet: {}", cell(warning, "message")));
            }
            session.output.done(&text, answer)
        }
        DraftCommand::Show { draft, .. } => {
            let number = draft.to_string();
            let answer = client.json(client.call(Method::GET, &[&path[..], &[&number]].concat())).await?;
            match session.output {
                Output::Table => output::bytes(&text_or_bytes(&answer)?),
                Output::Json => session.output.done("", answer),
            }
        }
        DraftCommand::Drop { draft, .. } => {
            let number = draft.to_string();
            let answer = client.json(client.call(Method::DELETE, &[&path[..], &[&number]].concat())).await?;
            session.output.done(&format!("draft {draft} of {} is dropped", of.config), answer)
        }
    }
}
