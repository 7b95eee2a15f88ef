//! `conflux config usage|unused|impact`: what is fetched, by how many, and whom a release would reach.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Session, cell,
    config::{ConfigPath, Label, TenantArg, id_of},
    items, pages,
};
use crate::{files, output::Table};

#[derive(Debug, Args)]
pub struct UsageArgs {
    #[arg(long)]
    app: Option<String>,
    #[arg(long)]
    env: Option<String>,
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Debug, Args)]
pub struct UnusedArgs {
    /// Not fetched for so many days; 0: never seen to be fetched
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3650))]
    days: u64,
    #[command(flatten)]
    of: UsageArgs,
}

#[derive(Debug, Args)]
pub struct ImpactArgs {
    /// app/env/name
    config: ConfigPath,
    /// The version to release [default: the new one that a publish would make]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// all, canary, blue_green or targeted
    #[arg(long, value_name = "TYPE", default_value = "all")]
    strategy: String,
    /// NAME=VALUE: a label that the clients must carry (may be repeated)
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<Label>,
    /// Of a canary: the share of the clients, in percent
    #[arg(long)]
    percent: Option<f64>,
    /// Of a canary: the label by which the share is drawn
    #[arg(long, value_name = "LABEL", default_value = "client")]
    sticky: String,
    /// A JSON file with a whole list of rules instead, as `config releases -o json` shows it
    #[arg(long, conflicts_with_all = ["version", "labels", "percent"])]
    rules: Option<PathBuf>,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn usage(args: UsageArgs, session: &Session) -> anyhow::Result<()> {
    list(args, &[], &["usage"], session).await
}

pub async fn unused(args: UnusedArgs, session: &Session) -> anyhow::Result<()> {
    list(args.of, &[("days", &args.days.to_string())], &["usage", "unused"], session).await
}

async fn list(args: UsageArgs, more: &[(&str, &str)], call: &[&str], session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let filter = [("app", args.app.as_deref()), ("env", args.env.as_deref())];
    let mut query: Vec<(&str, &str)> = filter.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    query.extend_from_slice(more);
    let path = [&["api", "v1", "mgt", &tenant], call].concat();
    let configs = pages(&client, &path, &query, "configs").await?;
    let mut table = Table::new(&["APP", "ENV", "NAME", "LAST FETCHED", "CLIENTS", "FETCHES", "OBSERVED FOR"]);
    for c in &configs {
        let clients = format!("about {}", cell(c, "clients"));
        table.row([
            cell(c, "app"),
            cell(c, "env"),
            cell(c, "name"),
            ago(c, "last_fetched_ago_ms"),
            clients,
            cell(c, "fetches"),
            spoken(c, "observed_ms"),
        ]);
    }
    session.output.list(table, json!({"configs": configs}))
}

pub async fn impact(args: ImpactArgs, session: &Session) -> anyhow::Result<()> {
    let body = proposed(&args)?;
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "impact"];
    let answer = client.json(client.call(Method::POST, &path).json(&body)).await?;
    let mut table = Table::new(&["LABELS", "NOW", "THEN", "CLIENTS", "LAST FETCHED"]);
    for set in items(&answer, "label_sets") {
        let labels = set["labels"].as_object().into_iter().flatten();
        let labels: Vec<String> = labels.map(|(n, v)| format!("{n}={}", v.as_str().unwrap_or_default())).collect();
        let labels = if labels.is_empty() { "(none)".to_owned() } else { labels.join(",") };
        let then = match set["changes"].as_bool() {
            Some(true) => cell(set, "version_then") + " *",
            _ => cell(set, "version_then"),
        };
        let clients = format!("about {}", cell(set, "clients"));
        table.row([labels, cell(set, "version_now"), then, clients, ago(set, "last_fetched_ago_ms")]);
    }
    for note in items(&answer, "notes") {
        eprintln!("conflux: {}", note.as_str().unwrap_or_default());
    }
    session.output.list(table, answer)
}

/// The body of the call.
fn proposed(args: &ImpactArgs) -> anyhow::Result<Value> {
    if let Some(path) = &args.rules {
        let given: Value = serde_json::from_str(&files::read(path)?)?;
        return Ok(json!({"rules": items(&given, "rules")}));
    }
    let labels: serde_json::Map<String, Value> =
        args.labels.iter().map(|l| (l.name.clone(), l.value.clone().into())).collect();
    let mut strategy = json!({"type": args.strategy, "labels": labels});
    if let Some(percent) = args.percent {
        let basis_points = (percent * 100.0).round().clamp(0.0, 10_001.0) as u32;
        strategy["percentage"] = json!({"basis_points": basis_points, "sticky_label": args.sticky});
    }
    let mut body = json!({"strategy": strategy});
    if let Some(version) = args.version {
        body["version"] = version.into();
    }
    Ok(body)
}

fn ago(value: &Value, key: &str) -> String {
    if value[key].is_u64() { format!("{} ago", spoken(value, key)) } else { "not seen".into() }
}

/// Milliseconds for people.
fn spoken(value: &Value, key: &str) -> String {
    match value[key].as_u64().unwrap_or(0) / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "0 s ago" and "not seen" must not be taken for each other.
    #[test]
    fn times_are_told_to_people() {
        let value = json!({"a": 0, "b": 3_600_000, "c": 400_000_000_000u64});
        assert_eq!([ago(&value, "a"), ago(&value, "b"), ago(&value, "x")], ["0 s ago", "60 min ago", "not seen"]);
        assert_eq!(spoken(&value, "c"), "4629 days");
    }
}
