//! One shard member from start to stop.

use std::{io, sync::Arc, time::Duration};

use conflux_common::{
    serve::{ServeLimits, listen, serve},
    telemetry::{Readiness, serve_health},
    tls::{Admission, Peers, Role, TlsContext, TlsError},
};
use conflux_raft::{FatalError, GroupStatus, OpenError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    machine::Machine,
    ownership::{self, InvalidAddress, Ownership, Placement},
    report,
    retention::{
        archive::{Archive, ObjectArchive},
        pruning,
    },
    serve as service,
    settings::ShardSettings,
    shard::{Node, Shard, Told},
    transfer::{self, Means},
    upkeep, usage,
};

/// Connections of all gateways, placement and operators.
const MAX_CONNECTIONS: usize = 4096;
/// How often it is looked whether a quorum has been heard, until it has.
const READY_EVERY: Duration = Duration::from_millis(100);

/// Why a member stops with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings do not fit the certificate or one another.
    #[error("settings: {0}")]
    Settings(String),
    /// The certificate cannot be used.
    #[error("certificate: {0}")]
    Tls(#[from] TlsError),
    /// A port cannot be bound.
    #[error(transparent)]
    Port(#[from] io::Error),
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Storage or the state machine failed: the process must not go on.
    #[error(transparent)]
    Fatal(#[from] FatalError),
}

impl From<InvalidAddress> for RunError {
    fn from(e: InvalidAddress) -> Self {
        RunError::Settings(e.to_string())
    }
}

/// Runs the member until `shutdown` resolves: opens its state, serves, reports to placement; at the end it is no longer
/// ready, finishes what is under way, hands leadership over and closes its state.
pub async fn run(settings: ShardSettings, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), RunError> {
    let member = &settings.member;
    let tls = TlsContext::load(member.tls.clone())?;
    member.check_certificate(&tls.own_id(), Role::Shard).map_err(RunError::Settings)?;
    let placement = Placement::new(&settings.placement, &tls)?;
    let archive = settings.archive.as_ref().map(ObjectArchive::open).transpose().map_err(RunError::Settings)?;
    let archive = archive.map(|archive| Arc::new(archive) as Arc<dyn Archive>);
    let (ready, stopping) = (Readiness::default(), CancellationToken::new());
    let _stop_all = stopping.clone().drop_guard();
    // Both ports first: a process that cannot have them must not take part in consensus.
    let port = listen(member.service_listen).await?;
    let health = serve_health(member.metrics_listen, ready.clone(), stopping.clone().cancelled_owned());
    let mut health = tokio::spawn(health);

    let told = Told::default();
    let machine = Arc::new(Machine::new(Arc::new(told.clone())));
    let node = Node::open(member.clone(), Role::Shard, tls.clone(), machine).await?;
    let ownership = Ownership::new(node.clone(), placement.clone(), member.group.clone(), member.member.clone());
    let shard = Shard::new(node.clone(), told, ownership, stopping.clone());
    if let Some(archive) = &archive {
        // It was made just now: there is none yet.
        let _ = shard.archive.set(archive.clone());
    }
    let means = Means { tls: tls.clone(), bytes_per_second: settings.import_bytes_per_second };

    let admission = Admission {
        cluster: member.cluster.clone(),
        allowed: [Role::Gateway, Role::Placement, Role::Shard, Role::Operator].map(Peers::Role).to_vec(),
    };
    let limits = ServeLimits { max_connections: MAX_CONNECTIONS, ..Default::default() };
    let router = service::router(shard.clone());
    let serving = tokio::spawn(serve(port, tls, admission, limits, router, stopping.clone().cancelled_owned()));
    let own = report::Own { group: member.group.clone(), weight: settings.weight, node: node.clone() };
    let reports = report::run(own, placement, stopping.clone());
    let tasks: [JoinHandle<()>; 7] = [
        tokio::spawn(reports),
        tokio::spawn(usage::run(shard.clone())),
        tokio::spawn(pruning::run(shard.clone(), archive)),
        tokio::spawn(transfer::run(shard.clone(), means)),
        tokio::spawn(ownership::restored::run(shard.clone())),
        tokio::spawn(upkeep::run(shard.clone())),
        tokio::spawn(watch_readiness(node.clone(), ready.clone(), stopping.clone())),
    ];
    tracing::info!(group = %member.group, member = %member.member, listen = %member.service_listen, "serving");

    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        failure = node.failed() => Err(RunError::Fatal(failure)),
        ended = &mut health => Err(health_failure(ended)),
    };
    ready.set(false);
    stopping.cancel();
    if outcome.is_ok() {
        // Bounded by the port's own drain.
        let _ = serving.await;
    }
    for task in tasks {
        task.abort();
    }
    node.shutdown().await;
    shard.transit.detach();
    outcome
}

fn health_failure(ended: Result<io::Result<()>, tokio::task::JoinError>) -> RunError {
    match ended {
        Ok(Err(e)) => RunError::Port(e),
        Ok(Ok(())) => RunError::Port(io::Error::other("the health port ended by itself")),
        Err(e) => RunError::Port(io::Error::other(e)),
    }
}

/// Ready: a member of the group that knows its leader and has heard from a quorum since its start.
async fn watch_readiness(node: Node, ready: Readiness, stopping: CancellationToken) {
    let mut status = node.status();
    loop {
        let led = is_led(&status.borrow_and_update());
        let heard = node.freshness().age != Duration::MAX;
        ready.set(led && heard && !stopping.is_cancelled());
        // Having heard from a quorum wakes nobody.
        let again = if led && !heard { READY_EVERY } else { Duration::from_secs(1) };
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = tokio::time::timeout(again, status.changed()) => if let Ok(Err(_)) = changed { return },
        }
    }
}

fn is_led(status: &GroupStatus) -> bool {
    matches!(status.state, "leader" | "follower" | "learner") && status.leader.is_some()
}
