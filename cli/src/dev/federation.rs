//! `federation.json`: what runs where, for tests, tools and `--federation`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{
    layout::Layout,
    plan::{Plan, Role},
    ports::loopback,
    process::Process,
};
use crate::files;

/// Paths are absolute. Pids are those of the start: who kills a member and starts it by hand knows the new one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Federation {
    pub cluster_id: String,
    pub gateways: Vec<Gateway>,
    pub admin_key_file: PathBuf,
    pub demo_key_file: PathBuf,
    pub members: Vec<Replica>,
    /// `cert.pem` and `key.pem` of the operator.
    pub operator_cert_dir: PathBuf,
    /// The certificate authority with its key, for tests that need other certificates.
    pub pki_dir: PathBuf,
    /// Of `conflux dev` itself: SIGTERM stops the whole federation.
    pub pid: u32,
}

/// A gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Gateway {
    pub member: String,
    pub url: String,
    pub operator_url: String,
    pub metrics_url: String,
    pub ca_file: PathBuf,
    pub pid: u32,
    pub cert_dir: PathBuf,
    pub config_file: PathBuf,
    pub log_file: PathBuf,
}

/// A member of a Raft group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replica {
    pub role: Role,
    pub group: String,
    pub member: String,
    /// In its group; 0 while it is not known.
    pub node_id: u64,
    pub pid: u32,
    /// Its service port.
    pub address: String,
    pub raft_address: String,
    pub metrics_url: String,
    pub data_dir: PathBuf,
    pub cert_dir: PathBuf,
    pub config_file: PathBuf,
    pub log_file: PathBuf,
}

impl Federation {
    pub fn describe(layout: &Layout, plan: &Plan, processes: &[Process], node_id: impl Fn(&str) -> u64) -> Self {
        let metrics_url = |p: &Process| format!("http://{}", loopback(p.member.ports.metrics));
        let gateways = processes.iter().filter(|p| p.member.role == Role::Gateway).map(|p| Gateway {
            member: p.member.name.clone(),
            url: format!("https://{}", loopback(p.member.ports.service)),
            operator_url: format!("https://{}", loopback(p.member.ports.inner)),
            metrics_url: metrics_url(p),
            ca_file: layout.ca(),
            pid: p.pid,
            cert_dir: layout.certs(&p.member),
            config_file: layout.config(&p.member),
            log_file: layout.log(&p.member),
        });
        let members = processes.iter().filter(|p| Layout::has_data(&p.member)).map(|p| Replica {
            role: p.member.role,
            group: p.member.group.clone().unwrap_or_default(),
            member: p.member.name.clone(),
            node_id: node_id(&p.member.name),
            pid: p.pid,
            address: loopback(p.member.ports.service).to_string(),
            raft_address: loopback(p.member.ports.inner).to_string(),
            metrics_url: metrics_url(p),
            data_dir: layout.data(&p.member),
            cert_dir: layout.certs(&p.member),
            config_file: layout.config(&p.member),
            log_file: layout.log(&p.member),
        });
        Self {
            cluster_id: plan.cluster.to_string(),
            gateways: gateways.collect(),
            admin_key_file: layout.admin_key(),
            demo_key_file: layout.demo_key(),
            members: members.collect(),
            operator_cert_dir: layout.operator(),
            pki_dir: layout.pki(),
            pid: std::process::id(),
        }
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        files::write(path, serde_json::to_vec_pretty(self)?, files::PUBLIC)
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            files::read(path).context("no federation runs there: `conflux dev` writes this file once it is ready")?;
        serde_json::from_str(&text).with_context(|| format!("{} is not what `conflux dev` writes", path.display()))
    }
}
