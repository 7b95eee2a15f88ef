//! `conflux config update`: what is said of a config, not its content.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    Session, cell,
    config::{ConfigPath, id_of},
    publish::Guard,
};
use crate::{failure::Failure, files};

#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// app/env/name
    config: ConfigPath,
    #[arg(long)]
    description: Option<String>,
    /// All tags that it shall have (may be repeated)
    #[arg(long = "tag", conflicts_with = "no_tags")]
    tags: Vec<String>,
    /// No tags
    #[arg(long)]
    no_tags: bool,
    /// A file with a JSON Schema or, for flat formats, lines like `port: integer 1..65535`
    #[arg(long, value_name = "FILE", conflicts_with = "no_schema")]
    schema: Option<PathBuf>,
    /// No schema
    #[arg(long)]
    no_schema: bool,
    /// Keep at most so many versions
    #[arg(long, value_name = "N")]
    keep_versions: Option<u32>,
    /// Keep no version longer than so many days
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,
    /// Keep all versions
    #[arg(long, conflicts_with_all = ["keep_versions", "keep_days"])]
    keep_all: bool,
    #[command(flatten)]
    write: Guard,
}

pub async fn run(args: UpdateArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.write.tenant.tenant.as_deref())?;
    let body = body(&args)?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let call = client.call(Method::PATCH, &["api", "v1", "mgt", &tenant, "configs", &id]).json(&body);
    let answer = client.json(args.write.on(call)).await?;
    session.output.done(&format!("{} is updated, revision {}", args.config, cell(&answer, "revision")), answer)
}

/// What is not named stays; null clears.
fn body(args: &UpdateArgs) -> anyhow::Result<Map<String, Value>> {
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| _ = body.insert(key.to_owned(), value);
    if let Some(description) = &args.description {
        set("description", json!(description));
    }
    if args.no_tags || !args.tags.is_empty() {
        set("tags", json!(args.tags));
    }
    if let Some(file) = &args.schema {
        set("schema", json!(files::read(file)?));
    } else if args.no_schema {
        set("schema", Value::Null);
    }
    if args.keep_all {
        set("retention", Value::Null);
    } else if args.keep_versions.is_some() || args.keep_days.is_some() {
        let (versions, days) = (args.keep_versions.unwrap_or(0), args.keep_days.unwrap_or(0));
        set("retention", json!({"max_versions": versions, "max_age_days": days}));
    }
    if body.is_empty() {
        return Err(Failure::Usage("nothing to change: see `conflux config update --help`".into()).into());
    }
    Ok(body)
}
