//! `conflux config`: for users.

use std::{
    io::Read,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use conflux_common::{error::Code, headers};
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};

use super::{
    Session, cell,
    draft::DraftCommand,
    edit::EditArgs,
    get::GetArgs,
    inspect::{DiffArgs, ResolveArgs, ValidateArgs},
    instant, pages,
    publish::{PromotionArgs, PublishArgs, RollbackArgs},
    release::{ReleaseArgs, ShowArgs},
    update::UpdateArgs,
    usage::{ImpactArgs, UnusedArgs, UsageArgs},
    watch::WatchArgs,
};
use crate::{
    client::Client,
    failure::Failure,
    output::{Output, Table},
};

/// What one request may hold (DESIGN section 6), and a little more, so that the service says how much is too much.
const MAX_CONTENT: u64 = 4 << 20;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Make a new config and release it; refused where it exists
    #[command(after_help = "Example:\n  conflux config create shop/prod/app.yaml -f app.yaml --tag team-a")]
    Create {
        #[command(flatten)]
        write: WriteArgs,
        /// A tag (may be repeated)
        #[arg(long = "tag")]
        tags: Vec<String>,
    },
    /// Put a file: makes the config or adds a version, and releases it
    #[command(after_help = "Examples:\n  conflux config put shop/prod/app.yaml -f app.yaml\n  \
        jq .new < values.json | conflux config put shop/prod/values.json\n  \
        conflux config put shop/prod/app.yaml -f app.yaml --if-match '\"1.17\"'")]
    Put {
        #[command(flatten)]
        write: WriteArgs,
        /// Only if its ETag is still this one (`config list -o json` shows it)
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Fetch what is released to a client with these labels; the content goes to standard output as it is
    #[command(after_help = super::get::HELP)]
    Get(GetArgs),
    /// List configs
    List {
        #[arg(long)]
        app: Option<String>,
        #[arg(long)]
        env: Option<String>,
        #[arg(long)]
        name: Option<String>,
        /// The beginning of the name
        #[arg(long)]
        prefix: Option<String>,
        #[arg(long)]
        tag: Option<String>,
        #[arg(long)]
        format: Option<String>,
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// Delete a config with all its versions
    #[command(after_help = "Example:\n  conflux config delete shop/prod/app.yaml")]
    Delete {
        /// app/env/name
        config: ConfigPath,
        #[command(flatten)]
        tenant: TenantArg,
    },
    /// List a config's versions
    Versions(ShowArgs),
    /// List a config's release rules: who is served which version
    Releases(ShowArgs),
    /// Serve a version to clients with these labels, or to all others
    #[command(after_help = "Examples:\n  conflux config release shop/prod/app.yaml --version 3\n  \
        conflux config release shop/prod/app.yaml --version 4 --label region=eu --priority 10\n  \
        conflux config release shop/prod/app.yaml --label region=eu --remove\n\n\
        The rule with the same labels is replaced; without labels it is the default rule. Others stay.")]
    Release(ReleaseArgs),
    /// Show what is fetched, when last, and by about how many clients
    #[command(after_help = "Example:\n  conflux config usage --app shop --env prod")]
    Usage(UsageArgs),
    /// List configs that nobody has fetched for some days
    #[command(after_help = "Example:\n  conflux config unused --days 60\n\n\
        OBSERVED FOR says how far back the answer can know.")]
    Unused(UnusedArgs),
    /// Show whom a release would reach, of the clients seen lately, before it is made
    #[command(after_help = "Examples:\n  conflux config impact shop/prod/app.yaml --version 4\n  \
        conflux config impact shop/prod/app.yaml --strategy canary --percent 10\n  \
        conflux config impact shop/prod/app.yaml --strategy targeted --label region=eu --version 4\n\n\
        A * marks clients that would be served another version.")]
    Impact(ImpactArgs),
    /// Release a content, a draft or a version to everybody, a share, or clients with labels: one step
    #[command(after_help = "Examples:\n  conflux config publish shop/prod/app.yaml -f app.yaml\n  \
        conflux config publish shop/prod/app.yaml -f app.yaml --strategy canary --percent 10 --make-default-after 60\n  \
        conflux config publish shop/prod/app.yaml --version 4 --strategy blue-green --label slot=green\n  \
        conflux config publish shop/prod/app.yaml --draft 1 --strategy targeted --label hostname=web-3 --dry-run")]
    Publish(PublishArgs),
    /// Serve an older version by default again
    #[command(after_help = "Examples:\n  conflux config rollback shop/prod/app.yaml\n  \
        conflux config rollback shop/prod/app.yaml --version 3")]
    Rollback(RollbackArgs),
    /// The version that becomes the default by itself, if there is one
    #[command(after_help = "Example:\n  conflux config promotion shop/prod/app.yaml --cancel")]
    Promotion(PromotionArgs),
    /// Which version a client is served, by which rule, and why not by the others
    #[command(
        after_help = "Example:\n  conflux config resolve shop/prod/app.yaml --label region=eu --label client=c-17"
    )]
    Resolve(ResolveArgs),
    /// What is different between two versions
    #[command(after_help = "Examples:\n  conflux config diff shop/prod/app.yaml\n  \
        conflux config diff shop/prod/app.yaml --from 2 --to 5 --values")]
    Diff(DiffArgs),
    /// Contents that are kept and not released
    #[command(subcommand)]
    Drafts(DraftCommand),
    /// Look at a content without writing anything; exit code 2 if it would be refused
    #[command(after_help = "Examples:\n  conflux config validate -f app.yaml --schema app.schema.json\n  \
        echo '{' | conflux config validate --format json")]
    Validate(ValidateArgs),
    /// Change what is said of a config: description, tags, schema, retention
    #[command(after_help = "Examples:\n  conflux config update shop/prod/app.yaml --schema app.schema.json\n  \
        conflux config update shop/prod/app.yaml --tag team-a --tag web --keep-versions 20\n  \
        conflux config update shop/prod/app.yaml --no-schema --keep-all")]
    Update(UpdateArgs),
    /// Change what is released in an editor; it is checked before it is sent
    #[command(after_help = "Example:\n  EDITOR='code --wait' conflux config edit shop/prod/app.yaml\n\n\
        The editor is $VISUAL, else $EDITOR, else vi. It is refused if somebody else has changed the config meanwhile;\n\
        your text is kept then.")]
    Edit(EditArgs),
    /// Print changes as they happen, until Ctrl-C
    #[command(after_help = "Examples:\n  conflux config watch\n  conflux config watch shop/prod\n  \
        conflux config watch shop/prod/app.yaml --label region=eu -o json\n\n\
        A broken connection is taken up again where it ended: each change is printed once.")]
    Watch(WatchArgs),
}

