//! A federation of real processes (`conflux dev`), and its calls as requests of a load.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::{Method, Request, header};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    connection::{Body, Endpoint, Protocol, whole},
    document::{Documents, mixed},
    load::Requests,
    process::{self, Groups},
};

/// The tenant that `conflux dev` makes.
pub const TENANT: &str = "demo";

/// `federation.json`, as far as it matters here.
#[derive(Deserialize)]
struct Description {
    gateways: Vec<Gateway>,
    admin_key_file: PathBuf,
    demo_key_file: PathBuf,
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Gateway {
    url: String,
    ca_file: PathBuf,
    pid: i32,
}

#[derive(Clone, Deserialize)]
struct Member {
    role: String,
    group: String,
    member: String,
    pid: i32,
    log_file: PathBuf,
    config_file: PathBuf,
}

/// Ends with what it started when it is dropped.
pub struct Federation {
    binary: PathBuf,
    dev: Child,
    description: Description,
    restarted: BTreeMap<String, Child>,
    admin_key: String,
    demo_key: String,
    // Removed last.
    _directory: tempfile::TempDir,
}

impl Federation {
    /// Starts one with so many shard groups of three, placement of three and one gateway; returns once it is ready.
    pub async fn start(binary: &Path, base: &Path, shards: u32) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("conflux-bench-").tempdir_in(base)?;
        let out = std::fs::File::create(directory.path().join("dev.out"))?;
        let mut dev = Command::new(binary)
            .args(["dev", "--replicas", "3", "--placement", "3", "--gateways", "1", "--shards", &shards.to_string()])
            .arg("--data-dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}: --conflux names a release build of it", binary.display()))?;
        let start = Instant::now();
        let described = directory.path().join("federation.json");
        let description: Description = loop {
            if let Some(text) = std::fs::read(&described).ok().filter(|text| !text.is_empty()) {
                break serde_json::from_slice(&text)?;
            }
            if dev.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(90) {
                bail!("no federation: {}", std::fs::read_to_string(directory.path().join("dev.out"))?);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let key = |file: &Path| anyhow::Ok(std::fs::read_to_string(file)?.trim().to_owned());
        let (admin_key, demo_key) = (key(&description.admin_key_file)?, key(&description.demo_key_file)?);
        let binary = binary.to_owned();
        let federation =
            Self { binary, dev, description, restarted: BTreeMap::new(), admin_key, demo_key, _directory: directory };
        federation.raise_quotas().await?;
        Ok(federation)
    }

    /// A load is beyond what a tenant may by default.
    async fn raise_quotas(&self) -> Result<()> {
        let most = json!({
            "configs": 100_000, "config_bytes": 1 << 20, "versions": 1_000_000, "total_bytes": 1u64 << 40,
        });
        self.operate(Method::PUT, &format!("/api/v1/admin/tenants/{TENANT}/quotas"), Some(&most)).await?;
        Ok(())
    }

    fn gateway(&self) -> Result<&Gateway> {
        self.description.gateways.first().context("a gateway in federation.json")
    }

    /// The gateway's client port.
    pub fn endpoint(&self, protocol: Protocol) -> Result<Endpoint> {
        let gateway = self.gateway()?;
        let address =
            gateway.url.trim_start_matches("https://").trim_end_matches('/').replace("localhost", "127.0.0.1");
        Endpoint::new(&address, &gateway.ca_file, None, protocol)
    }

    /// The processes as they now run.
    pub fn processes(&self) -> Groups {
        let mut groups = Groups::new();
        groups.insert("gateway".into(), self.description.gateways.iter().map(|g| g.pid).collect());
        for member in &self.description.members {
            groups.entry(member.role.clone()).or_default().push(member.pid);
        }
        groups
    }

    /// An operator's call, on a connection of its own.
    pub async fn operate(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.admin_key))
            .header(header::CONTENT_TYPE, "application/json")
            .body(whole(body.map(Value::to_string).unwrap_or_default()))?;
        let answer = self.endpoint(Protocol::Http2)?.connect().await?.call(request).await;
        Ok(serde_json::from_slice(&answer.with_context(|| path.to_owned())?)?)
    }

    /// One of `keys` configs, at this consistency.
    pub fn fetches(&self, size: usize, keys: u64, consistency: &str) -> Requests {
        let (key, query) = (format!("Bearer {}", self.demo_key), format!("?consistency={consistency}"));
        Arc::new(move |number| {
            let path = format!("/api/v1/fetch/config/{TENANT}/bench/test/s{size}-{}.json{query}", mixed(number) % keys);
            built(Request::get(path).header(header::AUTHORIZATION, &key).body(whole("")))
        })
    }

    /// Puts and releases a new version of one of `keys` configs: in turn while there are none, then anywhere.
    pub fn puts(&self, size: usize, keys: u64, filling: bool) -> Requests {
        let (key, documents) = (format!("Bearer {}", self.demo_key), Documents::of(size));
        Arc::new(move |number| {
            let at = if filling { number % keys } else { mixed(number) % keys };
            // What fills and what changes are never the same document.
            let document = documents.document(if filling { number } else { number + (1 << 40) });
            let path = format!("/api/v1/tenants/{TENANT}/apps/bench/envs/test/configs/s{size}-{at}.json");
            let request = Request::put(path).header(header::AUTHORIZATION, &key);
            built(request.header(header::CONTENT_TYPE, "application/json").body(whole(document)))
        })
    }

    /// Follows all changes of the tenant over SSE, from now.
    pub fn watch(&self) -> Request<Body> {
        let request = Request::get(format!("/api/v1/watch/{TENANT}?app=bench&env=test"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.demo_key));
        built(request.header(header::ACCEPT, "text/event-stream").body(whole("")))
    }

    /// The name of the group's leader.
    pub async fn leader(&self, group: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let status = self.operate(Method::GET, &format!("/_cluster/{group}/status"), None).await;
            let members = status.as_ref().ok().and_then(|s| s["members"].as_array());
            let leader = members.and_then(|all| all.iter().find(|m| m["status"]["state"] == "leader"));
            if let Some(name) = leader.and_then(|m| m["member"].as_str()) {
                return Ok(name.to_owned());
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("{group} has no leader");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `kill -9`.
    pub fn kill(&self, member: &str) -> Result<()> {
        Ok(kill(Pid::from_raw(self.member(member)?.pid), Signal::SIGKILL)?)
    }

    /// Starts a killed member again, and returns once all of its group follow a leader.
    pub async fn restart(&mut self, name: &str) -> Result<()> {
        let member = self.member(name)?.clone();
        if let Some(mut child) = self.restarted.remove(name) {
            child.wait().await?;
        }
        let log = std::fs::File::options().create(true).append(true).open(&member.log_file)?;
        let child = Command::new(&self.binary)
            .arg(&member.role)
            .arg("--config")
            .arg(&member.config_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("a process that has just been started")? as i32;
        for m in self.description.members.iter_mut().filter(|m| m.member == name) {
            m.pid = pid;
        }
        self.restarted.insert(name.to_owned(), child);
        let start = Instant::now();
        loop {
            let status = self.operate(Method::GET, &format!("/_cluster/{}/status", member.group), None).await;
            let members = status.as_ref().ok().and_then(|s| s["members"].as_array());
            if members.is_some_and(|all| all.iter().all(|m| m["status"]["leader"].is_u64())) {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(60) {
                bail!("{name} did not come back");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.description.members.iter().find(|m| m.member == name).with_context(|| format!("no member {name}"))
    }
}

/// All parts of the requests here are fit for HTTP; one that is not becomes a request that every server refuses, and so a failure
/// that is counted.
pub fn built(request: Result<Request<Body>, http::Error>) -> Request<Body> {
    request.unwrap_or_else(|_| Request::new(whole("")))
}

impl Drop for Federation {
    fn drop(&mut self) {
        // Members that were restarted are children of this process: `kill_on_drop` ends them.
        self.restarted.clear();
        let Some(pid) = self.dev.id() else { return };
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) && process::runs(pid as i32) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.dev.start_kill();
    }
}
