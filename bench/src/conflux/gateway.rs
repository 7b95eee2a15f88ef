//! Gateways: the first, which answers what it can by itself, and a second one with other settings beside it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Federation, Gateway,
    member::{gone, launch, ready},
};
use crate::{
    connection::{Endpoint, Identity, Protocol},
    process::Groups,
};

impl Federation {
    pub(super) fn gateway(&self, at: usize) -> Result<&Gateway> {
        self.description.gateways.get(at).context("a gateway in federation.json")
    }

    /// Whether this build has a setting of gateways, `edge.bytes=0`: its own check says so.
    pub fn knows_gateway_setting(&self, setting: &str) -> Result<bool> {
        let changed = self.changed_settings(self.gateway(0)?, setting)?;
        let checked = std::process::Command::new(&self.binary)
            .args(["gateway", "--check", "--config"])
            .arg(&changed)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()?;
        Ok(checked.success())
    }

    /// Starts the second gateway with this setting changed; returns once it is ready.
    pub async fn start_second_gateway(&mut self, setting: &str) -> Result<()> {
        let gateway = self.gateway(1)?.clone();
        let config = self.changed_settings(&gateway, setting)?;
        let child = launch(&self.binary, "gateway", &config, &gateway.log_file)?;
        let pid = child.id().context("a process that has just been started")? as i32;
        self.restarted.insert(gateway.member.clone(), child);
        for g in self.description.gateways.iter_mut().filter(|g| g.member == gateway.member) {
            g.pid = pid;
        }
        ready(&gateway.metrics_url, &gateway.member, pid).await
    }

    /// Stops it; nothing where it does not run.
    pub async fn stop_second_gateway(&mut self) -> Result<()> {
        let gateway = self.gateway(1)?.clone();
        let _ = kill(Pid::from_raw(gateway.pid), Signal::SIGTERM);
        if let Some(mut child) = self.restarted.remove(&gateway.member) {
            child.wait().await?;
        }
        gone(gateway.pid).await
    }

    /// The second gateway's client port, and the processes with it instead of the first.
    pub fn second_gateway(&self, protocol: Protocol) -> Result<(Endpoint, Groups)> {
        let gateway = self.gateway(1)?;
        let mut processes = self.processes();
        processes.insert("gateway".into(), vec![gateway.pid]);
        Ok((self.endpoint_of(gateway, protocol)?, processes))
    }

    /// The certificate with which a gateway goes to shards, its key, and the CA of all.
    pub fn gateway_identity(&self) -> Result<(PathBuf, PathBuf, PathBuf)> {
        let gateway = self.gateway(0)?;
        Ok((gateway.cert_dir.join("cert.pem"), gateway.cert_dir.join("key.pem"), gateway.ca_file.clone()))
    }

    /// The certificate that clients see of the first gateway, and its key.
    pub fn client_certificate(&self) -> Result<(PathBuf, PathBuf)> {
        let text = std::fs::read_to_string(&self.gateway(0)?.config_file)?;
        let settings: toml::Table = toml::from_str(&text)?;
        let path = |key: &str| settings["client_tls"].get(key).and_then(toml::Value::as_str).map(PathBuf::from);
        Ok((path("cert").context("client_tls.cert")?, path("key").context("client_tls.key")?))
    }

    /// A shard member's service port, entered as a gateway does.
    pub fn shard_endpoint(&self, address: &str) -> Result<Endpoint> {
        let (cert, key, ca) = self.gateway_identity()?;
        let identity = Identity { cert: &cert, key: &key };
        Endpoint::new(address, &ca, Some(identity), Protocol::Http2)?.named("conflux.internal")
    }

    /// A copy of a gateway's settings file with one of them changed.
    fn changed_settings(&self, gateway: &Gateway, setting: &str) -> Result<PathBuf> {
        let (path, value) = setting.split_once('=').with_context(|| format!("{setting}: KEY=VALUE is expected"))?;
        let mut settings: toml::Table = toml::from_str(&std::fs::read_to_string(&gateway.config_file)?)?;
        let value = toml::from_str::<toml::Table>(&format!("value = {value}"))?.remove("value").context("a value")?;
        let Some((parents, last)) = path.rsplit_once('.') else {
            settings.insert(path.into(), value);
            return self.written(gateway, &settings);
        };
        let mut table = &mut settings;
        for key in parents.split('.') {
            let entry = table.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let Some(inner) = entry.as_table_mut() else { bail!("{setting}: {key} is no table") };
            table = inner;
        }
        table.insert(last.into(), value);
        self.written(gateway, &settings)
    }

    fn written(&self, gateway: &Gateway, settings: &toml::Table) -> Result<PathBuf> {
        let path = self.directory.path().join(format!("{}-changed.toml", gateway.member));
        std::fs::write(&path, toml::to_string(settings)?)?;
        Ok(path)
    }
}
