//! A federation of real processes in a temporary directory.

use std::{
    collections::HashMap,
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use tokio::process::{Child, Command};

use crate::{client::Client, wait::until};

/// Where a test arms places at which a process of the federation dies (`conflux_common::failpoint`).
const FAILPOINTS: &str = "failpoints";

/// How many of each; the flags of `conflux dev`.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub shards: u32,
    pub replicas: u32,
    pub placement: u32,
    pub gateways: u32,
}

impl Shape {
    /// One group of three, one placement member: enough for what concerns one tenant.
    pub const ONE_GROUP: Shape = Shape { shards: 1, replicas: 3, placement: 1, gateways: 1 };
    /// What `conflux dev` starts by default.
    pub const FULL: Shape = Shape { shards: 2, replicas: 3, placement: 3, gateways: 1 };
}

/// `federation.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Description {
    pub cluster_id: String,
    pub gateways: Vec<Gateway>,
    pub admin_key_file: PathBuf,
    pub demo_key_file: PathBuf,
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Gateway {
    pub url: String,
    pub ca_file: PathBuf,
    pub pid: i32,
    pub metrics_url: String,
    pub member: String,
    pub config_file: PathBuf,
    pub log_file: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    pub role: String,
    pub group: String,
    pub member: String,
    pub pid: i32,
    pub address: String,
    pub data_dir: PathBuf,
    pub cert_dir: PathBuf,
    pub log_file: PathBuf,
    pub config_file: PathBuf,
}

/// Stops everything that it started when it is dropped; the directory is kept when the test fails.
pub struct Federation {
    pub description: Description,
    dev: Child,
    /// Members that the test restarted itself.
    restarted: Vec<(String, Child)>,
    /// Environment variables of every process.
    env: Vec<(String, String)>,
    /// Further ones, by member, from its next start on.
    own_env: HashMap<String, Vec<(String, String)>>,
    directory: Option<tempfile::TempDir>,
    /// The first port of its block.
    first_port: u16,
    // Two cores cannot hold the election timers of several federations: of those that tests start, one at a time on a machine.
    _turn: Option<Flock<OwnedFd>>,
}

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CONFLUX_BIN") {
        return path.into();
    }
    // target/<profile>/conflux is beside this program, or a directory above where tests lie.
    let this = std::env::current_exe().expect("the path of this program");
    let found = this.ancestors().skip(1).take(2).map(|directory| directory.join("conflux")).find(|path| path.is_file());
    found
        .expect("no `conflux` beside this program: build it (cargo build --workspace --bin conflux) or set CONFLUX_BIN")
}

fn take_turn() -> Result<Flock<OwnedFd>> {
    let path = std::env::temp_dir().join("conflux-tests.lock");
    let file = File::options().create(true).append(true).open(path)?;
    Flock::lock(OwnedFd::from(file), FlockArg::LockExclusive).map_err(|(_, e)| e.into())
}

impl Federation {
    /// Starts one in a new directory and waits until it is ready.
    pub async fn start(shape: Shape) -> Result<Self> {
        Self::start_with(shape, &[]).await
    }

    /// The same with settings as `conflux dev --set` takes them: `[role:]key.path=value`.
    pub async fn start_with(shape: Shape, settings: &[&str]) -> Result<Self> {
        Self::start_in(tempfile::Builder::new().prefix("conflux-test-").tempdir()?, shape, settings).await
    }

    /// The same in this directory.
    pub async fn start_in(directory: tempfile::TempDir, shape: Shape, settings: &[&str]) -> Result<Self> {
        let turn = tokio::task::spawn_blocking(take_turn).await??;
        let mut started = Self::start_in_with(directory, shape, settings, Vec::new()).await?;
        started._turn = Some(turn);
        Ok(started)
    }