#[derive(Debug, Args)]
pub struct TenantArg {
    /// The tenant [default: the profile's]
    #[arg(long, env = "CONFLUX_TENANT")]
    pub tenant: Option<String>,
}

#[derive(Debug, Args)]
pub struct WriteArgs {
    /// app/env/name
    config: ConfigPath,
    /// The content [default: standard input]
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// json, yaml, toml, plaintext or binary [default: by the end of the name, else as text or bytes]
    #[arg(long)]
    format: Option<String>,
    /// What this version is for
    #[arg(long)]
    description: Option<String>,
    /// Makes it safe to run this again: the same key has one effect
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    tenant: TenantArg,
}

/// `app/env/name`
#[derive(Debug, Clone)]
pub struct ConfigPath {
    pub app: String,
    pub env: String,
    pub name: String,
}

impl FromStr for ConfigPath {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let [app, env, name] = parts[..] else { bail!("app/env/name is expected, as in shop/prod/app.yaml") };
        Ok(Self {
            app: conflux_common::ids::AppName::new(app)?.to_string(),
            env: conflux_common::ids::EnvName::new(env)?.to_string(),
            name: conflux_common::ids::ConfigName::new(name)?.to_string(),
        })
    }
}

impl ConfigPath {
    /// The config's own name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.app, self.env, self.name)
    }
}

