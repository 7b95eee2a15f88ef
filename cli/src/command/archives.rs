//! `conflux export|import`: configs as an archive.

use std::{
    fs::File,
    io::{IsTerminal, Read},
    path::PathBuf,
};

use anyhow::Context;
use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::{Session, config::TenantArg, items};
use crate::{
    failure::Failure,
    files,
    output::{self, Table},
};

/// The service takes as much.
const MAX_ARCHIVE: u64 = 8 << 20;

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Only this application
    #[arg(long)]
    app: Option<String>,
    /// Only this environment of it
    #[arg(long, requires = "app")]
    env: Option<String>,
    /// Only configs whose names begin so
    #[arg(long)]
    prefix: Option<String>,
    /// Where to write the archive [default: standard output]
    #[arg(long, short)]
    file: Option<PathBuf>,
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The archive [default: standard input]
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// Into this application in place of the archive's
    #[arg(long)]
    app: Option<String>,
    /// Into this environment in place of the archive's
    #[arg(long)]
    env: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn export(args: ExportArgs, session: &Session) -> anyhow::Result<()> {
    if args.file.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::Usage("an archive is nothing for a terminal: --file FILE, or redirect it".into()).into());
    }
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let options = [("app", &args.app), ("env", &args.env), ("prefix", &args.prefix)];
    let query: Vec<(&str, &str)> = options.into_iter().filter_map(|(key, v)| Some((key, v.as_deref()?))).collect();
    let answer = client.send(client.call_with(Method::GET, &["api", "v1", "mgt", &tenant, "export"], &query)).await?;
    let archive = answer.bytes().await.context("the answer broke off")?;
    match &args.file {
        None => output::bytes(&archive),
        Some(path) => {
            files::write(path, &archive, files::PUBLIC)?;
            let text = format!("{} has {} bytes", path.display(), archive.len());
            session.output.done(&text, json!({"file": path, "bytes": archive.len()}))
        }
    }
}

pub async fn import(args: ImportArgs, session: &Session) -> anyhow::Result<()> {
    let archive = archive(args.file.as_ref())?;
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let options = [("app", args.app.as_deref()), ("env", args.env.as_deref())];
    let mut query: Vec<(&str, &str)> = options.into_iter().filter_map(|(key, v)| Some((key, v?))).collect();
    if args.dry_run {
        query.push(("dry_run", "true"));
    }
    let call = client.call_with(Method::POST, &["api", "v1", "mgt", &tenant, "import"], &query);
    // It may be many writes: as long as the service allows.
    let call = call.header("content-type", "application/zip").header("grpc-timeout", "30S").body(archive);
    let answer = client.json(call).await?;
    let mut table = Table::new(&["CONFIG", if args.dry_run { "WOULD BE" } else { "IS" }]);
    for outcome in ["created", "changed", "unchanged"] {
        for place in items(&answer, outcome) {
            table.row([place.as_str().unwrap_or_default().to_owned(), outcome.to_owned()]);
        }
    }
    session.output.list(table, answer)
}

fn archive(file: Option<&PathBuf>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut source: Box<dyn Read> = match file.filter(|path| path.as_os_str() != "-") {
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?),
        None => Box::new(std::io::stdin().lock()),
    };
    source.by_ref().take(MAX_ARCHIVE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ARCHIVE {
        return Err(Failure::Usage(format!("an archive has at most {MAX_ARCHIVE} bytes")).into());
    }
    Ok(bytes)
}
