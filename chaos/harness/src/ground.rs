//! What a run stands on: a federation of its own, or one that runs already, and tenants made for the run.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use conflux_tests::{
    Client, Federation, Shape,
    client::Place,
    federation::{Description, Gateway},
    watch::{Transport, Watcher},
};
use serde_json::{Value, json};

use crate::{history, plan::Grounds};

/// A tenant of the run.
pub struct Tenant {
    pub name: String,
    /// One for each gateway.
    pub clients: Vec<Client>,
    /// The revision after which the watchers began.
    pub watched_from: u64,
    pub watchers: Vec<Watcher>,
}

/// See the module.
pub struct Ground {
    pub description: Description,
    /// Of whoever runs it.
    pub operators: Vec<Client>,
    pub tenants: Vec<Tenant>,
}

fn clients(gateways: &[Gateway], key: &str) -> Vec<Client> {
    gateways.iter().map(|g| Client::new(&g.url, &g.ca_file, Some(key.trim()))).collect()
}

/// Where a register is.
pub fn place(tenant: &str, register: &str) -> Place {
    Place::new(tenant, "chaos", "test", &format!("{register}.json"))
}

/// Two gateways, so that one can die while the other serves.
const SHAPE: Shape = Shape { shards: 2, replicas: 3, placement: 3, gateways: 2 };

/// Starts a federation whose data and logs lie below this directory, and stay there.
pub async fn start_federation(below: &Path) -> Result<Federation> {
    let directory = tempfile::Builder::new().prefix("federation-").disable_cleanup(true).tempdir_in(below)?;
    Federation::start_in(directory, SHAPE, &[]).await
}

/// Reads what `conflux dev` wrote.
pub fn describe(file: &Path) -> Result<Description> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not what `conflux dev` writes", file.display()))
}

impl Ground {
    /// Makes the tenants, one on each shard group in turn, and opens their watchers.
    pub async fn prepare(description: Description, seed: u64, tenants: usize) -> Result<Self> {
        let key = std::fs::read_to_string(&description.admin_key_file).context("the operator's key")?;
        let operators = clients(&description.gateways, &key);
        let mut ground = Self { description, operators, tenants: Vec::new() };
        let shards = ground.shard_groups();
        for n in 0..tenants {
            let name = format!("chaos-{seed:x}-{}-{}", std::process::id(), n + 1);
            let tenant = ground.tenant(&name, &shards[n % shards.len()]).await?;
            ground.tenants.push(tenant);
        }
        Ok(ground)
    }

    async fn tenant(&self, name: &str, shard: &str) -> Result<Tenant> {
        let operator = &self.operators[0];
        let body = json!({ "name": name, "shard": shard });
        operator.post_json("/api/v1/admin/tenants", &body).await?.expect(&[201, 202])?;
        let most =
            json!({"configs": 100_000, "config_bytes": 1 << 20, "versions": 1_000_000, "total_bytes": 1u64 << 40});
        operator.put_json(&format!("/api/v1/admin/tenants/{name}/quotas"), &most).await?.expect(&[200])?;
        let body = json!({ "tenant": name, "roles": ["admin"] });
        let key = operator.post_json("/api/v1/admin/keys", &body).await?.expect(&[201])?.json();
        let clients = clients(&self.description.gateways, key["key"].as_str().context("the key in the answer")?);
        let first = place(name, "first");
        let mut from = String::new();
        for client in &clients {
            from = eventually(Duration::from_secs(20), || async {
                let put = client.put(&first, history::document(1)).await?.expect(&[200, 201])?.json();
                Ok(put["revision"].as_str().context("a revision")?.to_owned())
            })
            .await
            .context("the new tenant is not served")?;
        }
        let watched_from = history::revision_of(&from).context("a revision of two parts")?;
        let mut watchers = Vec::new();
        for (n, transport) in Transport::ALL.into_iter().enumerate() {
            let gateway = n % clients.len();
            let ca = &self.description.gateways[gateway].ca_file;
            watchers.push(Watcher::start(&clients[gateway], ca, name, transport, &from).await);
        }
        Ok(Tenant { name: name.into(), clients, watched_from, watchers })
    }

    /// All Raft groups; placement last.
    pub fn groups(&self) -> Vec<String> {
        let mut groups = self.shard_groups();
        groups.extend(self.described("placement"));
        groups
    }

    pub fn shard_groups(&self) -> Vec<String> {
        self.described("shard")
    }

    fn described(&self, role: &str) -> Vec<String> {
        let mut groups: Vec<String> =
            self.description.members.iter().filter(|m| m.role == role).map(|m| m.group.clone()).collect();
        groups.sort();
        groups.dedup();
        groups
    }

    pub fn grounds(&self, processes: bool) -> Grounds {
        Grounds {
            groups: self.groups().len(),
            gateways: self.description.gateways.len(),
            tenants: self.tenants.len(),
            processes,
            moves: self.shard_groups().len() > 1,
        }
    }

    /// Asks as operator at whichever gateway answers.
    pub async fn ask(&self, path: &str) -> Result<Value> {
        ask(&self.operators, path).await
    }
}

/// Asks at one gateway after the other.
pub async fn ask(operators: &[Client], path: &str) -> Result<Value> {
    let mut last = None;
    for operator in operators {
        match operator.get(path).await.and_then(|a| a.expect(&[200])) {
            Ok(answer) => return Ok(answer.json()),
            Err(why) => last = Some(why),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no gateway")))
}

/// Tells one gateway after the other; what a gateway refuses, the next one is not asked.
pub async fn tell(operators: &[Client], path: &str, body: &Value) -> Result<Value> {
    let mut last = None;
    for operator in operators {
        match operator.post_json(path, body).await {
            Ok(answer) => return Ok(answer.expect(&[200, 202])?.json()),
            Err(why) => last = Some(why),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no gateway")))
}

/// Tries again and again until it succeeds or the time is over; the last error then.
pub async fn eventually<T, F: Future<Output = Result<T>>>(
    within: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let start = tokio::time::Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(why) if start.elapsed() > within => return Err(why),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Fails early where a run could not mean anything.
pub fn suitable(description: &Description) -> Result<()> {
    ensure!(!description.gateways.is_empty(), "the federation has no gateway");
    if !description.members.iter().any(|m| m.role == "shard") {
        bail!("the federation has no shard group");
    }
    Ok(())
}
