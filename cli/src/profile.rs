//! Connection profiles: where a federation is and with what to ask it. A file, the environment and flags.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{dev::Federation, failure::Failure, files};

/// How to reach a federation. All but the URL may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Of a gateway, or of what balances over them: `https://config.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of a gateway's operator port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_url: Option<String>,
    /// Whom to trust beside nobody else. Left out: what the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Holds an API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Holds an operator's API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_key_file: Option<PathBuf>,
    /// An operator's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_key: Option<PathBuf>,
    /// Where a command is not told the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

impl Profile {
    /// What is set here, else what is set there.
    fn or(self, other: Self) -> Self {
        Self {
            url: self.url.or(other.url),
            operator_url: self.operator_url.or(other.operator_url),
            ca: self.ca.or(other.ca),
            key_file: self.key_file.or(other.key_file),
            admin_key_file: self.admin_key_file.or(other.admin_key_file),
            cert: self.cert.or(other.cert),
            cert_key: self.cert_key.or(other.cert_key),
            tenant: self.tenant.or(other.tenant),
        }
    }

    /// Everything that a federation of `conflux dev` tells of itself.
    fn of_federation(path: &Path) -> anyhow::Result<Self> {
        let federation = Federation::read(path)?;
        let gateway = federation.gateways.first().context("this federation has no gateway")?;
        Ok(Self {
            url: Some(gateway.url.clone()),
            operator_url: Some(gateway.operator_url.clone()),
            ca: Some(gateway.ca_file.clone()),
            key_file: Some(federation.demo_key_file),
            admin_key_file: Some(federation.admin_key_file),
            cert: Some(federation.operator_cert_dir.join("cert.pem")),
            cert_key: Some(federation.operator_cert_dir.join("key.pem")),
            tenant: Some("demo".into()),
        })
    }
}

/// All profiles of this user.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// The one taken where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

impl Profiles {
    /// `$CONFLUX_PROFILES`, else `profiles.toml` in the user's configuration.
    pub fn path() -> anyhow::Result<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(path) = set("CONFLUX_PROFILES") {
            return Ok(path);
        }
        let base = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        Ok(base.context("neither HOME nor XDG_CONFIG_HOME is set")?.join("conflux/profiles.toml"))
    }

    /// No file is no profiles.
    pub fn load() -> anyhow::Result<Self> {
        let path = Self::path()?;
        if !path.exists() {
            return Ok(Self::default());
        }
        toml::from_str(&files::read(&path)?).with_context(|| format!("{} is damaged", path.display()))
    }

    pub fn save(&self) -> anyhow::Result<PathBuf> {
        let path = Self::path()?;
        files::write(&path, toml::to_string(self)?, files::PRIVATE)?;
        Ok(path)
    }

    fn chosen(mut self, name: Option<&str>) -> anyhow::Result<Profile> {
        let Some(name) = name.or(self.current.as_deref()).map(str::to_owned) else { return Ok(Profile::default()) };
        let known = || self.profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let missing = Failure::Usage(format!("no profile {name:?}; there are: {}", known()));
        Ok(self.profiles.remove(&name).ok_or(missing)?)
    }
}

/// Where to and as whom.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The profile to start from (`conflux profile list`)
    #[arg(long, global = true, env = "CONFLUX_PROFILE")]
    profile: Option<String>,
    /// Take everything from the federation.json that `conflux dev` has written
    #[arg(long, global = true, env = "CONFLUX_FEDERATION", value_name = "FILE")]
    federation: Option<PathBuf>,
    /// A gateway: https://host:port
    #[arg(long, global = true, env = "CONFLUX_URL")]
    url: Option<String>,
    /// A gateway's operator port: https://host:port
    #[arg(long, global = true, env = "CONFLUX_OPERATOR_URL")]
    operator_url: Option<String>,
    /// A file with the API key (an operator's where the command is an operator's)
    #[arg(long, global = true, env = "CONFLUX_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Whom to trust: certificates in PEM. Left out: what the system trusts
    #[arg(long, global = true, env = "CONFLUX_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// An operator's certificate
    #[arg(long, global = true, env = "CONFLUX_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The private key of --cert
    #[arg(long, global = true, env = "CONFLUX_CERT_KEY", value_name = "FILE")]
    cert_key: Option<PathBuf>,
}

impl Connection {
    /// Flags and environment, then the federation's file, then the profile.
    pub fn resolve(&self) -> anyhow::Result<Profile> {
        if self.cert.is_some() != self.cert_key.is_some() {
            return Err(Failure::Usage("--cert and --cert-key go together".into()).into());
        }
        let flags = Profile {
            url: self.url.clone(),
            operator_url: self.operator_url.clone(),
            ca: self.ca.clone(),
            key_file: self.key_file.clone(),
            admin_key_file: self.key_file.clone(),
            cert: self.cert.clone(),
            cert_key: self.cert_key.clone(),
            tenant: None,
        };
        let below = match &self.federation {
            Some(path) => Profile::of_federation(path)?,
            None => Profiles::load()?.chosen(self.profile.as_deref())?,
        };
        Ok(flags.or(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flag is for this one call: it must win over what is stored.
    #[test]
    fn flags_win_over_profiles() {
        let stored = Profile { url: Some("https://stored".into()), tenant: Some("acme".into()), ..Profile::default() };
        let flags = Profile { url: Some("https://flag".into()), ..Profile::default() };
        let both = flags.or(stored);
        assert_eq!((both.url.as_deref(), both.tenant.as_deref()), (Some("https://flag"), Some("acme")));
    }

    /// A name with a typing error must not silently become an empty profile.
    #[test]
    fn an_unknown_profile_is_a_mistake() {
        let profiles = Profiles { current: None, profiles: [("prod".into(), Profile::default())].into() };
        let error = profiles.clone().chosen(Some("prdo")).unwrap_err().to_string();
        assert!(error.contains("prod"), "{error}");
        assert_eq!(profiles.chosen(None).unwrap(), Profile::default());
    }
}
