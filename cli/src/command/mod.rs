//! The commands of users and operators: each is a call or two of the public API.

pub mod archives;
pub mod audit;
pub mod changeset;
pub mod cluster;
pub mod completion;
pub mod config;
pub mod draft;
pub mod edit;
pub mod environments;
pub mod get;
pub mod inspect;
pub mod key;
pub mod members;
pub mod moves;
pub mod profile;
pub mod publish;
pub mod rebalance;
mod references;
pub mod release;
pub mod restored;
pub mod role;
pub mod scope;
pub mod tenant;
pub mod update;
pub mod usage;
pub mod watch;

use reqwest::Method;
use serde_json::Value;

use crate::{client::Client, failure::Failure, output::Output, profile::Connection};

/// What every command of this kind is told.
pub struct Session {
    pub connection: Connection,
    pub output: Output,
}

impl Session {
    /// As a user, and for which tenant.
    pub fn user(&self, tenant: Option<&str>) -> anyhow::Result<(Client, String)> {
        let client = Client::user(&self.connection.resolve()?)?;
        let tenant = tenant.map(str::to_owned).or_else(|| client.tenant.clone());
        let missing = || Failure::Usage("which tenant? --tenant, CONFLUX_TENANT or the profile's".into());
        Ok((client, tenant.ok_or_else(missing)?))
    }

    /// As an operator.
    pub fn operator(&self) -> anyhow::Result<Client> {
        Client::operator(&self.connection.resolve()?)
    }
}

/// A field of an answer for a cell of a table: nothing where it is not there.
pub fn cell(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(scalar).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Milliseconds since the Unix epoch for people.
fn instant(value: &Value, key: &str) -> String {
    let seconds = match value[key].as_u64() {
        None | Some(0) => return String::new(),
        Some(ms) => (ms / 1000) as i64,
    };
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
}

/// The items of a list answer: under this key, or the answer itself.
pub fn items<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    answer[key].as_array().or_else(|| answer.as_array()).map_or(&[], Vec::as_slice)
}

/// All items of a list that is answered in pages.
pub async fn pages(client: &Client, path: &[&str], filter: &[(&str, &str)], key: &str) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut query = filter.to_vec();
        query.push(("limit", "1000"));
        if !cursor.is_empty() {
            query.push(("cursor", &cursor));
        }
        let answer = client.json(client.call_with(Method::GET, path, &query)).await?;
        all.extend_from_slice(items(&answer, key));
        cursor = cell(&answer, "next_cursor");
        if cursor.is_empty() {
            return Ok(all);
        }
    }
}
