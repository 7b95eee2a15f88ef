//! `conflux config versions|releases|release`: what there is of a config, and who is served what.

use std::collections::BTreeMap;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Session, cell,
    config::{ConfigPath, Label, TenantArg, id_of},
    instant, items, pages,
};
use crate::{failure::Failure, output::Table};

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// app/env/name
    config: ConfigPath,
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// app/env/name
    config: ConfigPath,
    /// The version to serve
    #[arg(long, required_unless_present = "remove", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// NAME=VALUE: a label that a client must carry (may be repeated) [default: the default rule]
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<Label>,
    /// Among rules that fit a client, the highest wins
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Remove the rule with these labels instead
    #[arg(long, conflicts_with = "version")]
    remove: bool,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn versions(args: ShowArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "versions"];
    let versions = pages(&client, &path, &[], "versions").await?;
    let mut table = Table::new(&["VERSION", "FORMAT", "BYTES", "MADE", "BY", "DESCRIPTION"]);
    for v in &versions {
        let made = instant(v, "created_ms");
        table.row([
            cell(v, "number"),
            cell(v, "format"),
            cell(v, "size"),
            made,
            cell(v, "created_by"),
            cell(v, "description"),
        ]);
    }
    session.output.list(table, json!({"config_id": id, "versions": versions}))
}

pub async fn show(args: ShowArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "releases"];
    let answer = client.json(client.call(Method::GET, &path)).await?;
    let table = rules_table(items(&answer, "rules"));
    session.output.list(table, answer)
}

/// Rules as people read them.
pub fn rules_table(rules: &[Value]) -> Table {
    let mut table = Table::new(&["PRIORITY", "LABELS", "SHARE", "VERSION"]);
    for rule in rules {
        table.row([cell(rule, "priority"), labels_text(rule), share_text(rule), cell(rule, "version")]);
    }
    table
}

/// Whom a rule is for.
pub fn labels_text(rule: &Value) -> String {
    let labels: Vec<String> = labels_of(rule).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    if labels.is_empty() { "(default)".into() } else { labels.join(",") }
}

/// And for how many of them.
pub fn share_text(rule: &Value) -> String {
    let points = rule["percentage"]["basis_points"].as_u64();
    points.map(|points| format!("{}%", points as f64 / 100.0)).unwrap_or_default()
}

pub async fn set(args: ReleaseArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let id = id_of(&client, &tenant, &args.config).await?;
    let path = ["api", "v1", "mgt", &tenant, "configs", &id, "releases"];
    let now = client.json(client.call(Method::GET, &path)).await?;
    let labels: BTreeMap<String, String> = args.labels.into_iter().map(|l| (l.name, l.value)).collect();
    let Some(rules) = changed(items(&now, "rules"), &labels, args.version, args.priority) else {
        return Err(
            Failure::Usage("there is no rule with these labels; `conflux config releases` lists all".into()).into()
        );
    };
    // Only if nobody has changed the rules since they were read.
    let call = client.call(Method::PUT, &path).header(http::header::IF_MATCH, cell(&now, "etag"));
    let answer = client.json(call.json(&json!({"rules": rules}))).await?;
    session.output.done(&format!("{} is released anew, revision {}", args.config, cell(&answer, "revision")), answer)
}

/// The list with the rule of these labels replaced, added, or (without a version) removed; nothing if it is not there.
fn changed(
    rules: &[Value],
    labels: &BTreeMap<String, String>,
    version: Option<u64>,
    priority: i32,
) -> Option<Vec<Value>> {
    let is_it = |rule: &Value| labels_of(rule) == *labels && rule["percentage"].is_null();
    let mut others: Vec<Value> = rules.iter().filter(|rule| !is_it(rule)).cloned().collect();
    match version {
        Some(version) => others.push(json!({"labels": labels, "version": version, "priority": priority})),
        None if others.len() == rules.len() => return None,
        None => {}
    }
    Some(others)
}

fn labels_of(rule: &Value) -> BTreeMap<String, String> {
    let labels = rule["labels"].as_object().into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole list is replaced at once: a rule that is not meant must come through as it was.
    #[test]
    fn only_the_rule_with_these_labels_changes() {
        let canary = json!({"labels": {}, "version": 9, "priority": 5, "percentage": {"basis_points": 100, "sticky_label": "host"}});
        let rules = [
            json!({"labels": {}, "version": 1, "priority": 0}),
            json!({"labels": {"region": "eu"}, "version": 2, "priority": 7}),
            canary.clone(),
        ];
        let none = BTreeMap::new();
        let new = changed(&rules, &none, Some(3), 0).unwrap();
        assert_eq!(new, [rules[1].clone(), canary, json!({"labels": {}, "version": 3, "priority": 0})]);
        let eu: BTreeMap<_, _> = [("region".to_owned(), "eu".to_owned())].into();
        assert_eq!(changed(&rules, &eu, None, 0).unwrap().len(), 2);
        let us: BTreeMap<_, _> = [("region".to_owned(), "us".to_owned())].into();
        assert_eq!(changed(&rules, &us, None, 0), None);
    }
}
