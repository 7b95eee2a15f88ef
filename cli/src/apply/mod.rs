//! `conflux apply -f dir/`: what is in a directory shall be what is released. Plan, diff, confirm; safe to repeat.

mod folder;
mod plan;
mod send;
mod shown;

use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;
use serde_json::json;

use self::plan::Plan;
use crate::{
    command::{Session, config::TenantArg},
    failure::{Failure, exit},
    output::{self, Output},
};

/// For `--help`.
pub const HELP: &str = "\
The directory holds files at app/env/name; each is the content that is released by default. Beside them, app/env/conflux.yaml may say
more of each config:

  configs:
    app.yaml:
      description: the shop        # null clears
      tags: [team-a]
      format: yaml                 # of a new version; else by the name
      schema: app.schema.json      # a file beside it; not a config itself
      retention: {max_versions: 20, max_age_days: 90}
      releases: [{labels: {}, version: 3}, {labels: {region: eu}, version: 4, priority: 10}]

What is not named stays as it is. Hidden files are left out. With `releases` the content is a new version and the rules stay
exactly as listed.

Examples:
  conflux apply -f config/                 show the plan, ask, apply
  conflux apply -f config/ --yes           for a pipeline
  conflux apply -f config/ --dry-run --detailed-exitcode
  conflux apply -f config/ --prune --yes   also delete what the directory does not have, in its environments

Exit codes: 0 nothing to do, or applied; 2 mistake in the command line or the directory; 5 changed by somebody else meanwhile: run it
again; 7 there are changes (with --dry-run --detailed-exitcode).";

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The directory
    #[arg(long, short, value_name = "DIRECTORY")]
    file: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only show the plan
    #[arg(long, alias = "plan", conflicts_with = "yes")]
    dry_run: bool,
    /// With --dry-run: exit with 7 if there are changes
    #[arg(long, requires = "dry_run")]
    detailed_exitcode: bool,
    /// Delete configs that the directory does not have, in the environments that it has
    #[arg(long)]
    prune: bool,
    /// What the changes are for
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn run(args: ApplyArgs, session: Session) -> anyhow::Result<()> {
    let wanted = folder::read(&args.file)?;
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let plan = Plan::make(&client, &tenant, wanted, args.prune).await?;
    let tell = |applied: bool, revision: &str| {
        let value = json!({"changes": plan.to_json(), "applied": applied, "revision": revision});
        if session.output == Output::Json { session.output.done("", value) } else { Ok(()) }
    };
    if session.output == Output::Table {
        output::line(shown::plan(&plan, shown::Paint::of_stdout()).trim_end())?;
    }
    if plan.is_empty() || args.dry_run {
        tell(false, "")?;
        let changes = args.detailed_exitcode && !plan.is_empty();
        return if changes { Err(Failure::Told(exit::CHANGES).into()) } else { Ok(()) };
    }
    if !args.yes && !confirmed()? {
        return Err(Failure::Usage("nothing was changed".into()).into());
    }
    let revision = send::send(&client, &tenant, &plan, args.description.as_deref()).await?;
    if session.output == Output::Table {
        output::line(&format!("applied, revision {revision}"))?;
    }
    tell(true, &revision)
}

/// A script has nobody to ask.
fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("there is nobody to ask here: add --yes to apply this plan".into()).into());
    }
    print!("Apply this? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes"))
}
