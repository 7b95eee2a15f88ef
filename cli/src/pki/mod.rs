//! `conflux pki`: the federation's own certificate authority.

mod authority;
mod index;
mod leaf;

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use conflux_common::ids::{ClusterName, GroupName, MemberName};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub use self::{
    authority::Authority,
    leaf::{Holder, LeafRequest, RoleName},
};
use crate::output::{Output, Table};

/// A day short of the 398 that browsers accept, and enough to renew once a year.
const LEAF_DAYS: u32 = 365;

#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a new certificate authority
    #[command(after_help = "Example:\n  conflux pki init --dir pki --cluster prod\n\n\
        Keep the directory off the machines that run the federation: whoever has ca.key can be any member of it.")]
    Init {
        #[command(flatten)]
        dir: Dir,
        /// The federation's name; part of every certificate
        #[arg(long)]
        cluster: ClusterName,
    },
    /// Make a certificate for a process or an operator
    #[command(after_help = "Examples:\n  \
        conflux pki issue --dir pki --role shard --group shard-a --member shard-a-1 --out certs/shard-a-1\n  \
        conflux pki issue --dir pki --role gateway --member gateway-1 --out certs/gateway-1\n  \
        conflux pki issue --dir pki --role operator --member alice --days 30 --out ~/.config/conflux/alice")]
    Issue {
        #[command(flatten)]
        dir: Dir,
        #[arg(long, value_enum)]
        role: RoleName,
        /// The shard's name; of placement: `placement` unless given
        #[arg(long)]
        group: Option<GroupName>,
        /// The process's name, or the operator's
        #[arg(long)]
        member: MemberName,
        #[command(flatten)]
        leaf: LeafArgs,
    },
    /// Make the certificate that clients see of a gateway
    #[command(after_help = "Example:\n  \
        conflux pki server --dir pki --dns config.example.com --ip 10.0.0.7 --out certs/gateway-1/client\n\n\
        A certificate of a public authority does as well: name it under [client_tls] in the gateway's settings.")]
    Server {
        #[command(flatten)]
        dir: Dir,
        #[command(flatten)]
        leaf: LeafArgs,
    },
    /// Revoke certificates and issue the next revocation list
    #[command(after_help = "Examples:\n  conflux pki revoke --dir pki --cert certs/gateway-1/cert.pem\n  \
        conflux pki revoke --dir pki --uri conflux://prod/operator/alice\n\n\
        Copy crl.pem to where the processes' settings point; they read it again by themselves.")]
    #[group(skip)]
    Revoke {
        #[command(flatten)]
        dir: Dir,
        #[command(flatten)]
        which: Which,
    },
    /// Issue the revocation list anew, before it gets too old
    Crl {
        #[command(flatten)]
        dir: Dir,
    },
    /// List what was issued
    Show {
        #[command(flatten)]
        dir: Dir,
    },
}

#[derive(Debug, Args)]
pub struct Dir {
    /// The directory of the certificate authority
    #[arg(long, default_value = "pki")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct LeafArgs {
    /// A DNS name in the certificate (may be repeated)
    #[arg(long)]
    dns: Vec<String>,
    /// An address in the certificate (may be repeated)
    #[arg(long)]
    ip: Vec<IpAddr>,
    /// Days until it expires
    #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=825))]
    days: u32,
    /// Where cert.pem, key.pem and ca.pem go
    #[arg(long)]
    out: PathBuf,
    /// Write over the certificate that is there
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// This certificate
    #[arg(long)]
    cert: Option<PathBuf>,
    /// The one with this serial number (hexadecimal)
    #[arg(long)]
    serial: Option<String>,
    /// All of this holder
    #[arg(long)]
    uri: Option<String>,
}

pub fn run(command: PkiCommand, output: Output) -> anyhow::Result<()> {
    match command {
        PkiCommand::Init { dir, cluster } => {
            let authority = Authority::create(&dir.dir, &cluster)?;
            output.done(
                &format!("certificate authority of {} made in {}", authority.cluster(), dir.dir.display()),
                serde_json::json!({"dir": dir.dir, "cluster": cluster}),
            )
        }
        PkiCommand::Issue { dir, role, group, member, leaf } => {
            issue(&dir, Holder::new(role, group, member)?, leaf, output)
        }
        PkiCommand::Server { dir, leaf } => issue(&dir, Holder::Server, leaf, output),
        PkiCommand::Revoke { dir, which } => revoke(&dir, which, output),
        PkiCommand::Crl { dir } => {
            let (path, number) = Authority::open(&dir.dir)?.write_crl()?;
            output.done(
                &format!("revocation list {number} written to {}", path.display()),
                serde_json::json!({"crl": path, "number": number}),
            )
        }
        PkiCommand::Show { dir } => show(&dir, output),
    }
}

fn issue(dir: &Dir, holder: Holder, leaf: LeafArgs, output: Output) -> anyhow::Result<()> {
    let request = LeafRequest { holder, dns: leaf.dns, ip: leaf.ip, days: leaf.days };
    let issued = Authority::open(&dir.dir)?.issue(&request, &leaf.out, leaf.replace)?;
    let text = format!(
        "certificate of {} written to {}, expires {}",
        issued.entry.holder,
        leaf.out.display(),
        issued.entry.not_after.format(&Rfc3339)?
    );
    let (cert, key, ca) = (&issued.cert, &issued.key, &issued.ca);
    output.done(&text, serde_json::json!({"cert": cert, "key": key, "ca": ca, "certificate": issued.entry}))
}

fn revoke(dir: &Dir, which: Which, output: Output) -> anyhow::Result<()> {
    let mut authority = Authority::open(&dir.dir)?;
    let serial = match (&which.cert, which.serial) {
        (Some(path), _) => Some(serial_of(path)?),
        (None, Some(serial)) => Some(serial.to_ascii_lowercase().replace(':', "")),
        (None, None) => None,
    };
    let known = |c: &index::Issued| Some(&c.serial) == serial.as_ref() || Some(&c.holder) == which.uri.as_ref();
    if !authority.certificates().iter().any(known) {
        bail!("this authority has issued no such certificate; `conflux pki show` lists what it has");
    }
    let count = authority.revoke(known)?;
    let list = dir.dir.join("crl.pem");
    output.done(
        &format!("{count} revoked now; the new list is {}", list.display()),
        serde_json::json!({"revoked": count, "crl": list}),
    )
}

/// Hexadecimal, as the index has it.
fn serial_of(path: &std::path::Path) -> anyhow::Result<String> {
    let text = crate::files::read(path)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes())
        .with_context(|| format!("{} is no PEM file", path.display()))?;
    let certificate = pem.parse_x509().with_context(|| format!("{} holds no certificate", path.display()))?;
    Ok(authority::hex(certificate.raw_serial()))
}

fn show(dir: &Dir, output: Output) -> anyhow::Result<()> {
    let authority = Authority::open(&dir.dir)?;
    let now = OffsetDateTime::now_utc();
    let mut table = Table::new(&["HOLDER", "STATE", "EXPIRES", "SERIAL"]);
    for certificate in authority.certificates() {
        table.row([
            certificate.holder.clone(),
            certificate.state(now).into(),
            certificate.not_after.format(&Rfc3339)?,
            certificate.serial.clone(),
        ]);
    }
    output.list(table, serde_json::json!({"cluster": authority.cluster(), "certificates": authority.certificates()}))
}

#[cfg(test)]
mod tests;
