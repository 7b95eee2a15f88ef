//! Who a certificate names, and whom a port or a client admits. Pure.

use std::{fmt, str::FromStr};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::ids::{ClusterName, GroupName, MemberName};

/// What a certificate's holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Role {
    Gateway,
    Shard,
    Placement,
    Operator,
}

impl Role {
    /// As in the URI.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Shard => "shard",
            Role::Placement => "placement",
            Role::Operator => "operator",
        }
    }

    /// Whether holders of this role are members of a Raft group, which their URI then names.
    pub const fn has_group(self) -> bool {
        matches!(self, Role::Shard | Role::Placement)
    }

    fn parse(text: &str) -> Option<Self> {
        [Role::Gateway, Role::Shard, Role::Placement, Role::Operator].into_iter().find(|role| role.name() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The holder of a certificate. Inserted into the extensions of every request that [`serve`](crate::serve) accepts.
/// Its text is the URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerId {
    /// The federation.
    pub cluster: ClusterName,
    /// What it is.
    pub role: Role,
    /// Of shards and placement.
    pub group: Option<GroupName>,
    /// The process, or the operator's name.
    pub member: MemberName,
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conflux://{}/{}/", self.cluster, self.role)?;
        if let Some(group) = &self.group {
            write!(f, "{group}/")?;
        }
        write!(f, "{}", self.member)
    }
}

/// Why a certificate names no holder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// Not X.509, or bytes follow it.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// None of the URIs is ours.
    #[error("the certificate has no SAN URI conflux://<cluster>/<role>/[<group>/]<member>")]
    NoUri,
    /// Who would it be?
    #[error("the certificate has {0} conflux URIs; exactly one is allowed")]
    ManyUris(usize),
    /// Ours, but not in one of the four forms.
    #[error("the certificate's URI {given:?} is not conflux://<cluster>/<role>/[<group>/]<member>: {why}")]
    Malformed {
        /// Cut to 200 characters.
        given: String,
        /// What is wrong with it.
        why: String,
    },
}

impl FromStr for PeerId {
    type Err = InvalidIdentity;

    /// Strict: one text for each holder; no escapes, query, port or trailing slash.
    fn from_str(uri: &str) -> Result<Self, InvalidIdentity> {
        let malformed =
            |why: &str| InvalidIdentity::Malformed { given: uri.chars().take(200).collect(), why: why.to_owned() };
        let rest = uri.strip_prefix("conflux://").ok_or_else(|| malformed("it must begin with conflux://"))?;
        let parts: Vec<&str> = rest.split('/').collect();
        let role = parts.get(1).and_then(|text| Role::parse(text));
        let role = role.ok_or_else(|| malformed("the role is gateway, shard, placement or operator"))?;
        let (cluster, group, member) = match (parts.as_slice(), role.has_group()) {
            ([cluster, _, group, member], true) => (*cluster, Some(*group), *member),
            ([cluster, _, member], false) => (*cluster, None, *member),
            (_, true) => return Err(malformed("this role needs a group and a member")),
            (_, false) => return Err(malformed("this role needs a name and no group")),
        };
        let wrong = |error: crate::ids::InvalidName| malformed(&error.to_string());
        Ok(Self {
            cluster: ClusterName::new(cluster).map_err(wrong)?,
            role,
            group: group.map(GroupName::new).transpose().map_err(wrong)?,
            member: MemberName::new(member).map_err(wrong)?,
        })
    }
}

impl PeerId {
    /// Who this certificate names. Says nothing about whether the certificate is to be trusted.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, InvalidIdentity> {
        let unreadable = |why: String| InvalidIdentity::Unreadable(why);
        let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|e| unreadable(e.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable("bytes follow it".into()));
        }
        let names = parsed.subject_alternative_name().map_err(|e| unreadable(e.to_string()))?;
        let ours: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
            .filter(|uri| uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("conflux")))
            .collect();
        match ours.as_slice() {
            [] => Err(InvalidIdentity::NoUri),
            [uri] => uri.parse(),
            many => Err(InvalidIdentity::ManyUris(many.len())),
        }
    }
}

/// Whom a port admits, or whom a client expects at the other end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Admission {
    /// Of this federation only.
    pub cluster: ClusterName,
    /// Any of these.
    pub allowed: Vec<Peers>,
}

/// One kind of peer that is admitted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Every holder of this role.
    Role(Role),
    /// Members of one group.
    Group(Role, GroupName),
    /// One process.
    Member(Role, Option<GroupName>, MemberName),
}

impl Peers {
    /// Whether this one is of that kind; the federation is not looked at.
    pub fn include(&self, peer: &PeerId) -> bool {
        match self {
            Peers::Role(role) => peer.role == *role,
            Peers::Group(role, group) => peer.role == *role && peer.group.as_ref() == Some(group),
            Peers::Member(role, group, member) => peer.role == *role && peer.group == *group && peer.member == *member,
        }
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peers::Role(role) => write!(f, "{role}/*"),
            Peers::Group(role, group) => write!(f, "{role}/{group}/*"),
            Peers::Member(role, Some(group), member) => write!(f, "{role}/{group}/{member}"),
            Peers::Member(role, None, member) => write!(f, "{role}/{member}"),
        }
    }
}

impl Admission {
    /// Whether this one may enter.
    pub fn admits(&self, peer: &PeerId) -> bool {
        self.cluster == peer.cluster && self.allowed.iter().any(|kind| kind.include(peer))
    }
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conflux://{}/", self.cluster)?;
        let kinds: Vec<String> = self.allowed.iter().map(ToString::to_string).collect();
        write!(f, "{{{}}}", kinds.join(", "))
    }
}
