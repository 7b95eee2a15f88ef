//! What a certificate says of its holder.

use std::net::IpAddr;

use anyhow::bail;
use conflux_common::{
    ids::{ClusterName, GroupName, MemberName},
    tls::SERVER_NAME,
};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};

/// Who or what a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Gateway {
        member: MemberName,
    },
    Shard {
        group: GroupName,
        member: MemberName,
    },
    Placement {
        group: GroupName,
        member: MemberName,
    },
    Operator {
        name: MemberName,
    },
    /// What clients see of a gateway. It has no URI, so that no port between processes admits it.
    Server,
}

/// As given on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleName {
    Gateway,
    Shard,
    Placement,
    Operator,
}

impl Holder {
    /// Only shards and placement have groups; placement's is called `placement` unless told otherwise.
    pub fn new(role: RoleName, group: Option<GroupName>, member: MemberName) -> anyhow::Result<Self> {
        Ok(match (role, group) {
            (RoleName::Gateway, None) => Self::Gateway { member },
            (RoleName::Operator, None) => Self::Operator { name: member },
            (RoleName::Shard, Some(group)) => Self::Shard { group, member },
            (RoleName::Shard, None) => bail!("--group: a shard's certificate names its group"),
            (RoleName::Placement, group) => {
                Self::Placement { group: group.map_or_else(|| GroupName::new("placement"), Ok)?, member }
            }
            (_, Some(_)) => bail!("--group: gateways and operators belong to no group"),
        })
    }

    /// The SAN URI (DESIGN section 9).
    pub fn uri(&self, cluster: &ClusterName) -> Option<String> {
        Some(match self {
            Self::Gateway { member } => format!("conflux://{cluster}/gateway/{member}"),
            Self::Shard { group, member } => format!("conflux://{cluster}/shard/{group}/{member}"),
            Self::Placement { group, member } => format!("conflux://{cluster}/placement/{group}/{member}"),
            Self::Operator { name } => format!("conflux://{cluster}/operator/{name}"),
            Self::Server => return None,
        })
    }
}

/// A certificate to be.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    pub holder: Holder,
    pub dns: Vec<String>,
    pub ip: Vec<IpAddr>,
    pub days: u32,
}

impl LeafRequest {
    /// How the index names it.
    pub fn title(&self, cluster: &ClusterName) -> String {
        let names = || {
            let ip = self.ip.iter().map(IpAddr::to_string);
            self.dns.iter().cloned().chain(ip).collect::<Vec<_>>().join(", ")
        };
        self.holder.uri(cluster).unwrap_or_else(names)
    }

    /// All but serial number and dates.
    pub fn params(&self, cluster: &ClusterName) -> anyhow::Result<CertificateParams> {
        let mut dns = self.dns.clone();
        let uri = self.holder.uri(cluster);
        if uri.is_some() && !dns.iter().any(|n| n == SERVER_NAME) {
            dns.insert(0, SERVER_NAME.into());
        }
        if dns.is_empty() && self.ip.is_empty() {
            bail!("--dns or --ip: name the host that clients will ask for");
        }
        let mut params = CertificateParams::new(dns)?;
        params.subject_alt_names.extend(self.ip.iter().copied().map(SanType::IpAddress));
        if let Some(uri) = &uri {
            params.subject_alt_names.insert(0, SanType::URI(uri.as_str().try_into()?));
        }
        params.distinguished_name.remove(DnType::CommonName);
        // A common name holds at most 64 characters; the URI says who it is in full.
        let common: String = match &self.holder {
            Holder::Gateway { member } | Holder::Operator { name: member } => member.to_string(),
            Holder::Shard { member, .. } | Holder::Placement { member, .. } => member.to_string(),
            Holder::Server => self.title(cluster),
        };
        params.distinguished_name.push(DnType::CommonName, common.chars().take(64).collect::<String>());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match self.holder {
            Holder::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Holder::Operator { .. } => vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}
