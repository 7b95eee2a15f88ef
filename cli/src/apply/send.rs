//! A plan as changesets: contents and deletions first, all or nothing; then what is said of the configs.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::plan::{Plan, Step, Todo};
use crate::{
    client::Client,
    command::{cell, config::put_content},
};

/// What one changeset may hold.
const MAX_CHANGES: usize = 100;
const MAX_BYTES: usize = 3 << 20;

/// Sends it and answers the revision of the last change. What was changed by somebody else since the plan was made is
/// refused: nothing of that changeset takes effect, and the next run plans anew.
pub async fn send(client: &Client, tenant: &str, plan: &Plan, description: Option<&str>) -> anyhow::Result<String> {
    let mut ids: BTreeMap<(&str, &str, &str), (String, String)> = BTreeMap::new();
    let mut revision = String::new();
    for group in groups(plan.steps.iter().filter_map(|step| Some((step, first(step)?)))) {
        let answer = changeset(client, tenant, description, group.iter().map(|(_, change)| change)).await?;
        revision = cell(&answer, "revision");
        for ((step, _), made) in group.iter().zip(answer["results"].as_array().into_iter().flatten()) {
            ids.insert((&step.app, &step.env, &step.name), (cell(made, "config_id"), cell(made, "etag")));
        }
    }
    let second = plan.steps.iter().filter_map(|step| {
        let made = ids.get(&(&*step.app, &*step.env, &*step.name)).cloned();
        let (id, etag) = made.or_else(|| step.known.clone().map(|k| (k.id, k.etag)))?;
        Some((step, then(step, &id, &etag)))
    });
    for group in groups(second.flat_map(|(step, changes)| changes.into_iter().map(move |c| (step, c)))) {
        let answer = changeset(client, tenant, description, group.iter().map(|(_, change)| change)).await?;
        revision = cell(&answer, "revision");
    }
    Ok(revision)
}

/// The content, or the deletion.
fn first(step: &Step) -> Option<Value> {
    let mut change = match &step.todo {
        Todo::Delete => json!({"delete": {"id": step.known.as_ref()?.id}}),
        Todo::Change { content: Some((_, to)), format, .. } => {
            let mut put = Map::new();
            for (key, value) in [("app", &step.app), ("env", &step.env), ("name", &step.name)] {
                put.insert(key.into(), json!(value));
            }
            if let Some(format) = format {
                put.insert("format".into(), json!(format));
            }
            put_content(&mut put, to.clone());
            json!({"put": put})
        }
        Todo::Change { .. } => return None,
    };
    match &step.known {
        Some(known) => change["if_match"] = json!(known.etag),
        None => change["if_absent"] = json!(true),
    }
    Some(change)
}

/// What is said of it. Only the first change is conditional: it changes the ETag itself.
fn then(step: &Step, id: &str, etag: &str) -> Vec<Value> {
    let Todo::Change { fields, releases, .. } = &step.todo else { return Vec::new() };
    let mut changes = Vec::new();
    if !fields.is_empty() {
        let mut update: Map<String, Value> =
            fields.iter().map(|(key, _, to)| ((*key).to_owned(), to.clone())).collect();
        update.insert("id".into(), json!(id));
        changes.push(json!({"update": update}));
    }
    if let Some(rules) = releases {
        changes.push(json!({"releases": {"id": id, "rules": rules}}));
    }
    if let Some(first) = changes.first_mut() {
        first["if_match"] = json!(etag);
    }
    changes
}

async fn changeset(
    client: &Client,
    tenant: &str,
    description: Option<&str>,
    changes: impl Iterator<Item = &Value>,
) -> anyhow::Result<Value> {
    let body = json!({"description": description.unwrap_or("conflux apply"), "changes": changes.collect::<Vec<_>>()});
    let path = ["api", "v1", "mgt", tenant, "changesets"];
    // The same plan sent twice, after a lost answer, has one effect.
    let key = uuid::Uuid::new_v4().simple().to_string();
    let call = client.call(Method::POST, &path).header(conflux_common::headers::IDEMPOTENCY_KEY, key);
    Ok(client.json(call.json(&body)).await?)
}

/// As few changesets as the bounds allow.
fn groups<'a>(all: impl Iterator<Item = (&'a Step, Value)>) -> Vec<Vec<(&'a Step, Value)>> {
    let (mut groups, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for (step, change) in all {
        let size = change.to_string().len();
        let full = groups.last().is_none_or(|group| group.len() >= MAX_CHANGES || bytes + size > MAX_BYTES);
        if full {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(group) = groups.last_mut() {
            group.push((step, change));
        }
    }
    groups
}
