//! One process of a federation: settings, logging, and a run until it is told to stop.

use std::{path::PathBuf, pin::Pin, str::FromStr};

use anyhow::Context;
use clap::Args;
use conflux_common::{
    settings::{LogSettings, SettingsError, Validate, load_valid},
    telemetry::start_logging,
};
use conflux_gateway::GatewaySettings;
use conflux_placement::PlacementSettings;
use conflux_shard::ShardSettings;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Variables are called `CONFLUX__MEMBER__RAFT__HEARTBEAT_MS`.
const ENVIRONMENT_PREFIX: &str = "CONFLUX";

/// Resolves when the process shall stop.
pub type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a service is started.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// The settings, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A setting that wins over file and environment: raft.heartbeat_ms=200 (may be repeated)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<Override>,
    /// Only say whether the settings can be used
    #[arg(long)]
    check: bool,
    /// End when the process with this id, which has started this one, ends
    #[arg(long, hide = true, value_name = "PID")]
    die_with_parent: Option<u32>,
}

/// `raft.heartbeat_ms=200`
#[derive(Debug, Clone)]
struct Override(String, String);

impl FromStr for Override {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (key, value) = text.split_once('=').context("KEY=VALUE is expected")?;
        Ok(Self(key.into(), value.into()))
    }
}

/// The settings of a service.
pub trait Settings: DeserializeOwned + Validate {
    /// What is logged and how.
    fn log(&self) -> &LogSettings;
}

/// Runs a service until SIGTERM or SIGINT.
pub fn run<S, F>(args: ServiceArgs, serve: impl FnOnce(S, Shutdown) -> F) -> anyhow::Result<()>
where
    S: Settings,
    F: Future<Output = anyhow::Result<()>>,
{
    if let Some(parent) = args.die_with_parent {
        die_with(parent)?;
    }
    let overrides: Vec<(String, String)> = args.overrides.into_iter().map(|Override(k, v)| (k, v)).collect();
    let settings: S = load_valid(&args.config, ENVIRONMENT_PREFIX, &overrides).map_err(mistake)?;
    if args.check {
        return crate::output::line(&format!("{} can be used", args.config.display()));
    }
    start_logging(settings.log());
    crate::runtime()?.block_on(async {
        let shutdown = stop_signal()?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %args.config.display(), "starting");
        let result = serve(settings, shutdown).await;
        match result {
            Ok(()) => {
                tracing::info!("stopped");
                Ok(())
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "stopped by a failure");
                Err(Failure::Told(Failure::code_of(&error)).into())
            }
        }
    })
}

/// Every problem on a line of its own.
fn mistake(error: SettingsError) -> Failure {
    let text = match &error {
        SettingsError::Invalid { file, problems } => {
            let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("{} cannot be used:{}", file.display(), lines.concat())
        }
        other => other.to_string(),
    };
    Failure::Usage(text)
}

impl Settings for GatewaySettings {
    fn log(&self) -> &LogSettings {
        &self.log
    }
}

/// A gateway, for [`run`].
pub async fn gateway(settings: GatewaySettings, shutdown: Shutdown) -> anyhow::Result<()> {
    conflux_gateway::run(settings, crate::openapi::served()?, shutdown).await.map_err(|e| match e {
        conflux_gateway::RunError::Settings(_) => Failure::Usage(e.to_string()).into(),
        other => other.into(),
    })
}

impl Settings for PlacementSettings {
    fn log(&self) -> &LogSettings {
        &self.member.log
    }
}

impl Settings for ShardSettings {
    fn log(&self) -> &LogSettings {
        &self.member.log
    }
}

/// A member of placement, for [`run`].
pub async fn placement(settings: PlacementSettings, shutdown: Shutdown) -> anyhow::Result<()> {
    conflux_placement::run(settings, shutdown).await.map_err(|e| match e {
        conflux_placement::RunError::Settings(_) => Failure::Usage(e.to_string()).into(),
        other => other.into(),
    })
}

/// A member of a shard group, for [`run`].
pub async fn shard(settings: ShardSettings, shutdown: Shutdown) -> anyhow::Result<()> {
    conflux_shard::run(settings, shutdown).await.map_err(|e| match e {
        conflux_shard::RunError::Settings(_) => Failure::Usage(e.to_string()).into(),
        other => other.into(),
    })
}

/// The first SIGTERM or SIGINT. Handlers are in place before anything is started.
fn stop_signal() -> std::io::Result<Shutdown> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
            _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
        }
    }))
}

/// Members of a development federation must not outlive it, also when it is killed and can stop nobody.
#[cfg(target_os = "linux")]
fn die_with(parent: u32) -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("--die-with-parent")?;
    // It may have ended before the line above.
    if nix::unistd::getppid().as_raw() != parent as i32 {
        anyhow::bail!("the process {parent} that has started this one has ended");
    }
    Ok(())
}

/// Other systems have no such signal: there a killed `conflux dev` leaves its members behind.
#[cfg(not(target_os = "linux"))]
fn die_with(_parent: u32) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use conflux_common::settings::{LogSettings, Problems};
    use serde::Deserialize;

    use super::*;
    use crate::failure::exit;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Trial {
        port: u16,
        #[serde(default)]
        log: LogSettings,
    }

    impl Settings for Trial {
        fn log(&self) -> &LogSettings {
            &self.log
        }
    }

    impl Validate for Trial {
        fn validate(&self, problems: &mut Problems) {
            problems.require(self.port != 0, "port", "must not be 0");
            problems.require(self.port != 0, "second", "also wrong");
        }
    }

    fn check(file: &std::path::Path, overrides: &[&str]) -> Result<(), Failure> {
        let args = ServiceArgs {
            config: file.into(),
            overrides: overrides.iter().map(|o| o.parse().unwrap()).collect(),
            check: true,
            die_with_parent: None,
        };
        run(args, |_: Trial, _| async { Ok(()) }).map_err(|e| e.downcast().unwrap())
    }

    /// A service that starts with settings that nobody meant is worse than one that does not start.
    #[test]
    fn what_is_wrong_is_listed_by_path_and_exits_with_2() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trial.toml");
        std::fs::write(&file, "port = 1\n").unwrap();
        check(&file, &[]).unwrap();
        let failure = check(&file, &["port=0"]).unwrap_err();
        assert_eq!(failure.exit_code(), exit::USAGE);
        assert!(failure.to_string().ends_with("  port: must not be 0\n  second: also wrong"), "{failure}");
        for wrong in ["prot=1", "port=many"] {
            let failure = check(&file, &[wrong]).unwrap_err();
            assert!(failure.to_string().contains(&wrong[..4]), "{failure}");
            assert_eq!(failure.exit_code(), exit::USAGE);
        }
        assert_eq!(check(&folder.path().join("none.toml"), &[]).unwrap_err().exit_code(), exit::USAGE);
    }
}
