//! `conflux changeset apply`: several changes, all or nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value};

use super::{
    Session, cell,
    config::{content, put_content},
    items,
    publish::Guard,
};
use crate::output::Table;

#[derive(Debug, Subcommand)]
pub enum ChangesetCommand {
    /// Send a changeset: it takes effect whole, under one revision, or not at all
    #[command(after_help = "Example:\n  conflux changeset apply -f change.yaml\n\n\
        change.yaml (or JSON):\n  description: new prices\n  changes:\n    \
        - put: {app: shop, env: prod, name: prices.yaml, content_file: prices.yaml}\n      if_absent: true\n    \
        - publish: {id: c7, version: 3, strategy: {type: all}}\n      if_match: '\"1.42\"'\n    \
        - rollback: {id: c8}\n\n\
        Each change is one of put, publish, rollback, releases, update, delete. `content_file` is read here, below the\n\
        changeset's directory.")]
    Apply(ApplyArgs),
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// YAML or JSON; `-` is standard input
    #[arg(long, short)]
    file: PathBuf,
    #[command(flatten)]
    write: Guard,
}

pub async fn run(command: ChangesetCommand, session: Session) -> anyhow::Result<()> {
    let ChangesetCommand::Apply(args) = command;
    let (client, tenant) = session.user(args.write.tenant.tenant.as_deref())?;
    let text = content(Some(&args.file))?;
    let mut body: Value = serde_yaml_ng::from_slice(&text).with_context(|| args.file.display().to_string())?;
    let folder = args.file.parent().unwrap_or(Path::new(""));
    for change in body["changes"].as_array_mut().into_iter().flatten() {
        for part in change.as_object_mut().into_iter().flat_map(|c| c.values_mut()).filter_map(Value::as_object_mut) {
            read_file(part, folder)?;
        }
    }
    let call = client.call(Method::POST, &["api", "v1", "mgt", &tenant, "changesets"]).json(&body);
    let answer = client.json(args.write.on(call)).await?;
    let mut table = Table::new(&["CONFIG", "VERSION", "ETAG"]);
    for made in items(&answer, "results") {
        table.row([cell(made, "config_id"), cell(made, "version"), cell(made, "etag")]);
    }
    session.output.list(table, answer)
}

/// Puts the content of `content_file` in its place.
fn read_file(part: &mut Map<String, Value>, folder: &Path) -> anyhow::Result<()> {
    let Some(named) = part.remove("content_file") else { return Ok(()) };
    let Some(named) = named.as_str().map(Path::new) else { bail!("content_file: the path of a file is expected") };
    let below = named.components().all(|c| matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if !below {
        bail!("content_file: {} is not below the changeset's directory", named.display());
    }
    put_content(part, content(Some(&folder.join(named)))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A changeset that somebody else wrote must not send a file that its reader did not mean to give away.
    #[test]
    fn files_come_from_beside_the_changeset() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "a: 1\n").unwrap();
        let part = |file: &str| Map::from_iter([("content_file".to_owned(), Value::from(file))]);
        let mut good = part("a.yaml");
        read_file(&mut good, folder.path()).unwrap();
        assert_eq!(good["content"], "a: 1\n");
        for bad in ["../a.yaml", "/etc/passwd"] {
            assert!(read_file(&mut part(bad), folder.path()).is_err(), "{bad}");
        }
    }
}
