//! `conflux config publish|rollback|promotion`: what is released to whom, in one step.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};

use super::{
    Session, cell,
    config::{ConfigPath, Label, TenantArg, content, id_of, put_content},
    instant,
    release::rules_table,
};
use crate::{
    files,
    output::{self, Output},
};

#[derive(Debug, Args)]
pub struct PublishArgs {
    /// app/env/name
    config: ConfigPath,
    /// A new content; `-` is standard input
    #[arg(long, short, group = "what")]
    file: Option<PathBuf>,
    /// A draft's number
    #[arg(long, group = "what")]
    draft: Option<u64>,
    /// A version's number
    #[arg(long, group = "what")]
    version: Option<u64>,
    /// To whom
    #[arg(long, value_enum, default_value_t = StrategyKind::All)]
    strategy: StrategyKind,
    /// NAME=VALUE: a label that a client must carry (may be repeated)
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<Label>,
    /// Canary: the share of the clients, as in 10 or 0.5
    #[arg(long)]
    percent: Option<Percent>,
    /// Canary: the label by whose value clients are in or out
    #[arg(long, value_name = "LABEL", requires = "percent", default_value = "client")]
    sticky: String,
    /// Where the new rule stands among the others [default: above them]
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// The version becomes the default by itself after so many minutes, unless the rules change before
    #[arg(long, value_name = "MINUTES")]
    make_default_after: Option<u32>,
    /// Of a new content
    #[arg(long)]
    format: Option<String>,
    /// What the version is for
    #[arg(long)]
    description: Option<String>,
    /// A file with a schema for this version, instead of the config's
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Only show what it would do
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    write: Guard,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// app/env/name
    config: ConfigPath,
    /// The version to go back to [default: the one that was the default before]
    #[arg(long)]
    version: Option<u64>,
    #[command(flatten)]
    write: Guard,
}

#[derive(Debug, Args)]
pub struct PromotionArgs {
    /// app/env/name
    config: ConfigPath,
    /// Cancel it: the rules stay as they are
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    tenant: TenantArg,
}

/// What makes a write safe.
#[derive(Debug, Args)]
pub struct Guard {
    /// Only if the config's ETag is still this one
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    /// Makes it safe to run this again: the same key has one effect
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    pub tenant: TenantArg,
}

impl Guard {
    pub fn on(&self, mut call: RequestBuilder) -> RequestBuilder {
        if let Some(etag) = &self.if_match {
            call = call.header(http::header::IF_MATCH, etag);
        }
        if let Some(key) = &self.idempotency_key {
            call = call.header(conflux_common::headers::IDEMPOTENCY_KEY, key);
        }
        call
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StrategyKind {
    /// Everybody: this is the one rule that is left
    All,
    /// A share of the clients
    Canary,
    /// Clients with these labels, such as slot=green
    BlueGreen,
    /// Clients with these labels, such as hostname=web-3
    Targeted,
}

/// Hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u32);

impl FromStr for Percent {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let percent: f64 = text.trim_end_matches('%').parse().context("a number from 0.01 to 100 is expected")?;
        let points = (percent * 100.0).round();
        if !(1.0..=10_000.0).contains(&points) {
            bail!("0.01 to 100 is expected");
        }
        // Within the bounds above.
        Ok(Self(points as u32))
    }
}

pub async fn publish(args: PublishArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.write.tenant.tenant.as_deref())?;
    let body = body(&args)?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "publish"];
    let dry: &[(&str, &str)] = if args.dry_run { &[("dry_run", "true")] } else { &[] };
    let call = args.write.on(client.call_with(Method::POST, &path, dry)).json(&body);
    let answer = client.json(call).await?;
    if args.dry_run {
        return show_plan(&answer, session.output);
    }
    let due = match instant(&answer, "promotion_due_ms") {
        due if due.is_empty() => String::new(),
        due => format!("; it becomes the default at {due}"),
    };
    let (version, revision) = (cell(&answer, "version"), cell(&answer, "revision"));
    session.output.done(&format!("{} version {version} is released, revision {revision}{due}", args.config), answer)
}

