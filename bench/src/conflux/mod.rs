//! A federation of real processes (`conflux dev`): started, asked as an operator, its members killed and started again.

mod calls;
mod gateway;
mod member;
mod tenants;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::{Method, Request, header};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::{Child, Command};

pub use self::calls::{Space, Tenant, built, watch_grpc, watch_sse, watch_websocket};
pub use self::tenants::CONFIGS_OF_A_TENANT;
use crate::{
    connection::{Endpoint, Expected, Protocol, whole},
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
    /// Of `conflux dev`.
    pid: i32,
}

#[derive(Clone, Deserialize)]
struct Gateway {
    member: String,
    url: String,
    metrics_url: String,
    ca_file: PathBuf,
    cert_dir: PathBuf,
    config_file: PathBuf,
    log_file: PathBuf,
    pid: i32,
}

#[derive(Clone, Deserialize)]
struct Member {
    role: String,
    group: String,
    member: String,
    address: String,
    metrics_url: String,
    data_dir: PathBuf,
    pid: i32,
    log_file: PathBuf,
    config_file: PathBuf,
}

/// What is started.
#[derive(Clone, Default)]
pub struct Setup {
    /// Shard groups of three; none: what `conflux dev` starts by itself, with placement and one gateway.
    pub shards: Option<u32>,
    /// A second gateway, which is stopped until [`Federation::start_second_gateway`].
    pub second_gateway: bool,
    /// `gateway:key.path=value`, as `conflux dev --set` takes it.
    pub set: Vec<String>,
    /// A command that starts it, as `strace -f`.
    pub under: Vec<String>,
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
    directory: tempfile::TempDir,
}

impl Federation {
    /// Returns once it is ready.
    pub async fn start(binary: &Path, base: &Path, setup: &Setup) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("conflux-bench-").tempdir_in(base)?;
        let out = std::fs::File::create(directory.path().join("dev.out"))?;
        let mut command = match setup.under.split_first() {
            None => Command::new(binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
        };
        command.args(["dev", "--data-dir"]).arg(directory.path());
        if let Some(shards) = setup.shards {
            command.args(["--replicas", "3", "--placement", "3", "--shards", &shards.to_string()]);
        }
        command.args(["--gateways", if setup.second_gateway { "2" } else { "1" }]);
        for set in &setup.set {
            command.args(["--set", set]);
        }
        let mut dev = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}: --conflux names a release build of it", binary.display()))?;
        let description = described(&mut dev, directory.path()).await?;
        let key = |file: &Path| anyhow::Ok(std::fs::read_to_string(file)?.trim().to_owned());
        let (admin_key, demo_key) = (key(&description.admin_key_file)?, key(&description.demo_key_file)?);
        let binary = binary.to_owned();
        let mut federation =
            Self { binary, dev, description, restarted: BTreeMap::new(), admin_key, demo_key, directory };
        if setup.second_gateway {
            federation.stop_second_gateway().await?;
        }
        Ok(federation)
    }

    /// The gateway's client port.
    pub fn endpoint(&self, protocol: Protocol) -> Result<Endpoint> {
        self.endpoint_of(self.gateway(0)?, protocol)
    }

    fn endpoint_of(&self, gateway: &Gateway, protocol: Protocol) -> Result<Endpoint> {
        let address = gateway.url.trim_start_matches("https://").trim_end_matches('/');
        Endpoint::new(&address.replace("localhost", "127.0.0.1"), &gateway.ca_file, None, protocol)
    }

    /// The processes as they now run, with the first gateway.
    pub fn processes(&self) -> Groups {
        let mut groups = Groups::new();
        groups.insert("gateway".into(), self.description.gateways.iter().take(1).map(|g| g.pid).collect());
        for member in &self.description.members {
            groups.entry(member.role.clone()).or_default().push(member.pid);
        }
        groups
    }

    /// Each process by its own name.
    pub fn each_process(&self) -> Groups {
        let gateways = self.description.gateways.iter().take(1).map(|g| (g.member.clone(), vec![g.pid]));
        gateways.chain(self.description.members.iter().map(|m| (m.member.clone(), vec![m.pid]))).collect()
    }

    /// The tenant that `conflux dev` made, with room for a load.
    pub async fn demo(&self) -> Result<Tenant> {
        let most = tenants::most();
        self.operate(Method::PUT, &format!("/api/v1/admin/tenants/{TENANT}/quotas"), Some(&most)).await?;
        self.tenant_by_its_key()
    }

    /// The same as it is.
    pub fn tenant_by_its_key(&self) -> Result<Tenant> {
        Tenant::new(TENANT, &self.demo_key)
    }

    /// An operator's call, on a connection of its own.
    pub async fn operate(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let connection = self.endpoint(Protocol::Http2)?.connect().await?;
        let answer = connection.call(self.operators(method, path, body)?).await;
        Ok(serde_json::from_slice(&answer.with_context(|| path.to_owned())?)?)
    }

    /// An operator's call whose answer is read to its end and thrown away: its bytes.
    pub async fn read_through(&self, method: Method, path: &str) -> Result<u64> {
        let connection = self.endpoint(Protocol::Http2)?.connect().await?;
        connection.exchange(self.operators(method, path, None)?, Expected::Success).await
    }

    fn operators(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<crate::connection::Body>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.admin_key))
            .header(header::CONTENT_TYPE, "application/json");
        Ok(request.body(whole(body.map(Value::to_string).unwrap_or_default()))?)
    }
}

async fn described(dev: &mut Child, directory: &Path) -> Result<Description> {
    let start = Instant::now();
    let path = directory.join("federation.json");
    loop {
        if let Some(text) = std::fs::read(&path).ok().filter(|text| !text.is_empty()) {
            return Ok(serde_json::from_slice(&text)?);
        }
        if dev.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(180) {
            bail!("no federation: {}", std::fs::read_to_string(directory.join("dev.out"))?);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Federation {
    fn drop(&mut self) {
        // Members that were restarted are children of this process: `kill_on_drop` ends them.
        self.restarted.clear();
        // Not the child's: that may be what it was started under, which ends with it.
        let pid = self.description.pid;
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) && process::runs(pid) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.dev.start_kill();
    }
}
