//! An etcd of three members with its defaults: TLS and client certificates for clients and peers, on the loopback.

mod certificates;
pub mod wire;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
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
    connection::{Body, Endpoint, Identity, Protocol, unended, whole},
    document::{Documents, mixed},
    load::Requests,
    process::Groups,
};

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
    // Removed last.
    directory: tempfile::TempDir,
}

impl Etcd {
    /// Starts three members; returns once each of them answers.
    pub async fn start(binary: &Path, base: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("etcd-bench-").tempdir_in(base)?;
        let certificates = Certificates::make(directory.path())?;
        // Held together until all are known, so that no two are the same.
        let sockets = (0..6).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let addresses = sockets.iter().map(|s| Ok(s.local_addr()?.to_string())).collect::<Result<Vec<_>>>()?;
        drop(sockets);
        let named: Vec<_> = addresses.chunks(2).enumerate().map(|(n, pair)| (format!("e{}", n + 1), pair)).collect();
        let initial_cluster =
            named.iter().map(|(name, pair)| format!("{name}=https://{}", pair[1])).collect::<Vec<_>>().join(",");
        let mut etcd =
            Self { binary: binary.to_owned(), certificates, members: Vec::new(), initial_cluster, directory };
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
        Command::new(&self.binary)
            .args(["--name", name, "--initial-cluster", &self.initial_cluster, "--initial-cluster-state", "new"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--client-cert-auth", "--peer-client-cert-auth", "--logger", "zap", "--log-level", "warn"])
            .args(["--quota-backend-bytes", "8589934592"])
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
            tokio::time::sleep(Duration::from_millis(100)).await;
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
        let pids = self.members.iter().filter_map(|m| m.child.id()).map(|pid| pid as i32).collect();
        [("etcd".to_owned(), pids)].into()
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

    /// Starts a killed member again; returns once all members follow a leader.
    pub async fn restart(&mut self, name: &str) -> Result<()> {
        let at = self.members.iter().position(|m| m.name == name).context("no such member")?;
        self.members[at].child.wait().await?;
        let m = &self.members[at];
        let child = self.launch(&m.name, &m.client, &m.peer, &m.data_dir)?;
        self.members[at].child = child;
        self.ready().await
    }

    /// One of `keys` keys.
    pub fn ranges(&self, size: usize, keys: u64, serializable: bool) -> Requests {
        Arc::new(move |number| {
            let key = key(size, mixed(number) % keys);
            call("/etcdserverpb.KV/Range", framed(&RangeRequest { key, serializable }))
        })
    }

    /// Puts one of `keys` keys: in turn while there are none, then anywhere.
    pub fn puts(&self, size: usize, keys: u64, filling: bool) -> Requests {
        let documents = Documents::of(size);
        Arc::new(move |number| {
            let at = if filling { number % keys } else { mixed(number) % keys };
            let value = documents.document(if filling { number } else { number + (1 << 40) });
            call("/etcdserverpb.KV/Put", framed(&PutRequest { key: key(size, at), value }))
        })
    }

    /// Follows all of these keys from now.
    pub fn watch(&self) -> Request<Body> {
        // All that begins with `/bench/`: up to the byte after the slash.
        let create = WatchCreateRequest { key: "/bench/".into(), range_end: "/bench0".into() };
        let request = WatchRequest { create_request: Some(create) };
        post("/etcdserverpb.Watch/Watch", unended(framed(&request)))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for pid in self.members.iter().filter_map(|m| m.child.id()) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
        }
        let start = Instant::now();
        let pids: Vec<_> = self.members.iter().filter_map(|m| m.child.id()).collect();
        while start.elapsed() < Duration::from_secs(5) && pids.iter().any(|p| crate::process::runs(*p as i32)) {
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

fn call(path: &str, message: Bytes) -> Request<Body> {
    post(path, whole(message))
}

/// The revision that a put's answer names.
pub fn revision_of(answer: Bytes) -> Result<u64> {
    let put: PutResponse = wire::next(&mut BytesMut::from(answer))?.context("an answer to a put")?;
    Ok(put.header.context("a header")?.revision as u64)
}
