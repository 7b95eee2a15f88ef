//! `conflux config edit`: what is released, in an editor, checked before it is sent.

use std::{
    io::{BufRead, IsTerminal, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use clap::Args;

use super::{
    Session, cell,
    config::{ConfigPath, TenantArg, fetched, put_call, record},
    inspect::{Sent, violations},
};
use crate::failure::{Failure, exit};

#[derive(Debug, Args)]
pub struct EditArgs {
    /// app/env/name
    config: ConfigPath,
    /// What this version is for
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn run(args: EditArgs, session: &Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    // Before the content: what changes between the two makes the condition fail, and never goes unseen.
    let known = record(&client, &tenant, &args.config).await?;
    let before = fetched(&client, &tenant, &args.config).await?;
    let copy = Copy::new(args.config.name(), &before)?;
    let after = loop {
        copy.edit()?;
        let after = copy.read()?;
        if after == before {
            copy.remove();
            return session.output.done("no change", serde_json::json!({"changed": false}));
        }
        let sent = Sent {
            content: after.clone(),
            name: Some(args.config.name().to_owned()),
            format: Some(cell(&known, "format")),
            schema: Some(cell(&known, "schema")),
        };
        let found = match sent.check(&client, &tenant).await {
            Ok(answer) => violations(&answer),
            Err(e) => return Err(copy.kept(e)),
        };
        if found.is_empty() {
            break after;
        }
        eprintln!("This would be refused:");
        for violation in &found {
            eprintln!("  {violation}");
        }
        if !again()? {
            return Err(copy.kept(Failure::Usage("nothing was sent".into()).into()));
        }
    };
    let description = args.description.as_deref();
    let call = put_call(&client, &tenant, &args.config, description, Some(&cell(&known, "format")), after);
    match client.json(call.header(http::header::IF_MATCH, cell(&known, "etag"))).await {
        Ok(answer) => {
            copy.remove();
            let (version, revision) = (cell(&answer, "version"), cell(&answer, "revision"));
            session.output.done(&format!("{} is at version {version}, revision {revision}", args.config), answer)
        }
        Err(e) => Err(copy.kept(e.into())),
    }
}

/// Whether to open the editor again. A script has nobody to ask.
fn again() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Edit again? [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(!answer.trim().to_ascii_lowercase().starts_with('n'))
}

/// The file that is edited, in a directory that only its owner reads.
struct Copy {
    file: PathBuf,
}

impl Copy {
    fn new(name: &str, content: &[u8]) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("conflux-edit-{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder).context("cannot make a directory for the copy")?;
        // Its name tells the editor what it is.
        let file = folder.join(name);
        std::fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { file })
    }

    fn edit(&self) -> anyhow::Result<()> {
        let given =
            ["VISUAL", "EDITOR"].iter().filter_map(|name| std::env::var(name).ok()).find(|v| !v.trim().is_empty());
        let editor = given.unwrap_or_else(|| "vi".into());
        // An editor may be given with arguments: a shell takes them apart, and the file's name stays one word.
        let script = format!("{editor} \"$1\"");
        let ended = Command::new("sh").args(["-c", &script, "sh"]).arg(&self.file).status();
        let ended = ended.with_context(|| format!("cannot start the editor {editor}"))?;
        if !ended.success() {
            bail!("the editor {editor} ended with {ended}; nothing was sent; {} is kept", self.file.display());
        }
        Ok(())
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))
    }

    fn remove(&self) {
        // What is left in the way of it is in a directory for temporary files.
        let _ = std::fs::remove_file(&self.file);
        let _ = self.file.parent().map(std::fs::remove_dir);
    }

    /// Says where the work of the user is, and why it was not sent.
    fn kept(&self, why: anyhow::Error) -> anyhow::Error {
        eprintln!("conflux: {why:#}\n  your text is kept in {}", shown(&self.file));
        let code = Failure::code_of(&why);
        Failure::Told(if code == 0 { exit::FAILED } else { code }).into()
    }
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}
