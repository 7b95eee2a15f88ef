//! nginx as a TLS proxy before the members of a shard group: what a gateway would be if it did nothing but proxy.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::HeaderMap;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::process;

/// What it is told.
pub struct Setup<'a> {
    pub binary: &'a Path,
    /// Where its files go.
    pub base: &'a Path,
    /// What clients see: certificate and key.
    pub shown: (PathBuf, PathBuf),
    /// What shards see: certificate, key, and the CA that theirs must be of.
    pub towards: (PathBuf, PathBuf, PathBuf),
    /// The members' service ports.
    pub upstream: Vec<String>,
    /// Added to each request.
    pub headers: &'a HeaderMap,
}

/// Ends when it is dropped.
pub struct Nginx {
    child: Child,
    /// `127.0.0.1:port`
    pub address: String,
    // Removed last.
    _directory: tempfile::TempDir,
}

impl Nginx {
    /// Returns once it listens.
    pub async fn start(setup: &Setup<'_>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("nginx-bench-").tempdir_in(setup.base)?;
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = directory.path().join("nginx.conf");
        std::fs::write(&config, settings(setup, directory.path(), &address))?;
        let out = std::fs::File::create(directory.path().join("out"))?;
        let child = Command::new(setup.binary)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {}: apt-get install nginx-light", setup.binary.display()))?;
        let mut nginx = Self { child, address, _directory: directory };
        let start = Instant::now();
        while tokio::net::TcpStream::connect(&nginx.address).await.is_err() {
            if nginx.child.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(10) {
                let said = std::fs::read_to_string(nginx._directory.path().join("out")).unwrap_or_default();
                bail!("nginx does not listen: {said}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(nginx)
    }

    /// The master and its workers.
    pub fn processes(&self) -> Vec<i32> {
        let master = self.child.id() as i32;
        std::iter::once(master).chain(process::children(master)).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM is nginx's quick shutdown: the master takes its workers along.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(setup: &Setup<'_>, directory: &Path, address: &str) -> String {
    let dir = directory.display();
    let servers: String = setup.upstream.iter().map(|s| format!("    server {s};\n")).collect();
    let value = |v: &http::HeaderValue| v.to_str().unwrap_or_default().to_owned();
    let headers: String =
        setup.headers.iter().map(|(n, v)| format!("      proxy_set_header {n} \"{}\";\n", value(v))).collect();
    let ((shown, shown_key), (cert, key, ca)) = (&setup.shown, &setup.towards);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {dir}/{kind};\n"))
        .concat();
    // Connections are kept for ever on both sides, as the gateway keeps its own; a line for each request is gathered and written as
    // the gateway does.
    format!(
        "daemon off;
worker_processes auto;
pid {dir}/pid;
error_log {dir}/out warn;
events {{ worker_connections 4096; }}
http {{
  access_log {dir}/access.log combined buffer=32k flush=100ms;
{temporary}  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  upstream shard {{
    least_conn;
{servers}    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {address} ssl http2;
    ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass https://shard;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Authorization \"\";
{headers}      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_name conflux.internal;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {};
      proxy_ssl_certificate {};
      proxy_ssl_certificate_key {};
    }}
  }}
}}
",
        shown.display(),
        shown_key.display(),
        ca.display(),
        cert.display(),
        key.display()
    )
}
