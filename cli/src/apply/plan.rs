//! What has to be done so that what is released is what a directory wants.

use std::collections::BTreeMap;

use conflux_common::release::ReleaseRule;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::folder::{Wanted, WantedConfig};
use crate::{
    client::Client,
    command::{cell, config::text_or_bytes, pages},
};

/// All of it, in the order of names.
pub struct Plan {
    pub steps: Vec<Step>,
}

/// One config that differs.
pub struct Step {
    pub app: String,
    pub env: String,
    pub name: String,
    /// Of a config that is there.
    pub known: Option<Known>,
    pub todo: Todo,
}

/// A config as it is.
#[derive(Clone)]
pub struct Known {
    pub id: String,
    pub etag: String,
}

pub enum Todo {
    /// It is not in the directory.
    Delete,
    Change {
        /// What is released, and what shall be.
        content: Option<(Vec<u8>, Vec<u8>)>,
        /// Of a new version; else by the name.
        format: Option<String>,
        /// Fields of the record that change, as PATCH takes them, with what they were.
        fields: Vec<(&'static str, Value, Value)>,
        /// The rules that it shall have.
        releases: Option<Vec<ReleaseRule>>,
    },
}

impl Plan {
    /// Compares.
    pub async fn make(client: &Client, tenant: &str, wanted: Wanted, prune: bool) -> anyhow::Result<Self> {
        let mut steps = Vec::new();
        for ((app, env), configs) in wanted {
            let there =
                pages(client, &["api", "v1", "mgt", tenant, "configs"], &[("app", &app), ("env", &env)], "configs")
                    .await?;
            let mut there: BTreeMap<String, Value> = there.into_iter().map(|c| (cell(&c, "name"), c)).collect();
            let released = released(client, tenant, &app, &env).await?;
            for (name, config) in configs {
                let record = there.remove(&name);
                let todo = compare(record.as_ref(), released.get(&name).map(Vec::as_slice), config);
                let known = record.map(|r| Known { id: cell(&r, "id"), etag: cell(&r, "etag") });
                steps.extend(todo.map(|todo| Step { app: app.clone(), env: env.clone(), name, known, todo }));
            }
            for (name, record) in there.into_iter().filter(|_| prune) {
                let known = Some(Known { id: cell(&record, "id"), etag: cell(&record, "etag") });
                steps.push(Step { app: app.clone(), env: env.clone(), name, known, todo: Todo::Delete });
            }
        }
        Ok(Self { steps })
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        self.steps.iter().map(Step::to_json).collect()
    }
}

impl Step {
    /// In a word.
    pub fn action(&self) -> &'static str {
        match (&self.todo, &self.known) {
            (Todo::Delete, _) => "delete",
            (_, None) => "create",
            _ => "update",
        }
    }

    fn to_json(&self) -> Value {
        let mut shape = json!({"action": self.action(), "app": self.app, "env": self.env, "name": self.name});
        if let Todo::Change { content, fields, releases, .. } = &self.todo {
            shape["content"] = json!(content.is_some());
            let fields: Map<String, Value> =
                fields.iter().map(|(key, from, to)| ((*key).to_owned(), json!({"from": from, "to": to}))).collect();
            shape["fields"] = Value::Object(fields);
            shape["releases"] = json!(releases);
        }
        shape
    }
}

/// What a client without labels is served, by name.
async fn released(client: &Client, tenant: &str, app: &str, env: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let (mut all, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let mut query = vec![("consistency", "linearizable")];
        if !cursor.is_empty() {
            query.push(("cursor", &cursor));
        }
        let path = ["api", "v1", "fetch", "configs", tenant, app, env];
        let answer = client.json(client.call_with(Method::GET, &path, &query)).await?;
        for config in answer["configs"].as_array().into_iter().flatten() {
            all.insert(cell(config, "name"), text_or_bytes(config)?);
        }
        cursor = cell(&answer, "next_cursor");
        if cursor.is_empty() {
            return Ok(all);
        }
    }
}

/// Nothing where it is as it shall be.
fn compare(record: Option<&Value>, released: Option<&[u8]>, wanted: WantedConfig) -> Option<Todo> {
    let WantedConfig { content, side } = wanted;
    let was = |key: &str| record.map_or(Value::Null, |r| r[key].clone());
    let mut fields = Vec::new();
    let mut field = |key: &'static str, to: Value| {
        let from = was(key);
        if blank(&from) != blank(&to) {
            fields.push((key, from, to));
        }
    };
    if let Some(description) = side.description {
        field("description", json!(description));
    }
    if let Some(tags) = side.tags {
        field("tags", json!(tags));
    }
    if let Some(schema) = side.schema {
        field("schema", json!(schema));
    }
    if let Some(retention) = side.retention {
        field("retention", json!(retention));
    }
    let rules = was("releases");
    let releases = side.releases.filter(|to| !same_rules(&rules, to));
    let content = (released != Some(content.as_slice())).then(|| (released.unwrap_or_default().to_vec(), content));
    let nothing = record.is_some() && content.is_none() && fields.is_empty() && releases.is_none();
    (!nothing).then_some(Todo::Change { content, format: side.format, fields, releases })
}

/// Empty and absent are the same to the record.
fn blank(value: &Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Object(map) if map.values().all(|v| v.as_u64() == Some(0)) => Value::Null,
        other => other.clone(),
    }
}

/// In whatever order.
fn same_rules(from: &Value, to: &[ReleaseRule]) -> bool {
    let Ok(from) = serde_json::from_value::<Vec<ReleaseRule>>(from.clone()) else { return false };
    from.len() == to.len() && to.iter().all(|rule| from.contains(rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::folder::Side;

    fn record() -> Value {
        json!({"id": "c1", "etag": "\"1.7\"", "description": "d", "tags": [], "retention": {"max_versions": 0, "max_age_days": 0},
            "releases": [{"labels": {}, "version": 1, "priority": 0}]})
    }

    fn wanted(content: &str, side: Side) -> WantedConfig {
        WantedConfig { content: content.into(), side }
    }

    /// A second run has nothing to do, or a pipeline would make a version each time.
    #[test]
    fn what_is_as_it_shall_be_is_left_alone() {
        let side = Side {
            description: Some(Some("d".into())),
            tags: Some(Vec::new()),
            schema: Some(None),
            retention: Some(None),
            releases: Some(serde_json::from_value(json!([{"version": 1}])).unwrap()),
            format: Some("yaml".into()),
        };
        assert!(compare(Some(&record()), Some(b"a"), wanted("a", side)).is_none());
        assert!(compare(Some(&record()), Some(b"a"), wanted("a", Side::default())).is_none());
    }

    /// What differs, and only that, is in the plan; a config that is not there is made even if it is empty.
    #[test]
    fn what_differs_is_changed() {
        let side = Side { description: Some(None), ..Side::default() };
        let Some(Todo::Change { content, fields, releases, .. }) =
            compare(Some(&record()), Some(b"a"), wanted("b", side))
        else {
            panic!("there is something to do");
        };
        assert_eq!(content, Some((b"a".to_vec(), b"b".to_vec())));
        assert_eq!(fields, [("description", json!("d"), Value::Null)]);
        assert_eq!(releases, None);
        assert!(compare(None, None, wanted("", Side::default())).is_some());
    }
}
