//! Ports of a development federation: free ones, consecutive, and not given to two federations at once.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::files::{self, Lock};

/// Below the range from which the system takes ports for outgoing connections.
const FIRST: u16 = 18_000;
const LAST: u16 = 32_000;
/// A claim is of whole blocks, so that one lock file stands for many ports.
const BLOCK: u16 = 100;

/// The three ports of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Shards and placement: for gateways and operators. Gateways: for clients.
    pub service: u16,
    /// Shards and placement: Raft. Gateways: for operators.
    pub inner: u16,
    /// Health and metrics.
    pub metrics: u16,
}

impl Ports {
    pub fn all(self) -> [u16; 3] {
        [self.service, self.inner, self.metrics]
    }
}

/// While it lives, no other `conflux dev` of this user takes the same blocks.
pub struct Claim {
    _locks: Vec<Lock>,
}

impl Claim {
    /// Holds both.
    pub fn join(&mut self, other: Claim) {
        self._locks.extend(other._locks);
    }
}

/// On the address of this machine that only itself can reach.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Ports for so many members: from `base` on, or where so many are free.
pub fn claim_new(members: usize, base: Option<u16>) -> anyhow::Result<(Vec<Ports>, Claim)> {
    let count = u16::try_from(members * 3).context("too many members")?;
    if let Some(base) = base {
        if base.checked_add(count).is_none() {
            bail!("--base-port {base}: {count} ports are needed from there on");
        }
        let ports = from_base(base, members);
        let claim = claim_known(&ports)?;
        return Ok((ports, claim));
    }
    let mut start = FIRST;
    while start + count < LAST {
        let ports = from_base(start, members);
        if let Ok(claim) = claim_known(&ports) {
            return Ok((ports, claim));
        }
        start += BLOCK;
    }
    bail!("no {count} consecutive free ports between {FIRST} and {LAST}: choose with --base-port")
}

fn from_base(base: u16, members: usize) -> Vec<Ports> {
    let each = (0..members).map(|n| base + 3 * n as u16);
    each.map(|first| Ports { service: first, inner: first + 1, metrics: first + 2 }).collect()
}

/// Makes sure that these are free now and stay ours.
pub fn claim_known(ports: &[Ports]) -> anyhow::Result<Claim> {
    let all = || ports.iter().flat_map(|p| p.all());
    let mut blocks: Vec<u16> = all().map(|port| port / BLOCK * BLOCK).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let folder = files::cache_dir().join("ports");
    let lock = |block: &u16| {
        let busy =
            format!("the ports from {block} on belong to another running `conflux dev`: choose with --base-port");
        files::lock(&folder.join(block.to_string()), &busy)
    };
    let locks = blocks.iter().map(lock).collect::<anyhow::Result<_>>()?;
    for port in all() {
        TcpListener::bind(loopback(port))
            .with_context(|| format!("port {port} cannot be opened: free it, or choose others with --base-port"))?;
    }
    Ok(Claim { _locks: locks })
}
