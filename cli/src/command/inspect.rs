//! `conflux config resolve|diff|validate`: questions that change nothing.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    Session, cell,
    config::{ConfigPath, Label, TenantArg, content, id_of, put_content},
    items,
    release::{labels_text, share_text},
};
use crate::{
    client::Client,
    failure::{Failure, exit},
    files,
    output::{self, Output, Table},
};

#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// app/env/name
    config: ConfigPath,
    /// NAME=VALUE: a label of the client (may be repeated)
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<Label>,
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// app/env/name
    config: ConfigPath,
    /// A version [default: the one before `--to`]
    #[arg(long)]
    from: Option<u64>,
    /// A version [default: the latest]
    #[arg(long)]
    to: Option<u64>,
    /// Show what has changed by value, not by line
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The content [default: standard input]
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// The name that the config would have: its end may tell the format [default: that of the file]
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    format: Option<String>,
    /// A file with a schema
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn resolve(args: ResolveArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let labels: Vec<(String, &str)> = args.labels.iter().map(|l| (format!("label.{}", l.name), &*l.value)).collect();
    let query: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, *value)).collect();
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "resolve"];
    let answer = client.json(client.call_with(Method::GET, &path, &query)).await?;
    let mut table = Table::new(&["", "PRIORITY", "LABELS", "SHARE", "VERSION", "WHY"]);
    for verdict in items(&answer, "rules") {
        let rule = if verdict["rule"].is_object() { &verdict["rule"] } else { verdict };
        let mark = if verdict["serves"] == true { "=>" } else { " " };
        table.row([
            mark.into(),
            cell(rule, "priority"),
            labels_text(rule),
            share_text(rule),
            cell(rule, "version"),
            cell(verdict, "why"),
        ]);
    }
    if session.output == Output::Table {
        let served = match answer["version"].as_u64() {
            None | Some(0) => "nothing is served to this client".to_owned(),
            Some(version) => format!("version {version} is served"),
        };
        output::line(&served)?;
    }
    session.output.list(table, answer)
}

pub async fn diff(args: DiffArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let ends = [("from", args.from), ("to", args.to)].map(|(name, version)| (name, version.map(|v| v.to_string())));
    let query: Vec<(&str, &str)> = ends.iter().filter_map(|(name, v)| Some((*name, v.as_deref()?))).collect();
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "diff"];
    let answer = client.json(client.call_with(Method::GET, &path, &query)).await?;
    let by_line = answer["text"].as_str().filter(|_| !args.values);
    if let (Some(text), Output::Table) = (by_line, session.output) {
        return output::line(if text.is_empty() { "no difference" } else { text.trim_end_matches('\n') });
    }
    let mut table = Table::new(&["WHAT", "PATH", "FROM", "TO"]);
    for change in items(&answer, "changes") {
        table.row([cell(change, "kind"), cell(change, "path"), cell(change, "from"), cell(change, "to")]);
    }
    session.output.list(table, answer)
}

pub async fn validate(args: ValidateArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let of_file = args.file.as_ref().and_then(|f| f.file_name()).map(|name| name.to_string_lossy().into_owned());
    let sent = Sent {
        content: content(args.file.as_deref())?,
        name: args.name.or(of_file),
        format: args.format,
        schema: args.schema.as_deref().map(files::read).transpose()?,
    };
    let answer = sent.check(&client, &tenant).await?;
    let violations = violations(&answer);
    let text = if violations.is_empty() { format!("valid {}", cell(&answer, "format")) } else { violations.join("\n") };
    session.output.done(&text, answer)?;
    if violations.is_empty() { Ok(()) } else { Err(Failure::Told(exit::USAGE).into()) }
}

/// A content that the service shall look at without taking it.
pub struct Sent {
    pub content: Vec<u8>,
    pub name: Option<String>,
    pub format: Option<String>,
    pub schema: Option<String>,
}

impl Sent {
    pub async fn check(self, client: &Client, tenant: &str) -> anyhow::Result<Value> {
        let mut body = Map::new();
        put_content(&mut body, self.content);
        for (key, value) in [("name", self.name), ("format", self.format), ("schema", self.schema)] {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                body.insert(key.into(), json!(value));
            }
        }
        let path = ["api", "v1", "mgt", tenant, "configs", "validate"];
        Ok(client.json(client.call(Method::POST, &path).json(&body)).await?)
    }
}

/// A line for each: where, and what.
pub fn violations(answer: &Value) -> Vec<String> {
    let line = |v: &Value| {
        let place = match (v["line"].as_u64(), v["column"].as_u64()) {
            (Some(line @ 1..), Some(column @ 1..)) => format!("line {line}, column {column}: "),
            (Some(line @ 1..), _) => format!("line {line}: "),
            _ => String::new(),
        };
        let path = match cell(v, "path") {
            path if path.is_empty() => path,
            path => format!("{path}: "),
        };
        format!("{place}{path}{}", cell(v, "message"))
    };
    items(answer, "violations").iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever edits wants to know where to look.
    #[test]
    fn a_violation_tells_its_place() {
        let answer = json!({"violations": [
            {"line": 3, "column": 7, "path": "/server/port", "message": "must be a number"},
            {"line": 0, "column": 0, "path": "", "message": "missing name"},
        ]});
        assert_eq!(violations(&answer), ["line 3, column 7: /server/port: must be a number", "missing name"]);
    }
}
