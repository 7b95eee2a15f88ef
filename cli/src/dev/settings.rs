//! The settings file of each member: what a person would write by hand for three machines, with loopback addresses.

use std::str::FromStr;

use anyhow::{Context, bail};
use conflux_common::{
    ids::{GroupName, MemberName},
    settings::{FounderSettings, LogFormat, LogSettings, MemberSettings, PlacementAddress, RaftTuning, TlsFiles},
};
use serde_json::json;

use super::{
    layout::Layout,
    plan::{Member, Plan, Role},
    ports::loopback,
};
use crate::files;

/// `[role:]key.path=value` from the command line: a setting of every member, or of those with this role.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    role: Option<Role>,
    path: Vec<String>,
    value: toml::Value,
}

impl FromStr for Override {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (key, value) = text.split_once('=').context("KEY=VALUE is expected")?;
        let (role, key) = match key.split_once(':') {
            Some(("gateway", key)) => (Some(Role::Gateway), key),
            Some(("shard", key)) => (Some(Role::Shard), key),
            Some(("placement", key)) => (Some(Role::Placement), key),
            Some((other, _)) => bail!("{other:?} is no role: gateway, shard or placement"),
            None => (None, key),
        };
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            bail!("{key:?} is no key");
        }
        // What is no TOML value is a text.
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}")).ok();
        let value = parsed.and_then(|mut t| t.remove("value")).unwrap_or_else(|| toml::Value::String(value.into()));
        Ok(Self { role, path, value })
    }
}

impl Override {
    fn apply(&self, settings: &mut toml::Table) -> anyhow::Result<()> {
        let Some((last, parents)) = self.path.split_last() else { return Ok(()) };
        let mut table = settings;
        for key in parents {
            let entry = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table =
                entry.as_table_mut().with_context(|| format!("--set {}: {key} is no table", self.path.join(".")))?;
        }
        table.insert(last.clone(), self.value.clone());
        Ok(())
    }
}

/// Writes all files.
pub fn write(layout: &Layout, plan: &Plan, overrides: &[Override]) -> anyhow::Result<()> {
    let members = plan.members();
    for member in &members {
        let mut settings = match member.role {
            Role::Gateway => gateway(layout, plan, &members, member)?,
            Role::Shard | Role::Placement => replica(layout, plan, &members, member)?,
        };
        for change in overrides.iter().filter(|o| o.role.is_none_or(|role| role == member.role)) {
            change.apply(&mut settings)?;
        }
        let text = format!(
            "# Written by `conflux dev` at each start. To run this member by itself:\n#   conflux {} --config {}\n\n{}",
            member.role.name(),
            layout.config(member).display(),
            toml::to_string(&settings)?
        );
        files::write(&layout.config(member), text, files::PUBLIC)?;
    }
    Ok(())
}

fn address(port: u16) -> String {
    loopback(port).to_string()
}

fn tls(layout: &Layout, member: &Member) -> TlsFiles {
    let certs = layout.certs(member);
    TlsFiles { cert: certs.join("cert.pem"), key: certs.join("key.pem"), ca: layout.ca(), crl: Some(layout.crl()) }
}

fn log() -> LogSettings {
    LogSettings { format: LogFormat::Json, ..LogSettings::default() }
}

fn placement(members: &[Member]) -> anyhow::Result<Vec<PlacementAddress>> {
    let all = members.iter().filter(|m| m.role == Role::Placement);
    all.map(|m| Ok(PlacementAddress { member: MemberName::new(&*m.name)?, address: address(m.ports.service) }))
        .collect()
}

fn replica(layout: &Layout, plan: &Plan, members: &[Member], member: &Member) -> anyhow::Result<toml::Table> {
    let same_group = members.iter().filter(|m| m.group == member.group);
    let founders = same_group.map(|m| {
        Ok(FounderSettings {
            member: MemberName::new(&*m.name)?,
            raft_address: address(m.ports.inner),
            service_address: address(m.ports.service),
        })
    });
    let settings = MemberSettings {
        cluster: plan.cluster.clone(),
        group: GroupName::new(member.group.clone().unwrap_or_default())?,
        member: MemberName::new(&*member.name)?,
        data_dir: layout.data(member),
        raft_listen: loopback(member.ports.inner),
        service_listen: loopback(member.ports.service),
        metrics_listen: loopback(member.ports.metrics),
        raft_advertise: None,
        service_advertise: None,
        tls: tls(layout, member),
        founders: founders.collect::<anyhow::Result<_>>()?,
        raft: RaftTuning::default(),
        log: log(),
    };
    let mut own = toml::Table::try_from(settings)?;
    // What is as by default is left out: the file then shows what matters.
    own.remove("raft");
    let mut table = toml::Table::new();
    table.insert("member".into(), toml::Value::Table(own));
    if member.role == Role::Shard {
        table.insert("placement".into(), toml::Value::try_from(placement(members)?)?);
    }
    Ok(table)
}

fn gateway(layout: &Layout, plan: &Plan, members: &[Member], member: &Member) -> anyhow::Result<toml::Table> {
    let client = layout.client_certs(member);
    Ok(toml::Table::try_from(json!({
        "cluster": plan.cluster,
        "member": member.name,
        "listen": address(member.ports.service),
        "metrics_listen": address(member.ports.metrics),
        "client_tls": {"cert": client.join("cert.pem"), "key": client.join("key.pem")},
        "tls": tls(layout, member),
        "placement": placement(members)?,
        // Everything here is on loopback, and whoever can read the data directory has the key.
        "operator": {"listen": address(member.ports.inner), "allow_admin_key": true},
        "refused": {"file": layout.refused(member)},
        "log": log(),
    }))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A setting must reach the table it is meant for, with its type.
    #[test]
    fn overrides_keep_types_and_make_tables() {
        let mut table = toml::Table::new();
        for text in ["shard:member.raft.keep_log_bytes=1048576", "member.log.filter=info,conflux_raft=debug"] {
            text.parse::<Override>().unwrap().apply(&mut table).unwrap();
        }
        let member = table["member"].as_table().unwrap();
        assert_eq!(member["raft"]["keep_log_bytes"].as_integer(), Some(1_048_576));
        assert_eq!(member["log"]["filter"].as_str(), Some("info,conflux_raft=debug"));
        assert_eq!("shard:a=1".parse::<Override>().unwrap().role, Some(Role::Shard));
        assert!("client:a=1".parse::<Override>().is_err());
        assert!("nothing".parse::<Override>().is_err());
    }
}
