//! Where everything of a development federation lies below its data directory.

use std::path::{Path, PathBuf};

use super::plan::{Member, Role};

/// All paths absolute.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Of an existing directory.
    pub fn new(dir: &Path) -> std::io::Result<Self> {
        Ok(Self { root: dir.canonicalize()? })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn federation(&self) -> PathBuf {
        self.root.join("federation.json")
    }

    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub fn ca(&self) -> PathBuf {
        self.pki().join("ca.pem")
    }

    pub fn crl(&self) -> PathBuf {
        self.pki().join("crl.pem")
    }

    /// The operator's certificate: the first credential that there is.
    pub fn operator(&self) -> PathBuf {
        self.root.join("operator")
    }

    pub fn admin_key(&self) -> PathBuf {
        self.root.join("admin.key")
    }

    pub fn demo_key(&self) -> PathBuf {
        self.root.join("demo.key")
    }

    /// There once the demo tenant has been made: never again, even if somebody deletes it.
    pub fn seeded(&self) -> PathBuf {
        self.root.join("seeded")
    }

    fn member(&self, member: &Member) -> PathBuf {
        self.root.join(&member.name)
    }

    pub fn data(&self, member: &Member) -> PathBuf {
        self.member(member).join("data")
    }

    pub fn certs(&self, member: &Member) -> PathBuf {
        self.member(member).join("tls")
    }

    /// What clients see of a gateway.
    pub fn client_certs(&self, member: &Member) -> PathBuf {
        self.member(member).join("client-tls")
    }

    pub fn config(&self, member: &Member) -> PathBuf {
        self.member(member).join(format!("{}.toml", member.role.name()))
    }

    pub fn log(&self, member: &Member) -> PathBuf {
        self.member(member).join(format!("{}.log", member.name))
    }

    /// What a gateway has refused.
    pub fn refused(&self, member: &Member) -> PathBuf {
        self.member(member).join("refused.jsonl")
    }

    /// Gateways hold nothing.
    pub fn has_data(member: &Member) -> bool {
        member.role != Role::Gateway
    }
}
