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

use crate::{
    disks::Disks,
    history,
    nemesis::Tools,
    plan::{Grounds, Means},
    relay::Relay,
};

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

/// Little log is kept and snapshots are often taken: whoever was away for some seconds is sent a snapshot. A move may hold writes
/// for longer than by default, so that moves get through faults, and get through a machine that is busy with all of this.
const SETTINGS: [&str; 5] = [
    "placement:moves.freeze_budget_ms=4000",
    "shard:member.raft.snapshot_after_bytes=262144",
    "shard:member.raft.keep_log_bytes=131072",
    "placement:member.raft.snapshot_after_bytes=16384",
    "placement:member.raft.keep_log_bytes=8192",
];

/// Where Debian puts libfaketime.
const LIBFAKETIME: &str = "/usr/lib/*/faketime/libfaketimeMT.so.1";

/// A federation of our own, what it can be harmed with, and what had to be left out, in words.
pub struct Own {
    pub federation: Federation,
    pub tools: Tools,
    pub left_out: Vec<String>,
}

/// Starts a federation whose data and logs lie below this directory, and stay there. `disks`: whether members may have some
/// of their own; else why not.
pub async fn start_federation(below: &Path, disks: Result<(), String>) -> Result<Own> {
    let directory = tempfile::Builder::new().prefix("federation-").disable_cleanup(true).tempdir_in(below)?;
    let (root, mut left_out) = (directory.path().to_owned(), Vec::new());
    let disks = match disks {
        Ok(()) => Some(disks_of_all(&root)?),
        Err(why) => {
            left_out.push(format!("lost power, full disks and flipped bits: {why}"));
            None
        }
    };
    let relay = Relay::start(&root).await?;
    let witness = root.join("witness");
    std::fs::create_dir(&witness)?;
    let env = vec![
        (conflux_common::detour::VARIABLE.to_owned(), relay.address().to_owned()),
        ("CONFLUX_WITNESS".to_owned(), witness.display().to_string()),
    ];
    let federation = Federation::start_in_with(directory, SHAPE, &SETTINGS, env).await?;
    let relay = Some(relay).filter(|relay| relay.relayed() > 0);
    if relay.is_none() {
        left_out.push("cuts of links and ill disks: `conflux` is a release build".into());
    }
    let clocks = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let clocks = clocks.map(|e| e.path().join("faketime/libfaketimeMT.so.1")).find(|p| p.exists());
    if clocks.is_none() {
        left_out.push(format!("jumps of clocks: no {LIBFAKETIME} (apt-get install faketime)"));
    }
    Ok(Own { federation, tools: Tools { relay, disks, clocks, witness }, left_out })
}

/// A disk for each member of [`SHAPE`], under the names that `conflux dev` gives.
fn disks_of_all(root: &Path) -> Result<Disks> {
    let mut disks = Disks::new(root.join("disks"))?;
    let shards = (0..SHAPE.shards).map(|n| format!("shard-{}", char::from(b'a' + n as u8)));
    let groups = shards.map(|group| (group, SHAPE.replicas)).chain([("placement".to_owned(), SHAPE.placement)]);
    for (group, members) in groups {
        for n in 1..=members {
            let name = format!("{group}-{n}");
            disks.add(&name, &root.join(&name).join("data"))?;
        }
    }
    Ok(disks)
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
        let most = quotas(100_000);
        // 202: kept, and its shard has not confirmed it yet.
        eventually(Duration::from_secs(20), || async {
            operator.put_json(&format!("/api/v1/admin/tenants/{name}/quotas"), &most).await?.expect(&[200])
        })
        .await
        .context("the tenant's quotas")?;
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

    pub fn grounds(&self, means: Means) -> Grounds {
        Grounds {
            groups: self.groups().len(),
            gateways: self.description.gateways.len(),
            tenants: self.tenants.len(),
            means,
            moves: self.shard_groups().len() > 1,
        }
    }

    /// Asks as operator at whichever gateway answers.
    pub async fn ask(&self, path: &str) -> Result<Value> {
        ask(&self.operators, path).await
    }
}

/// So many configs, and of all else more than a run needs.
pub fn quotas(configs: u64) -> Value {
    json!({"configs": configs, "config_bytes": 1 << 20, "versions": 1_000_000, "total_bytes": 1u64 << 40})
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
