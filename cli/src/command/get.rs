//! `conflux config get`.

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use conflux_common::headers;
use http::HeaderMap;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Session,
    config::{ConfigPath, Label, TenantArg},
    references,
};
use crate::{
    client::Client,
    output::{self, Output},
};

/// For `--help`.
pub const HELP: &str = "Examples:\n  conflux config get shop/prod/app.yaml > app.yaml\n  \
    conflux config get shop/prod/app.yaml --label region=eu -o json\n  \
    conflux config get shop/prod/app.yaml --resolve\n\n\
    With -o json the answer tells version, hash and revision; content that is no UTF-8 is in base64.\n\n\
    A content may refer to others of its tenant: {{ conflux:shop/prod/db.yaml#/hosts/0 }} stands for the value at that\n\
    JSON pointer, {{ conflux:shop/prod/motd }} for a whole content. --resolve fetches them with this key, for the same\n\
    labels, and puts them in place; without it they stay as they are written.";

#[derive(Debug, Args)]
pub struct GetArgs {
    /// app/env/name
    config: ConfigPath,
    /// NAME=VALUE: a label of the client (may be repeated)
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<Label>,
    /// How current it must be
    #[arg(long, value_enum)]
    consistency: Option<Consistency>,
    /// At least as new as this revision, as an answer showed it
    #[arg(long)]
    min_revision: Option<String>,
    /// Put what it refers to in place of each {{ conflux:app/env/name#/pointer }}
    #[arg(long)]
    resolve: bool,
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Consistency {
    /// Any replica
    Stale,
    /// The leader's state
    Leader,
    /// After everything that was acknowledged before
    Linearizable,
}

/// What every fetch of one command asks with.
pub struct Asker {
    client: Client,
    tenant: String,
    labels: Vec<Label>,
    query: Vec<(&'static str, String)>,
}

/// A content as it was served.
pub struct Fetched {
    headers: HeaderMap,
    pub content: Vec<u8>,
}

impl Asker {
    /// The content that is released to this client.
    pub async fn fetch(&self, at: &ConfigPath) -> anyhow::Result<Fetched> {
        let path = ["api", "v1", "fetch", "config", &self.tenant, &at.app, &at.env, &at.name];
        let query: Vec<(&str, &str)> = self.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut call = self.client.call_with(Method::GET, &path, &query);
        for label in &self.labels {
            call = call.header(format!("{}{}", headers::CLIENT_LABEL_PREFIX, label.name), &label.value);
        }
        let answer = self.client.send(call).await?;
        let headers = answer.headers().clone();
        Ok(Fetched { headers, content: answer.bytes().await.context("the answer broke off")?.to_vec() })
    }
}

impl Fetched {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    pub fn version(&self) -> Option<u64> {
        self.header(headers::CONFIG_VERSION)?.parse().ok()
    }
}

pub async fn run(args: GetArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let level = args.consistency.and_then(|c| c.to_possible_value()).map(|level| level.get_name().to_owned());
    let query = [("consistency", level), ("min_revision", args.min_revision)];
    let query = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let asker = Asker { client, tenant, labels: args.labels, query };
    let fetched = asker.fetch(&args.config).await?;
    let resolved = match args.resolve {
        true => Some(references::resolve(&asker, &args.config, &fetched).await?),
        false => None,
    };
    let content = resolved.as_ref().map_or(&fetched.content, |resolved| &resolved.content);
    if session.output == Output::Table {
        return output::bytes(content);
    }
    let mut value = shown(&fetched, content);
    if let Some(resolved) = &resolved {
        value["references"] = json!(resolved.versions);
    }
    session.output.done("", value)
}

fn shown(fetched: &Fetched, content: &[u8]) -> Value {
    let mut value = json!({
        "version": fetched.version(),
        "hash": fetched.header(headers::CONFIG_HASH),
        "revision": fetched.header(headers::REVISION),
        "age_ms": fetched.header(headers::AGE_MS).and_then(|v| v.parse::<u64>().ok()),
        "etag": fetched.header("etag"),
        "media_type": fetched.header("content-type"),
        "request_id": fetched.header(headers::REQUEST_ID),
    });
    match std::str::from_utf8(content) {
        Ok(text) => value["content"] = json!(text),
        Err(_) => value["content_base64"] = json!(STANDARD.encode(content)),
    }
    value
}