/// `region=eu`
#[derive(Debug, Clone)]
pub struct Label {
    pub name: String,
    pub value: String,
}

impl FromStr for Label {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, value) = text.split_once('=').context("NAME=VALUE is expected")?;
        Ok(Self { name: name.into(), value: value.into() })
    }
}

pub async fn run(command: ConfigCommand, session: Session) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Create { write, tags } => create(write, tags, &session).await,
        ConfigCommand::Put { write, if_match } => put(write, if_match, &session).await,
        ConfigCommand::Get(args) => super::get::run(args, &session).await,
        ConfigCommand::List { app, env, name, prefix, tag, format, tenant } => {
            let (client, tenant) = session.user(tenant.tenant.as_deref())?;
            let filter =
                [("app", app), ("env", env), ("name", name), ("prefix", prefix), ("tag", tag), ("format", format)];
            let filter: Vec<(&str, &str)> = filter.iter().filter_map(|(key, v)| Some((*key, v.as_deref()?))).collect();
            let configs = list(&client, &tenant, &filter).await?;
            session.output.list(table(&configs), json!({"configs": configs}))
        }
        ConfigCommand::Delete { config, tenant } => {
            let (client, tenant) = session.user(tenant.tenant.as_deref())?;
            let id = id_of(&client, &tenant, &config).await?;
            let answer =
                client.json(client.call(Method::DELETE, &["api", "v1", "mgt", &tenant, "configs", &id])).await?;
            session.output.done(&format!("{config} is deleted"), answer)
        }
        ConfigCommand::Versions(args) => super::release::versions(args, &session).await,
        ConfigCommand::Releases(args) => super::release::show(args, &session).await,
        ConfigCommand::Release(args) => super::release::set(args, &session).await,
        ConfigCommand::Usage(args) => super::usage::usage(args, &session).await,
        ConfigCommand::Unused(args) => super::usage::unused(args, &session).await,
        ConfigCommand::Impact(args) => super::usage::impact(args, &session).await,
        ConfigCommand::Publish(args) => super::publish::publish(args, &session).await,
        ConfigCommand::Rollback(args) => super::publish::rollback(args, &session).await,
        ConfigCommand::Promotion(args) => super::publish::promotion(args, &session).await,
        ConfigCommand::Resolve(args) => super::inspect::resolve(args, &session).await,
        ConfigCommand::Diff(args) => super::inspect::diff(args, &session).await,
        ConfigCommand::Drafts(command) => super::draft::run(command, &session).await,
        ConfigCommand::Validate(args) => super::inspect::validate(args, &session).await,
        ConfigCommand::Update(args) => super::update::run(args, &session).await,
        ConfigCommand::Edit(args) => super::edit::run(args, &session).await,
        ConfigCommand::Watch(args) => super::watch::run(args, session).await,
    }
}

async fn put(write: WriteArgs, if_match: Option<String>, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(write.tenant.tenant.as_deref())?;
    let content = content(write.file.as_deref())?;
    let mut call =
        put_call(&client, &tenant, &write.config, write.description.as_deref(), write.format.as_deref(), content);
    if let Some(etag) = if_match {
        call = call.header(http::header::IF_MATCH, etag);
    }
    written(&client, keyed(call, &write), &write.config, session.output).await
}

/// The one-step PUT of a content.
pub fn put_call(
    client: &Client,
    tenant: &str,
    at: &ConfigPath,
    description: Option<&str>,
    format: Option<&str>,
    content: Vec<u8>,
) -> RequestBuilder {
    let path = ["api", "v1", "tenants", tenant, "apps", &at.app, "envs", &at.env, "configs", &at.name];
    let options = [("description", description), ("format", format)];
    let query: Vec<(&str, &str)> = options.into_iter().filter_map(|(key, v)| Some((key, v?))).collect();
    client.call_with(Method::PUT, &path, &query).body(content)
}

