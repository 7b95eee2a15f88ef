//! An etcd of three members with its defaults: TLS and client certificates for clients and peers, on the loopback.

mod certificates;
pub mod wire;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http::{Request, header};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use self::{
    certificates::Certificates,
    wire::{
        PutRequest, PutResponse, RangeRequest, StatusRequest, StatusResponse, WatchCreateRequest, WatchRequest, framed,
    },
};
use crate::{
    conflux::built,
    connection::{Body, Endpoint, Expected, Identity, Protocol, whole},
    document::{Documents, mixed},
    load::Requests,
    process::{self, Groups},
};

/// Bytes of its database at which etcd takes no more puts: it keeps all versions of a run, and its default is 2 GiB.
const QUOTA: u64 = 24 << 30;

struct Member {
    name: String,
    client: String,
    peer: String,
    data_dir: PathBuf,
    child: Child,
}

/// Ends its members when it is dropped.
pub struct Etcd {
    binary: PathBuf,
    certificates: Certificates,
    members: Vec<Member>,
    /// `name=https://peer,..`
    initial_cluster: String,
    /// A command that starts each member, as `strace -f`; `{name}` stands for the member's.
    under: Vec<String>,
    // Removed last.
    directory: tempfile::TempDir,
}

impl Etcd {
    /// Starts three members; returns once each of them answers.
    pub async fn start(binary: &Path, base: &Path, under: &[String]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("etcd-bench-").tempdir_in(base)?;
        let certificates = Certificates::make(directory.path())?;
        // Held together until all are known, so that no two are the same.
        let sockets = (0..6).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let addresses = sockets.iter().map(|s| Ok(s.local_addr()?.to_string())).collect::<Result<Vec<_>>>()?;
        drop(sockets);
        let named: Vec<_> = addresses.chunks(2).enumerate().map(|(n, pair)| (format!("e{}", n + 1), pair)).collect();
        let initial_cluster =
            named.iter().map(|(name, pair)| format!("{name}=https://{}", pair[1])).collect::<Vec<_>>().join(",");
        let (binary, under) = (binary.to_owned(), under.to_vec());
        let mut etcd = Self { binary, certificates, members: Vec::new(), initial_cluster, under, directory };
        for (name, pair) in &named {
            let data_dir = etcd.directory.path().join(name);
            let child = etcd.launch(name, &pair[0], &pair[1], &data_dir)?;
            let (name, client, peer) = (name.clone(), pair[0].clone(), pair[1].clone());
            etcd.members.push(Member { name, client, peer, data_dir, child });
        }
        etcd.ready().await?;
        Ok(etcd)
    }