    /// The same beside whatever others run; every process gets these environment variables too.
    pub async fn start_in_with(
        directory: tempfile::TempDir,
        shape: Shape,
        settings: &[&str],
        mut env: Vec<(String, String)>,
    ) -> Result<Self> {
        let failpoints = directory.path().join(FAILPOINTS);
        std::fs::create_dir(&failpoints)?;
        env.push((conflux_common::failpoint::VARIABLE.into(), failpoints.display().to_string()));
        let (dev, description) = Self::launch(directory.path(), shape, settings, &env).await?;
        let (restarted, own_env) = (Vec::new(), HashMap::new());
        let ports = description.members.iter().filter_map(|m| m.address.rsplit(':').next()?.parse().ok());
        let first_port = ports.min().context("a member with a port")?;
        Ok(Self { description, dev, restarted, env, own_env, directory: Some(directory), first_port, _turn: None })
    }

    async fn launch(
        directory: &Path,
        shape: Shape,
        settings: &[&str],
        env: &[(String, String)],
    ) -> Result<(Child, Description)> {
        let described = directory.join("federation.json");
        let _ = std::fs::remove_file(&described);
        let out = File::options().create(true).append(true).open(directory.join("dev.out"))?;
        let mut dev = Command::new(binary())
            .arg("dev")
            .arg("--data-dir")
            .arg(directory)
            .args(["--shards", &shape.shards.to_string()])
            .args(["--replicas", &shape.replicas.to_string()])
            .args(["--placement", &shape.placement.to_string()])
            .args(["--gateways", &shape.gateways.to_string()])
            .args(settings.iter().flat_map(|s| ["--set", s]))
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", binary().display()))?;
        let start = std::time::Instant::now();
        loop {
            if let Some(text) = std::fs::read(&described).ok().filter(|t| !t.is_empty()) {
                return Ok((dev, serde_json::from_slice(&text)?));
            }
            let said = || std::fs::read_to_string(directory.join("dev.out")).unwrap_or_default();
            if let Some(status) = dev.try_wait()? {
                bail!("conflux dev ended with {status}:\n{}", said());
            }
            if start.elapsed() > Duration::from_secs(90) {
                bail!("conflux dev was not ready in 90 s:\n{}", said());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where everything is.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().expect("kept until drop").path()
    }

    /// The first gateway's URL.
    pub fn url(&self) -> &str {
        &self.description.gateways[0].url
    }

    /// A client of the tenant `demo`.
    pub fn demo(&self) -> Client {
        self.client(&std::fs::read_to_string(&self.description.demo_key_file).expect("demo key"))
    }

    /// A client with the operator's key.
    pub fn operator(&self) -> Client {
        self.client(&std::fs::read_to_string(&self.description.admin_key_file).expect("admin key"))
    }

    /// A client with this key.
    pub fn client(&self, key: &str) -> Client {
        let gateway = &self.description.gateways[0];
        Client::new(&gateway.url, &gateway.ca_file, Some(key.trim()))
    }

    /// Makes a tenant and a key with these roles; returns its client.
    pub async fn tenant(&self, name: &str, roles: &[&str]) -> Result<Client> {
        self.tenant_on(name, None, roles).await
    }

    /// The same, on this shard group.
    pub async fn tenant_on(&self, name: &str, shard: Option<&str>, roles: &[&str]) -> Result<Client> {
        let operator = self.operator();
        let mut body = serde_json::json!({ "name": name });
        if let Some(shard) = shard {
            body["shard"] = shard.into();
        }
        operator.post_json("/api/v1/admin/tenants", &body).await?.expect(&[201, 202])?;
        self.key_of(name, roles).await
    }

    /// A client with a new key of a tenant that is there; returned once the tenant is served to it.
    pub async fn key_of(&self, name: &str, roles: &[&str]) -> Result<Client> {
        let key = self
            .operator()
            .post_json("/api/v1/admin/keys", &serde_json::json!({ "tenant": name, "roles": roles }))
            .await?
            .expect(&[201])?;
        let client = self.client(key.json()["key"].as_str().context("the key in the answer")?);
        // A key reaches the gateways through placement's change stream.
        until("the new tenant is served", Duration::from_secs(20), || async {
            let answer = client.get(&format!("/api/v1/mgt/{name}/configs")).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        Ok(client)
    }

    /// Gives a tenant the most that an operator can, for loads that are beyond the defaults; returns once its shard goes by it.
    pub async fn raise_quotas(&self, tenant: &str) -> Result<()> {
        let most = serde_json::json!({
            "configs": 100_000, "config_bytes": 1 << 20, "versions": 1_000_000, "total_bytes": 1u64 << 40,
        });
        let path = format!("/api/v1/admin/tenants/{tenant}/quotas");
        // 202: kept, and its shard has not confirmed it yet.
        until("the quotas are in force", Duration::from_secs(20), || async {
            self.operator().put_json(&path, &most).await.is_ok_and(|a| a.status == 200).then_some(())
        })
        .await;
        Ok(())
    }

    /// All members of a group.
    pub fn members(&self, group: &str) -> Vec<Member> {
        self.description.members.iter().filter(|m| m.group == group).cloned().collect()
    }

    /// This member as it now runs.
    pub fn member(&self, name: &str) -> Member {
        self.description.members.iter().find(|m| m.member == name).cloned().expect("a member of this name")
    }

    /// What a group's members say of themselves: `/_cluster/{group}/status`.
    pub async fn status(&self, group: &str) -> Result<serde_json::Value> {
        Ok(self.operator().get(&format!("/_cluster/{group}/status")).await?.expect(&[200])?.json())
    }

    /// The present leader's member name, once one is known.
    pub async fn leader(&self, group: &str) -> Member {
        let name = until(&format!("{group} has a leader"), Duration::from_secs(30), || async {
            let status = self.status(group).await.ok()?;
            let members = status["members"].as_array()?.clone();
            let leader = members.iter().find(|m| m["status"]["state"] == "leader")?;
            leader["member"].as_str().map(str::to_owned)
        })
        .await;
        self.member(&name)
    }

    fn env_of(&self, member: &str) -> impl Iterator<Item = (String, String)> {
        let own = self.own_env.get(member).cloned().unwrap_or_default();
        self.env.clone().into_iter().chain(own)
    }

    /// Further environment variables of one member, from its next start on.
    pub fn set_env(&mut self, member: &str, env: Vec<(String, String)>) {
        self.own_env.insert(member.to_owned(), env);
    }

    /// Where a test's disks are made ill, process by process (`conflux_common::failpoint`).
    pub fn failpoints(&self) -> PathBuf {
        self.directory().join(FAILPOINTS)
    }

    /// The next process that passes the place of this name dies there.
    pub fn arm(&self, failpoint: &str) {
        std::fs::write(self.directory().join(FAILPOINTS).join(failpoint), "").expect("the failpoint's file");
    }

    /// Whether nobody has passed it yet.
    pub fn is_armed(&self, failpoint: &str) -> bool {
        self.directory().join(FAILPOINTS).join(failpoint).exists()
    }

    /// Nobody dies there any more.
    pub fn disarm(&self, failpoint: &str) {
        let _ = std::fs::remove_file(self.directory().join(FAILPOINTS).join(failpoint));
    }

    /// Starts every member again that has died by itself; their names.
    pub async fn restart_the_dead(&mut self) -> Vec<String> {
        let dead: Vec<Member> = self.description.members.iter().filter(|m| !runs(m.pid)).cloned().collect();
        for member in &dead {
            self.reap(&member.member, member.pid).await;
            self.restart(&member.member);
        }
        dead.into_iter().map(|m| m.member).collect()
    }

    /// `kill -9`; returns once the process is gone.
    pub async fn kill(&mut self, member: &str) {
        self.kill_at_once(&[member.to_owned()]).await;
    }

    /// `kill -9` of all of them before one is waited for.
    pub async fn kill_at_once(&mut self, members: &[String]) {
        for member in members {
            // One that is gone already is as good as killed.
            let _ = kill(Pid::from_raw(self.member(member).pid), Signal::SIGKILL);
        }
        for member in members {
            self.reap(member, self.member(member).pid).await;
        }
    }

    /// SIGTERM for a gateway, and a new process of it once it is gone.
    pub async fn restart_gateway(&mut self, index: usize) {
        let gateway = self.description.gateways[index].clone();
        kill(Pid::from_raw(gateway.pid), Signal::SIGTERM).expect("SIGTERM");
        self.reap(&gateway.member, gateway.pid).await;
        self.start_gateway(index);
    }

    /// `kill -9` of a gateway; returns once the process is gone.
    pub async fn kill_gateway(&mut self, index: usize) {
        let gateway = self.description.gateways[index].clone();
        let _ = kill(Pid::from_raw(gateway.pid), Signal::SIGKILL);
        self.reap(&gateway.member, gateway.pid).await;
    }

    /// Starts a gateway that has gone again with its own settings.
    pub fn start_gateway(&mut self, index: usize) {
        let gateway = &self.description.gateways[index];
        let (member, log) = (gateway.member.clone(), gateway.log_file.clone());
        let log = File::options().create(true).append(true).open(log).expect("log file");
        let child = Command::new(binary())
            .args(["gateway", "--config"])
            .arg(&gateway.config_file)
            .envs(self.env_of(&member))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("starting a gateway");
        self.description.gateways[index].pid = child.id().expect("a running child") as i32;
        self.restarted.push((member, child));
    }

    /// SIGTERM; returns once the process is gone.
    pub async fn stop(&mut self, member: &str) {
        let pid = self.member(member).pid;
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("SIGTERM");
        self.reap(member, pid).await;
    }

    /// Starts one more member of a group, as its operator would: a certificate of the federation's authority, the settings of
    /// another member with its own name, ports and directories, and those who are there now to ask. It waits to be let in.
    pub async fn add_member(&mut self, group: &str, name: &str) -> Result<()> {
        let model = self.members(group).into_iter().next().context("a group with a member")?;
        let ports = self.ports_of(&[name.to_owned()])?.remove(0);
        let present = self.present(group)?;
        self.write_member(&model, ports, group, &present).await?;
        self.restart(name);
        Ok(())
    }

    /// Names those who are in its group now as the founders in a member's settings: with an empty disk it asks them.
    pub fn name_founders(&self, member: &str) -> Result<()> {
        let present = self.present(&self.member(member).group)?;
        self.rewrite(member, |settings| drop(settings.insert("founders".into(), present.into())))
    }

    fn present(&self, group: &str) -> Result<Vec<toml::Value>> {
        self.members(group).iter().map(|m| Ok(Ports::of(m)?.founder())).collect()
    }

    /// Ports of new members, in the block that `conflux dev` has claimed for the federation and above those that it uses: the system
    /// gives none of them to an outgoing connection while a member is down.
    fn ports_of(&self, names: &[String]) -> Result<Vec<Ports>> {
        let port = |address: &str| address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let members = self.description.members.iter().filter_map(|m| port(&m.address));
        let gateways = self.description.gateways.iter().filter_map(|g| port(&g.url));
        let used: Vec<u16> = members.chain(gateways).collect();
        let first = self.first_port;
        let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        let threes = (0..PORTS_OF_BLOCK / 3).map(|n| first + 3 * n);
        let mut threes = threes.filter(|p| !used.contains(p) && free(*p) && free(p + 1) && free(p + 2));
        let of = |name: &String| {
            let first = threes.next().context("no more free ports in the federation's block")?;
            let at = |n: u16| format!("127.0.0.1:{}", first + n);
            Ok(Ports { member: name.clone(), service: at(0), raft: at(1), metrics: at(2) })
        };
        names.iter().map(of).collect()
    }

    /// Makes a shard group of three new processes beside those that run, by the settings of another one. Returns their
    /// names; none of them is started.
    pub async fn plan_group(&mut self, like: &str, group: &str) -> Result<Vec<String>> {
        let model = self.members(like).into_iter().next().context("a group with a member")?;
        let members = self.ports_of(&[1, 2, 3].map(|n| format!("{group}-{n}")))?;
        let founders: Vec<toml::Value> = members.iter().map(Ports::founder).collect();
        for member in &members {
            self.write_member(&model, member.clone(), group, &founders).await?;
        }
        Ok(members.into_iter().map(|m| m.member).collect())
    }

    async fn write_member(
        &mut self,
        model: &Member,
        ports: Ports,
        group: &str,
        founders: &[toml::Value],
    ) -> Result<()> {
        let name = ports.member.as_str();
        let tls = crate::replica::issue(self, &model.role, Some(group), name).await?;
        let home = self.directory().join(name);
        std::fs::create_dir_all(&home)?;
        let mut settings: toml::Table = toml::from_str(&std::fs::read_to_string(&model.config_file)?)?;
        let member = settings.get_mut("member").and_then(toml::Value::as_table_mut).context("[member]")?;
        let data_dir = home.join("data");
        member.insert("group".into(), group.into());
        member.insert("member".into(), name.into());
        member.insert("data_dir".into(), data_dir.display().to_string().into());
        member.insert("service_listen".into(), ports.service.clone().into());
        member.insert("raft_listen".into(), ports.raft.clone().into());
        member.insert("metrics_listen".into(), ports.metrics.clone().into());
        member.insert("tls".into(), toml::Value::try_from(&tls)?);
        member.insert("founders".into(), founders.to_vec().into());
        let config_file = home.join(format!("{}.toml", model.role));
        std::fs::write(&config_file, toml::to_string(&settings)?)?;
        self.description.members.push(Member {
            role: model.role.clone(),
            group: group.into(),
            member: name.into(),
            pid: 0,
            address: ports.service.clone(),
            data_dir,
            cert_dir: tls.cert.parent().context("a directory")?.to_owned(),
            log_file: home.join("log"),
            config_file,
        });
        Ok(())
    }

    /// Changes a member's settings file; the process must be started again to see it.
    pub fn rewrite(&self, member: &str, change: impl FnOnce(&mut toml::Table)) -> Result<()> {
        let file = self.member(member).config_file;
        let mut settings: toml::Table = toml::from_str(&std::fs::read_to_string(&file)?)?;
        change(settings.get_mut("member").and_then(toml::Value::as_table_mut).context("[member]")?);
        Ok(std::fs::write(&file, toml::to_string(&settings)?)?)
    }

    async fn reap(&mut self, member: &str, pid: i32) {
        if let Some(at) = self.restarted.iter().position(|(name, _)| name == member) {
            let (_, mut child) = self.restarted.swap_remove(at);
            child.wait().await.expect("reaping a member");
            return;
        }
        until("the process is gone", Duration::from_secs(30), || async { (!runs(pid)).then_some(()) }).await;
    }

    /// SIGSTOP.
    pub fn pause(&self, member: &str) {
        kill(Pid::from_raw(self.member(member).pid), Signal::SIGSTOP).expect("SIGSTOP");
    }

    /// SIGCONT.
    pub fn resume(&self, member: &str) {
        kill(Pid::from_raw(self.member(member).pid), Signal::SIGCONT).expect("SIGCONT");
    }

    /// Starts a killed member again with its own settings.
    pub fn restart(&mut self, member: &str) {
        let described = self.member(member);
        let mut command = Command::new(binary());
        command.arg(&described.role).arg("--config").arg(&described.config_file);
        self.restart_as(&described, command);
    }

    /// Starts a killed member again with its data on a small disk of its own, which goes with the process: a file system in memory
    /// that only this process sees, in a mount namespace of its own. [`Self::inside`] tells where it is.
    pub fn restart_on_small_disk(&mut self, member: &str, mebibytes: u32) {
        const SCRIPT: &str = r#"
            set -e
            mkdir -p "$DATA.small"
            mount -t tmpfs -o "size=$SIZE" none "$DATA.small"
            cp -a "$DATA/." "$DATA.small"
            mount --bind "$DATA.small" "$DATA"
            exec "$0" "$@"
        "#;
        let described = self.member(member);
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
            .arg(binary())
            .arg(&described.role)
            .arg("--config")
            .arg(&described.config_file)
            .env("DATA", &described.data_dir)
            .env("SIZE", format!("{mebibytes}m"));
        self.restart_as(&described, command);
    }

    /// A path as the member's process sees it.
    pub fn inside(&self, member: &str, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.member(member).pid));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn restart_as(&mut self, described: &Member, mut command: Command) {
        let log = File::options().create(true).append(true).open(&described.log_file).expect("log file");
        let child = command
            .envs(self.env_of(&described.member))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("starting a member");
        let pid = child.id().expect("a running child") as i32;
        for m in self.description.members.iter_mut().filter(|m| m.member == described.member) {
            m.pid = pid;
        }
        self.restarted.push((described.member.clone(), child));
    }

    /// `kill -9` of all members, gateways and `conflux dev`, as a power cut of the processes.
    pub async fn kill_all(&mut self) {
        let mut pids: Vec<i32> = self.description.members.iter().map(|m| m.pid).collect();
        pids.extend(self.description.gateways.iter().map(|g| g.pid));
        pids.extend(self.dev.id().map(|p| p as i32));
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let _ = self.dev.wait().await;
        for (_, mut child) in self.restarted.drain(..) {
            let _ = child.wait().await;
        }
        for pid in pids {
            until("all are gone", Duration::from_secs(10), || async { (!runs(pid)).then_some(()) }).await;
        }
    }

    /// Starts `conflux dev` again on the same directory.
    pub async fn start_again(&mut self, shape: Shape) -> Result<()> {
        let (dev, description) = Self::launch(self.directory(), shape, &[], &self.env).await?;
        self.dev = dev;
        self.description = description;
        Ok(())
    }

    /// Resident memory of a process in bytes.
    pub fn resident_bytes(pid: i32) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
    }
}

/// `conflux dev` claims ports by blocks of so many.
const PORTS_OF_BLOCK: u16 = 99;

/// A new member's name and addresses.
#[derive(Clone)]
struct Ports {
    member: String,
    raft: String,
    service: String,
    metrics: String,
}

impl Ports {
    /// Those of a member that is there, from its settings.
    fn of(member: &Member) -> Result<Self> {
        let settings: toml::Table = toml::from_str(&std::fs::read_to_string(&member.config_file)?)?;
        let own = |key: &str| {
            let value = settings.get("member").and_then(|m| m.get(key)).and_then(toml::Value::as_str);
            value.map(str::to_owned).with_context(|| format!("no {key} in {}", member.config_file.display()))
        };
        let (service, raft, metrics) = (own("service_listen")?, own("raft_listen")?, own("metrics_listen")?);
        Ok(Self { member: member.member.clone(), raft, service, metrics })
    }

    /// Its line in the list of founders: by name, as on machines that have one.
    fn founder(&self) -> toml::Value {
        let named = |address: &str| address.replace("127.0.0.1", "localhost");
        let mut founder = toml::Table::new();
        founder.insert("member".into(), self.member.clone().into());
        founder.insert("raft_address".into(), named(&self.raft).into());
        founder.insert("service_address".into(), named(&self.service).into());
        founder.into()
    }
}

/// A port of the loopback that nobody has at present.
pub fn free_port() -> Result<String> {
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(socket.local_addr()?.to_string())
}

/// Whether the process exists and is no zombie. One that was killed keeps its ports for as long as a thread of it waits for a disk:
/// its first thread is a zombie by then.
pub fn runs(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    !zombie || std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 1)
}

impl Drop for Federation {
    fn drop(&mut self) {
        for m in &self.description.members {
            let _ = kill(Pid::from_raw(m.pid), Signal::SIGCONT);
        }
        if let Some(pid) = self.dev.id() {
            let pid = Pid::from_raw(pid as i32);
            let _ = kill(pid, Signal::SIGTERM);
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_secs(20) && matches!(self.dev.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.dev.start_kill();
        }
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("logs and data are kept in {}", directory.keep().display());
        }
    }
}