fn body(args: &PublishArgs) -> anyhow::Result<Value> {
    let mut body = Map::new();
    match (&args.file, args.draft, args.version) {
        (Some(file), ..) => put_content(&mut body, content(Some(file))?),
        (_, Some(draft), _) => _ = body.insert("draft".into(), json!(draft)),
        (.., Some(version)) => _ = body.insert("version".into(), json!(version)),
        _ => return Err(crate::failure::Failure::Usage("what? --file FILE, --draft N or --version N".into()).into()),
    }
    let kind = match args.strategy {
        StrategyKind::All => "all",
        StrategyKind::Canary => "canary",
        StrategyKind::BlueGreen => "blue_green",
        StrategyKind::Targeted => "targeted",
    };
    let mut strategy = json!({"type": kind});
    if !args.labels.is_empty() {
        let labels: BTreeMap<&str, &str> = args.labels.iter().map(|l| (&*l.name, &*l.value)).collect();
        strategy["labels"] = json!(labels);
    }
    if let Some(Percent(points)) = args.percent {
        strategy["percentage"] = json!({"basis_points": points, "sticky_label": args.sticky});
    }
    if let Some(priority) = args.priority {
        strategy["priority"] = json!(priority);
    }
    body.insert("strategy".into(), strategy);
    for (key, value) in [("format", &args.format), ("description", &args.description)] {
        if let Some(value) = value {
            body.insert(key.into(), json!(value));
        }
    }
    if let Some(file) = &args.schema {
        body.insert("schema".into(), json!(files::read(file)?));
    }
    if let Some(minutes) = args.make_default_after {
        body.insert("make_default_after_mins".into(), json!(minutes));
    }
    Ok(Value::Object(body))
}

/// Rules before and after, and who would be served something else.
fn show_plan(answer: &Value, output: Output) -> anyhow::Result<()> {
    let rules = |key: &str| answer[key].as_array().map(Vec::as_slice);
    let (Some(before), Some(after)) = (rules("before"), rules("after")) else {
        return output.done(&serde_json::to_string_pretty(answer)?, answer.clone());
    };
    if output == Output::Json {
        return output.done("", answer.clone());
    }
    output::line(&format!(
        "Rules now:\n{}\nRules then:\n{}",
        rules_table(before).render(),
        rules_table(after).render()
    ))?;
    let rest: Map<String, Value> =
        answer.as_object().into_iter().flatten().filter(|(k, _)| *k != "before" && *k != "after").map(own).collect();
    output::line(&serde_json::to_string_pretty(&rest)?)
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

pub async fn rollback(args: RollbackArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.write.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let body = args.version.map_or_else(|| json!({}), |version| json!({"version": version}));
    let call = client.call(Method::POST, &["api", "v1", "mgt", &tenant, "configs", &id, "rollback"]).json(&body);
    let answer = client.json(args.write.on(call)).await?;
    let text = format!(
        "{} version {} is the default again, revision {}",
        args.config,
        cell(&answer, "version"),
        cell(&answer, "revision")
    );
    session.output.done(&text, answer)
}

pub async fn promotion(args: PromotionArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "promotion"];
    let method = if args.cancel { Method::DELETE } else { Method::GET };
    let answer = client.json(client.call(method, &path)).await?;
    let text = match args.cancel {
        true => format!("{}: the promotion is cancelled", args.config),
        false => format!(
            "{}: version {} becomes the default at {}",
            args.config,
            cell(&answer, "version"),
            instant(&answer, "due_ms")
        ),
    };
    session.output.done(&text, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People think in percent; half a percent must not become none or fifty.
    #[test]
    fn percents_are_hundredths() {
        for (text, points) in [("10", 1000), ("0.5", 50), ("100", 10_000), ("12.34%", 1234)] {
            assert_eq!(text.parse::<Percent>().unwrap(), Percent(points), "{text}");
        }
        for wrong in ["0", "101", "-1", "ten", "NaN"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }
}