async fn create(write: WriteArgs, tags: Vec<String>, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(write.tenant.tenant.as_deref())?;
    let c = &write.config;
    let mut body = json!({"app": c.app, "env": c.env, "name": c.name, "tags": tags});
    if let Value::Object(body) = &mut body {
        put_content(body, content(write.file.as_deref())?);
    }
    for (key, value) in [("format", &write.format), ("description", &write.description)] {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    let call = client.call(Method::POST, &["api", "v1", "mgt", &tenant, "configs"]).json(&body);
    written(&client, keyed(call, &write), &write.config, session.output).await
}

fn keyed(call: RequestBuilder, write: &WriteArgs) -> RequestBuilder {
    match &write.idempotency_key {
        Some(key) => call.header(headers::IDEMPOTENCY_KEY, key),
        None => call,
    }
}

async fn written(client: &Client, call: RequestBuilder, path: &ConfigPath, output: Output) -> anyhow::Result<()> {
    let answer = client.json(call).await?;
    let text = format!("{path} is at version {}, revision {}", cell(&answer, "version"), cell(&answer, "revision"));
    output.done(&text, answer)
}

/// Bytes travel in JSON only if they are text; the service keeps them as they are either way.
pub fn put_content(body: &mut Map<String, Value>, content: Vec<u8>) {
    match String::from_utf8(content) {
        Ok(text) => _ = body.insert("content".into(), json!(text)),
        Err(bytes) => _ = body.insert("content_base64".into(), json!(STANDARD.encode(bytes.as_bytes()))),
    }
}

/// The other way round.
pub fn text_or_bytes(shape: &Value) -> anyhow::Result<Vec<u8>> {
    match shape["content"].as_str() {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => STANDARD.decode(cell(shape, "content_base64")).context("the answer's content_base64"),
    }
}

/// What a client without labels is served.
pub async fn fetched(client: &Client, tenant: &str, at: &ConfigPath) -> anyhow::Result<Vec<u8>> {
    let path = ["api", "v1", "fetch", "config", tenant, &at.app, &at.env, &at.name];
    let call = client.call_with(Method::GET, &path, &[("consistency", "linearizable")]);
    Ok(client.send(call).await?.bytes().await.context("the answer broke off")?.to_vec())
}

/// The file, or standard input.
pub fn content(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    let stands_for = file.filter(|path| *path != Path::new("-"));
    let mut source: Box<dyn Read> = match stands_for {
        Some(path) => Box::new(std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?),
        None => Box::new(std::io::stdin().lock()),
    };
    source.by_ref().take(MAX_CONTENT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_CONTENT {
        bail!("the content has more than {MAX_CONTENT} bytes");
    }
    Ok(content)
}

async fn list(client: &Client, tenant: &str, filter: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
    pages(client, &["api", "v1", "mgt", tenant, "configs"], filter, "configs").await
}

/// A config is named by app, env and name; the management calls want its id.
pub async fn id_of(client: &Client, tenant: &str, path: &ConfigPath) -> anyhow::Result<String> {
    Ok(cell(&record(client, tenant, path).await?, "id"))
}

/// A config's record.
pub async fn record(client: &Client, tenant: &str, path: &ConfigPath) -> anyhow::Result<Value> {
    let filter = [("app", &*path.app), ("env", &*path.env), ("name", &*path.name)];
    let found = list(client, tenant, &filter).await?;
    found.into_iter().find(|config| cell(config, "name") == path.name).ok_or_else(|| {
        let error = conflux_common::error::ApiError::new(Code::NotFound, format!("there is no config {path}"));
        Failure::Refused { status: 404, info: Box::new(error.to_body("").error) }.into()
    })
}

fn table(configs: &[Value]) -> Table {
    let mut table = Table::new(&["APP", "ENV", "NAME", "ID", "FORMAT", "LATEST", "UPDATED", "TAGS"]);
    for c in configs {
        table.row([
            cell(c, "app"),
            cell(c, "env"),
            cell(c, "name"),
            cell(c, "id"),
            cell(c, "format"),
            cell(c, "latest_version"),
            instant(c, "updated_ms"),
            cell(c, "tags"),
        ]);
    }
    table
}
