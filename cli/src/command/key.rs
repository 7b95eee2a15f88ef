//! `conflux key`: API keys, for operators.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::{Session, cell, instant, pages};
use crate::{
    failure::Failure,
    files,
    output::{Output, Table},
};

const PATH: [&str; 4] = ["api", "v1", "admin", "keys"];

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make an API key; it is shown this once
    #[command(group = ArgGroup::new("for").required(true).args(["tenant", "operator"]))]
    #[command(after_help = "Examples:\n  conflux key create --tenant acme --role publisher --out acme.key\n  \
        conflux key create --tenant acme --role reader --days 30\n  conflux key create --operator --out admin.key\n\n\
        Roles that are always there: reader, writer (adds versions), publisher (and releases them: `config put` needs it), admin. Others: `conflux role`.")]
    Create {
        /// The tenant that it is for
        #[arg(long)]
        tenant: Option<String>,
        /// What its holder may do (may be repeated)
        #[arg(long = "role", requires = "tenant")]
        roles: Vec<String>,
        /// For an operator of the federation, not for a tenant
        #[arg(long)]
        operator: bool,
        #[arg(long, default_value = "")]
        description: String,
        /// Days until it expires [default: never]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: Option<u64>,
        /// Write the key to this file, readable only by you, instead of showing it
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// List keys (never their secrets)
    List {
        /// Only of this tenant
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Revoke a key: refused everywhere within a second
    #[command(after_help = "Example:\n  conflux key revoke abcdefghijkl2345\n\n\
        The id is the part of the key between the first two underscores; `conflux key list` shows it.")]
    Revoke { id: String },
}

pub async fn run(command: KeyCommand, session: Session) -> anyhow::Result<()> {
    let (client, output) = (session.operator()?, session.output);
    match command {
        KeyCommand::Create { tenant, roles, operator, description, days, out } => {
            out.as_deref().map_or(Ok(()), is_free)?;
            let mut body = json!({"description": description});
            match tenant {
                Some(tenant) => (body["tenant"], body["roles"]) = (json!(tenant), json!(roles)),
                None => body["operator"] = json!(operator),
            }
            if let Some(days) = days {
                let now = time::OffsetDateTime::now_utc().unix_timestamp().unsigned_abs();
                body["expires_ms"] = json!((now + days * 86_400) * 1000);
            }
            let made = client.json(client.call(Method::POST, &PATH).json(&body)).await?;
            created(made, out, output)
        }
        KeyCommand::List { tenant } => {
            let query: Vec<(&str, &str)> = tenant.iter().map(|t| ("tenant", t.as_str())).collect();
            let keys = pages(&client, &PATH, &query, "keys").await?;
            let mut table = Table::new(&["ID", "TENANT", "ROLES", "MADE", "EXPIRES", "DESCRIPTION"]);
            for key in &keys {
                let tenant = if key["operator"] == true { "(operator)".into() } else { cell(key, "tenant") };
                let (made, expires) = (instant(key, "created_ms"), instant(key, "expires_ms"));
                table.row([cell(key, "id"), tenant, cell(key, "roles"), made, expires, cell(key, "description")]);
            }
            output.list(table, json!({"keys": keys}))
        }
        KeyCommand::Revoke { id } => {
            client.json(client.call(Method::DELETE, &[&PATH[..], &[&id]].concat())).await?;
            output.done(&format!("key {id} is revoked"), json!({"id": id, "revoked": true}))
        }
    }
}

/// A key is told once: writing over the file of another one would lose that for good.
fn is_free(out: &Path) -> Result<(), Failure> {
    let text =
        format!("{} exists: it may hold a key that is in use; name another file, or move it away", out.display());
    if out.exists() { Err(Failure::Usage(text)) } else { Ok(()) }
}

/// In a table the key stands alone on standard output, so that `> file` and `$(..)` take just it.
fn created(mut made: serde_json::Value, out: Option<PathBuf>, output: Output) -> anyhow::Result<()> {
    let key = cell(&made, "key");
    if let Some(path) = out {
        files::write(&path, format!("{key}\n"), files::PRIVATE)?;
        if let Some(made) = made.as_object_mut() {
            made.remove("key");
            made.insert("key_file".into(), json!(path));
        }
        return output.done(&format!("key {} written to {}", cell(&made, "id"), path.display()), made);
    }
    if output == Output::Table {
        eprintln!("Keep it now: it is not shown again.");
    }
    output.done(&key, made)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second `key create` with the same `--out` replaced the first key, which nobody could ever read again.
    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.key");
        assert!(is_free(&path).is_ok());
        std::fs::write(&path, "cfx_").unwrap();
        assert!(is_free(&path).unwrap_err().to_string().contains("exists"));
    }
}
