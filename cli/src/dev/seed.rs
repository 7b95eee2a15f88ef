//! What a new federation gets once: an operator's key, the tenant `demo` with a key, and a sample config.

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::{Context, bail};
use conflux_common::error::Code;
use reqwest::Method;
use serde_json::{Value, json};

use super::{federation::Federation, layout::Layout};
use crate::{client::Client, failure::Failure, files, profile::Profile};

/// App, environment and name of the sample.
pub const SAMPLE: (&str, &str, &str) = ("shop", "prod", "app.yaml");
const TENANT: &str = "demo";
const SAMPLE_CONTENT: &str = "\
# The sample config of the tenant demo.
greeting: hello
checkout:
  max_items: 20
  payment_methods: [card, invoice]
";
/// Elections and first routes settle within this.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// Makes what is missing, unless all of it was made before. Each step may have been done by a run that was cut short.
pub async fn ensure(layout: &Layout, federation: &Federation) -> anyhow::Result<()> {
    if layout.seeded().exists() {
        return Ok(());
    }
    let operator = Client::operator(&profile(layout, federation, None)?)?;
    if !layout.admin_key().exists() {
        make_key(&operator, json!({"operator": true, "description": "made by conflux dev"}), &layout.admin_key())
            .await
            .context("cannot make the operator's key")?;
    }
    let tenant = json!({"name": TENANT, "description": "a playground"});
    let made = settled(&operator, Method::POST, &["api", "v1", "admin", "tenants"], &Body::Json(tenant)).await;
    match made {
        Err(e) if !is(&e, Code::AlreadyExists) => return Err(e).context("cannot make the tenant demo"),
        _ => {}
    }
    if !layout.demo_key().exists() {
        let key = json!({"tenant": TENANT, "roles": ["admin"], "description": "made by conflux dev"});
        make_key(&operator, key, &layout.demo_key()).await.context("cannot make a key of the tenant demo")?;
    }
    let user = Client::user(&profile(layout, federation, Some(&layout.demo_key()))?)?;
    let (app, env, name) = SAMPLE;
    let path = ["api", "v1", "tenants", TENANT, "apps", app, "envs", env, "configs", name];
    settled(&user, Method::PUT, &path, &Body::Yaml(SAMPLE_CONTENT)).await.context("cannot put the sample config")?;
    files::write(
        &layout.seeded(),
        "The tenant demo was made. It is never made again in this directory.\n",
        files::PUBLIC,
    )
}

/// By member, from the groups' own status. A member that does not answer stays unknown.
pub async fn node_ids(layout: &Layout, federation: &Federation) -> anyhow::Result<HashMap<String, u64>> {
    let operator = Client::operator(&profile(layout, federation, None)?)?;
    let mut groups: Vec<&str> = federation.members.iter().map(|m| m.group.as_str()).collect();
    groups.dedup();
    let mut ids = HashMap::new();
    for group in groups {
        let status = settled(&operator, Method::GET, &["_cluster", group, "status"], &Body::None).await?;
        for member in status["members"].as_array().into_iter().flatten() {
            if let (Some(name), Some(id)) = (member["member"].as_str(), member["node_id"].as_u64()) {
                ids.insert(name.to_owned(), id);
            }
        }
    }
    Ok(ids)
}

fn profile(layout: &Layout, federation: &Federation, key: Option<&Path>) -> anyhow::Result<Profile> {
    let gateway = federation.gateways.first().context("a federation needs a gateway to be seeded")?;
    Ok(Profile {
        url: Some(gateway.url.clone()),
        operator_url: Some(gateway.operator_url.clone()),
        ca: Some(layout.ca()),
        key_file: key.map(Path::to_owned),
        cert: Some(layout.operator().join("cert.pem")),
        cert_key: Some(layout.operator().join("key.pem")),
        ..Profile::default()
    })
}

async fn make_key(operator: &Client, key: Value, path: &Path) -> anyhow::Result<()> {
    // An answer that was lost and is asked for again comes without the secret: then this key is of no use, the next is.
    for _ in 0..3 {
        let body = Body::Json(key.clone());
        let answer = settled(operator, Method::POST, &["api", "v1", "admin", "keys"], &body).await?;
        if let Some(secret) = answer["key"].as_str() {
            return files::write(path, format!("{secret}\n"), files::PRIVATE);
        }
    }
    bail!("the answers hold no key")
}

enum Body {
    None,
    Json(Value),
    Yaml(&'static str),
}

/// Repeats a call that is refused because something is still starting. Without an idempotency key this would be
/// wrong for writes whose answer was lost: each call carries one.
async fn settled(client: &Client, method: Method, path: &[&str], body: &Body) -> anyhow::Result<Value> {
    let key = uuid::Uuid::new_v4().to_string();
    let deadline = tokio::time::Instant::now() + SETTLE_WITHIN;
    let mut pause = tokio::time::interval(RETRY_EVERY);
    loop {
        pause.tick().await;
        let call = client.call(method.clone(), path).header(conflux_common::headers::IDEMPOTENCY_KEY, &key);
        let call = match body {
            Body::None => call,
            Body::Json(value) => call.json(value),
            Body::Yaml(text) => call.header(http::header::CONTENT_TYPE, "application/yaml").body(*text),
        };
        match client.json(call).await {
            Ok(answer) => return Ok(answer),
            Err(e) if still_starting(&e) && tokio::time::Instant::now() < deadline => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// A key is known to a gateway, and a tenant to its shard, a moment after placement has answered.
fn still_starting(failure: &Failure) -> bool {
    match failure {
        Failure::NoAnswer { .. } => true,
        Failure::Refused { info, .. } => info.retryable || info.code == Code::Unauthenticated,
        Failure::Usage(_) | Failure::Told(_) => false,
    }
}

fn is(error: &anyhow::Error, code: Code) -> bool {
    matches!(error.downcast_ref::<Failure>(), Some(Failure::Refused { info, .. }) if info.code == code)
}