    fn launch(&self, name: &str, client: &str, peer: &str, data_dir: &Path) -> Result<Child> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join(format!("{name}.log")))?;
        let (client, peer) = (format!("https://{client}"), format!("https://{peer}"));
        let c = &self.certificates;
        let mut command = match self.under.split_first() {
            None => Command::new(&self.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments.iter().map(|a| a.replace("{name}", name))).arg(&self.binary);
                command
            }
        };
        command
            .args(["--name", name, "--initial-cluster", &self.initial_cluster, "--initial-cluster-state", "new"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--client-cert-auth", "--peer-client-cert-auth", "--logger", "zap", "--log-level", "warn"])
            .args(["--quota-backend-bytes", &QUOTA.to_string()])
            .arg("--data-dir")
            .arg(data_dir)
            .arg("--cert-file")
            .arg(&c.cert)
            .arg("--key-file")
            .arg(&c.key)
            .arg("--trusted-ca-file")
            .arg(&c.ca)
            .arg("--peer-cert-file")
            .arg(&c.cert)
            .arg("--peer-key-file")
            .arg(&c.key)
            .arg("--peer-trusted-ca-file")
            .arg(&c.ca)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}: Debian's package is etcd-server", self.binary.display()))
    }

    async fn ready(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            if self.leader().await.is_ok() {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(self.directory.path().join("e1.log")).unwrap_or_default();
                bail!("etcd was not ready in 30 s:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All members' client ports.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>> {
        self.members.iter().map(|m| self.endpoint(m)).collect()
    }

    /// The same without this member's.
    pub fn endpoints_without(&self, name: &str) -> Result<Vec<Endpoint>> {
        self.members.iter().filter(|m| m.name != name).map(|m| self.endpoint(m)).collect()
    }

    fn endpoint(&self, member: &Member) -> Result<Endpoint> {
        let identity = Identity { cert: &self.certificates.cert, key: &self.certificates.key };
        Endpoint::new(&member.client, &self.certificates.ca, Some(identity), Protocol::Http2)
    }

    /// The processes as they now run.
    pub fn processes(&self) -> Groups {
        [("etcd".to_owned(), self.pids())].into()
    }

    /// Each process by its own name.
    pub fn each_process(&self) -> Groups {
        let names = self.members.iter().map(|m| format!("etcd {}", m.name));
        names.zip(self.pids().into_iter().map(|pid| vec![pid])).collect()
    }

    /// Of the members that run; not of what they were started under.
    fn pids(&self) -> Vec<i32> {
        let children = self.members.iter().filter_map(|m| m.child.id()).map(|pid| pid as i32);
        if self.under.is_empty() { children.collect() } else { children.flat_map(process::children).collect() }
    }

    /// The names of all members.
    pub fn names(&self) -> Vec<String> {
        self.members.iter().map(|m| m.name.clone()).collect()
    }

    /// Where a member keeps everything.
    pub fn data_dir(&self, name: &str) -> Result<PathBuf> {
        Ok(self.member(name)?.data_dir.clone())
    }

    /// The process of a member.
    pub fn pid(&self, name: &str) -> Result<i32> {
        Ok(self.member(name)?.child.id().context("a member that runs")? as i32)
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.members.iter().find(|m| m.name == name).context("no such member")
    }

    /// SIGTERM; returns once the process is gone.
    pub async fn stop(&mut self, name: &str) -> Result<()> {
        kill(Pid::from_raw(self.pid(name)?), Signal::SIGTERM)?;
        let member = self.members.iter_mut().find(|m| m.name == name).context("no such member")?;
        member.child.wait().await?;
        Ok(())
    }

    /// All that one member has, as a stream that is read and thrown away: its bytes.
    pub async fn snapshot(&self) -> Result<u64> {
        let connection = self.endpoints()?.first().context("a member")?.connect().await?;
        connection
            .exchange(call("/etcdserverpb.Maintenance/Snapshot", framed(&StatusRequest {})), Expected::Success)
            .await
    }

    /// The leader's name, once every member answers and agrees on one.
    pub async fn leader(&self) -> Result<String> {
        let (mut leaders, mut name) = (Vec::new(), None);
        for member in &self.members {
            let request = call("/etcdserverpb.Maintenance/Status", framed(&StatusRequest {}));
            let asked = async { self.endpoint(member)?.connect().await?.call(request).await };
            let answer = tokio::time::timeout(Duration::from_secs(2), asked).await??;
            let status: StatusResponse = wire::next(&mut BytesMut::from(answer))?.context("a status")?;
            leaders.push(status.leader);
            if status.header.is_some_and(|h| h.member_id == status.leader) {
                name = Some(member.name.clone());
            }
        }
        leaders.dedup();
        name.filter(|_| leaders.len() == 1).context("no leader that all agree on")
    }

    /// `kill -9`; returns once the process is gone.
    pub async fn kill(&mut self, name: &str) -> Result<()> {
        let member = self.members.iter_mut().find(|m| m.name == name).context("no such member")?;
        Ok(member.child.start_kill()?)
    }

    /// Starts a killed or stopped member again; returns once all members follow a leader: how long that took.
    pub async fn restart(&mut self, name: &str) -> Result<Duration> {
        let start = Instant::now();
        let at = self.members.iter().position(|m| m.name == name).context("no such member")?;
        self.members[at].child.wait().await?;
        let m = &self.members[at];
        let child = self.launch(&m.name, &m.client, &m.peer, &m.data_dir)?;
        self.members[at].child = child;
        self.ready().await?;
        Ok(start.elapsed())
    }

    /// One of `keys` keys; only its name and revision where nothing else is wanted.
    pub fn ranges(&self, size: usize, keys: u64, serializable: bool, keys_only: bool) -> Requests {
        Requests::new(move |number| {
            let key = key(size, mixed(number) % keys);
            call("/etcdserverpb.KV/Range", framed(&RangeRequest { key, serializable, keys_only }))
        })
    }

    /// Puts each of `keys` keys in turn.
    pub fn first_puts(&self, size: usize, keys: u64) -> Requests {
        let documents = Documents::of(size);
        Requests::new(move |number| put(key(size, number % keys), documents.document(number)))
    }

    /// Puts one of `keys` keys anew.
    pub fn puts(&self, size: usize, keys: u64) -> Requests {
        let documents = Documents::of(size);
        Requests::new(move |number| put(key(size, mixed(number) % keys), documents.document(number + (1 << 40))))
    }

    /// Follows all of these keys from now.
    pub fn watch(&self) -> Request<Body> {
        // All that begins with `/bench/`: up to the byte after the slash.
        let create = WatchCreateRequest { key: "/bench/".into(), range_end: "/bench0".into() };
        let request = framed(&WatchRequest { create_request: Some(create) });
        post("/etcdserverpb.Watch/Watch", Body::Unended(Some(request)))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let pids = self.pids();
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGTERM);
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) && pids.iter().any(|pid| process::runs(*pid)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // What is left is killed as its handle is dropped.
    }
}

fn key(size: usize, number: u64) -> Bytes {
    format!("/bench/test/s{size}-{number}.json").into()
}

fn post(path: &str, body: Body) -> Request<Body> {
    built(
        Request::post(path).header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers").body(body),
    )
}

fn put(key: Bytes, value: Bytes) -> Request<Body> {
    call("/etcdserverpb.KV/Put", framed(&PutRequest { key, value }))
}

fn call(path: &str, message: Bytes) -> Request<Body> {
    post(path, whole(message))
}

/// The revision that a put's answer names.
pub fn revision_of(answer: Bytes) -> Result<u64> {
    let put: PutResponse = wire::next(&mut BytesMut::from(answer))?.context("an answer to a put")?;
    Ok(put.header.context("a header")?.revision as u64)
}
