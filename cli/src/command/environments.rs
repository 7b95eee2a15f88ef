//! `conflux compare|promote`: two environments of an application.

use std::{fmt::Write as _, io::Write as _};

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Session, cell, config::TenantArg, items};
use crate::{
    client::Client,
    failure::{Failure, exit},
    output::{self, Output, Table},
};

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The application
    #[arg(long)]
    app: String,
    /// The environment that things come from
    #[arg(long)]
    from: String,
    /// The environment that they would go to
    #[arg(long)]
    to: String,
    /// Show how the contents differ
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The application
    #[arg(long)]
    app: String,
    /// The environment that things come from
    #[arg(long)]
    from: String,
    /// The environment that they go to
    #[arg(long)]
    to: String,
    /// Only this config (may be repeated)
    #[arg(long = "name")]
    names: Vec<String>,
    /// Of the versions that are made
    #[arg(long)]
    description: Option<String>,
    /// Only show what would be done, and what would be refused
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    tenant: TenantArg,
}

async fn compared(client: &Client, tenant: &str, app: &str, from: &str, to: &str) -> anyhow::Result<Value> {
    let query = [("app", app), ("from", from), ("to", to)];
    Ok(client.json(client.call_with(Method::GET, &["api", "v1", "mgt", tenant, "compare"], &query)).await?)
}

pub async fn compare(args: CompareArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let answer = compared(&client, &tenant, &args.app, &args.from, &args.to).await?;
    if args.diff && session.output == Output::Table {
        let differing: Vec<&Value> = items(&answer, "configs").iter().filter(|c| c["relation"] != "same").collect();
        return output::bytes(diffs(&differing).as_bytes());
    }
    let mut table = Table::new(&["NAME", "RELATION", "VERSION IN FROM", "VERSION IN TO"]);
    for config in items(&answer, "configs") {
        table.row([cell(config, "name"), cell(config, "relation"), version(config, "from"), version(config, "to")]);
    }
    session.output.list(table, answer)
}

pub async fn promote(args: PromoteArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let answer = compared(&client, &tenant, &args.app, &args.from, &args.to).await?;
    let wanted: Vec<&Value> =
        items(&answer, "configs").iter().filter(|config| is_wanted(config, &args.names)).collect();
    if let Some(missing) = args.names.iter().find(|name| !items(&answer, "configs").iter().any(|c| c["name"] == **name))
    {
        return Err(Failure::Usage(format!("{}/{} has no config {missing}", args.app, args.from)).into());
    }
    if wanted.is_empty() {
        return session.output.done("nothing to promote: it is the same already", json!({"promoted": []}));
    }
    let names: Vec<String> = wanted.iter().map(|config| cell(config, "name")).collect();
    // Only what was shown, and only if it is still what was shown.
    let expected: Map<String, Value> =
        wanted.iter().map(|c| (cell(c, "name"), c["to"]["etag"].as_str().unwrap_or_default().into())).collect();
    let mut body = json!({"app": args.app, "from": args.from, "to": args.to, "names": names, "expected": expected});
    if let Some(description) = &args.description {
        body["description"] = description.as_str().into();
    }
    let call = || client.call(Method::POST, &["api", "v1", "mgt", &tenant, "promote"]);
    if args.dry_run || !args.yes {
        // The contents are checked against the schemas where they go before anything is said to be possible.
        let mut look = body.clone();
        look["dry_run"] = true.into();
        let told = client.json(call().json(&look)).await?;
        eprint!("{}", diffs(&wanted));
        let wrong = violations(&told, &args);
        if args.dry_run {
            let text =
                if wrong.is_empty() { format!("{} config(s) would be promoted", wanted.len()) } else { wrong.clone() };
            session.output.done(text.trim_end(), told)?;
            return if wrong.is_empty() { Ok(()) } else { Err(Failure::Told(exit::USAGE).into()) };
        }
        if !wrong.is_empty() {
            return Err(Failure::Usage(format!("nothing was promoted\n{}", wrong.trim_end())).into());
        }
        confirm(&format!("Promote {} config(s) of {} from {} to {}?", wanted.len(), args.app, args.from, args.to))?;
    }
    let answer = client.json(call().json(&body)).await?;
    let mut text = String::new();
    for config in items(&answer, "promoted") {
        let (name, from, to) = (cell(config, "name"), cell(config, "from_version"), cell(config, "to_version"));
        writeln!(text, "{}/{}/{name} is at version {to}, from version {from} of {}", args.app, args.to, args.from)?;
    }
    session.output.done(text.trim_end(), answer)
}

/// What is against the schemas where things would go, in lines.
fn violations(told: &Value, args: &PromoteArgs) -> String {
    let mut text = String::new();
    for config in items(told, "promoted") {
        for violation in config["violations"].as_array().into_iter().flatten() {
            let at = format!("{}/{}/{}", args.app, args.to, cell(config, "name"));
            let line =
                format!("{at} would be refused: {}: {}", cell(violation, "field"), cell(violation, "description"));
            text.push_str(&output::plain(&line));
            text.push('\n');
        }
    }
    text
}

/// What a promotion would change: released by default where things come from, and not the same where they go.
fn is_wanted(config: &Value, names: &[String]) -> bool {
    let differs = config["relation"] == "differs" || config["relation"] == "only_in_from";
    let named = names.is_empty() || names.iter().any(|name| config["name"] == **name);
    differs && named && config["from"]["released"] == true
}

fn version(config: &Value, side: &str) -> String {
    match config[side]["released"].as_bool() {
        Some(true) => cell(&config[side], "version"),
        Some(false) => format!("{} (not released)", cell(&config[side], "version")),
        None => String::new(),
    }
}

fn diffs(configs: &[&Value]) -> String {
    let mut text = String::new();
    for config in configs {
        let head = format!("=== {} ({})\n", cell(config, "name"), cell(config, "relation"));
        text.push_str(&head);
        match config["diff"].as_str() {
            // Contents come from users: none of them may steer the terminal.
            Some(diff) => diff.lines().for_each(|line| {
                text.extend(line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }));
                text.push('\n');
            }),
            None => text.push_str("(no text diff)\n"),
        }
    }
    text
}

/// Goes on only after a yes.
fn confirm(question: &str) -> anyhow::Result<()> {
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    eprintln!("nothing was changed (--yes goes on without asking)");
    Err(Failure::Told(exit::FAILED).into())
}
