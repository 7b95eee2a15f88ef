//! `conflux profile`: the stored connections.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Output, Table},
    profile::{Profile, Profiles},
};

#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Add a profile, or replace it
    #[command(after_help = "Examples:\n  \
        conflux profile add prod --url https://config.example.com --key-file ~/.config/conflux/acme.key --tenant acme\n  \
        conflux profile add ops --url https://10.0.0.7:8443 --operator-url https://10.0.0.7:8444 \\\n    \
        --ca ca.pem --cert alice/cert.pem --cert-key alice/key.pem")]
    Add {
        name: String,
        #[command(flatten)]
        profile: ProfileArgs,
    },
    /// List the profiles
    List,
    /// Take this one where none is named
    Use { name: String },
    /// Show one [default: the one in use]
    Show { name: Option<String> },
    /// Remove one
    Remove { name: String },
}

#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// A gateway: https://host:port
    #[arg(long)]
    url: String,
    /// A gateway's operator port
    #[arg(long)]
    operator_url: Option<String>,
    /// Whom to trust [default: what the system trusts]
    #[arg(long)]
    ca: Option<PathBuf>,
    /// A file with an API key
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// A file with an operator's API key
    #[arg(long)]
    admin_key_file: Option<PathBuf>,
    /// An operator's certificate
    #[arg(long, requires = "cert_key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "cert")]
    cert_key: Option<PathBuf>,
    /// The tenant where a command is told none
    #[arg(long)]
    tenant: Option<String>,
}

impl ProfileArgs {
    /// Paths are made absolute: the profile is used from any directory.
    fn profile(self) -> std::io::Result<Profile> {
        let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
        Ok(Profile {
            url: Some(self.url),
            operator_url: self.operator_url,
            ca: absolute(self.ca)?,
            key_file: absolute(self.key_file)?,
            admin_key_file: absolute(self.admin_key_file)?,
            cert: absolute(self.cert)?,
            cert_key: absolute(self.cert_key)?,
            tenant: self.tenant,
        })
    }
}

pub fn run(command: ProfileCommand, output: Output) -> anyhow::Result<()> {
    let mut profiles = Profiles::load()?;
    let unknown = |name: &str| Failure::Usage(format!("no profile {name:?}; `conflux profile list` shows all"));
    match command {
        ProfileCommand::Add { name, profile } => {
            profiles.profiles.insert(name.clone(), profile.profile()?);
            profiles.current.get_or_insert(name.clone());
            let path = profiles.save()?;
            output.done(&format!("profile {name} written to {}", path.display()), json!({"name": name, "file": path}))
        }
        ProfileCommand::List => {
            let mut table = Table::new(&["NAME", "IN USE", "URL", "TENANT"]);
            for (name, profile) in &profiles.profiles {
                let used = if profiles.current.as_ref() == Some(name) { "*" } else { "" };
                let (url, tenant) = (profile.url.clone(), profile.tenant.clone());
                table.row([name.clone(), used.into(), url.unwrap_or_default(), tenant.unwrap_or_default()]);
            }
            output.list(table, serde_json::to_value(&profiles)?)
        }
        ProfileCommand::Use { name } => {
            if !profiles.profiles.contains_key(&name) {
                return Err(unknown(&name).into());
            }
            profiles.current = Some(name.clone());
            profiles.save()?;
            output.done(&format!("profile {name} is in use"), json!({"current": name}))
        }
        ProfileCommand::Show { name } => {
            let name = name.or(profiles.current).ok_or_else(|| Failure::Usage("no profile is in use".into()))?;
            let profile = profiles.profiles.get(&name).ok_or_else(|| unknown(&name))?;
            output.done(toml::to_string(profile)?.trim_end(), serde_json::to_value(profile)?)
        }
        ProfileCommand::Remove { name } => {
            profiles.profiles.remove(&name).ok_or_else(|| unknown(&name))?;
            profiles.current.take_if(|current| *current == name);
            profiles.save()?;
            output.done(&format!("profile {name} is removed"), json!({"removed": name}))
        }
    }
}
