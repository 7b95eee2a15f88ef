//! A gateway's life: what is started in which order, and how it ends.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    ids::{GroupName, InvalidName},
    serve,
    settings::{Problem, Validate},
    telemetry::{Readiness, serve_health},
    tls::{Admission, Peers, Role, TlsContext, TlsError},
};
use tokio::{net::TcpListener, sync::watch as signal, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    authenticate::{Authenticator, Jwks},
    budget::Budget,
    client_tls::{self, ClientTlsError},
    directory::Directory,
    document::Document,
    door::Door,
    edge::Edge,
    lanes::unary::Unary,
    listener::{self, ListenerLimits},
    mirror::Mirror,
    operator::{Operator, OperatorPort},
    placement::Lookup,
    refused::{AuditSink, JsonLines},
    routes::{Group, Member, Routes},
    self_service::SelfService,
    settings::GatewaySettings,
    threads::Threads,
    upstream::{PLACEMENT, Upstream},
    usage::{Reporter, Usage},
    watch,
};

/// Between saying "not ready" and closing the port, for load balancers to notice.
const NOTICE: Duration = Duration::from_millis(500);

/// Why a gateway did not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Each problem with the path of its field.
    #[error("the settings are not usable: {}", .0.iter().map(|p| p.to_string()).collect::<Vec<_>>().join("; "))]
    Settings(Vec<Problem>),
    /// The certificate inside the federation.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate that clients see.
    #[error(transparent)]
    ClientTls(#[from] ClientTlsError),
    /// The certificate names another process than the settings.
    #[error("tls.cert is of {certificate}, the settings say gateway {member} of {cluster}")]
    WrongCertificate {
        /// Of the certificate.
        certificate: String,
        /// Of the settings.
        member: String,
        /// Of the settings.
        cluster: String,
    },
    /// A port is taken, most likely; or there is no room for a thread.
    #[error(transparent)]
    Listen(#[from] std::io::Error),
    /// Cannot happen with our own descriptors.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Cannot happen with our own words.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// How tokens are checked.
    #[error("jwt: {0}")]
    Jwt(String),
    /// Where refused attempts are written.
    #[error("refused.file: {0}")]
    Refused(std::io::Error),
}

/// Runs a gateway until `shutdown` resolves, then drains: readiness off, no new connections, GOAWAY, what is in flight
/// ends (ten seconds at most). `document` describes the API; a gateway knows only its own part of it.
pub async fn run(
    settings: GatewaySettings,
    document: Document,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let problems = settings.problems();
    if !problems.is_empty() {
        return Err(RunError::Settings(problems));
    }
    // pingora's rustls looks for a process-wide provider; a second install is no error worth telling.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = TlsContext::load(settings.tls.clone())?;
    check_own(&settings, &tls)?;
    let client_tls = client_tls::load(&settings.client_tls)?;
    let parts = Parts::build(&settings, document, tls.clone()).await?;

    let (stop, stopping) = signal::channel(false);
    let mut background = JoinSet::new();
    let ended = |mut stopping: signal::Receiver<bool>| async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    background.spawn(client_tls::follow(settings.client_tls.clone(), client_tls.clone()));
    background.spawn(parts.mirror.run());
    background.spawn(parts.reporter.run());
    if let Some(tokens) = parts.tokens {
        background.spawn(tokens.follow());
    }
    background.spawn(tell_health(parts.door.self_service.clone(), parts.door.ready.clone()));
    let health = serve_health(settings.metrics_listen, parts.door.ready.clone(), ended(stopping.clone()));
    let health = tokio::spawn(health);

    let clients = serve::listen(settings.listen).await?;
    let mut ports = JoinSet::new();
    let (door, threads) = (parts.door.clone(), parts.threads.clone());
    ports.spawn(listener::serve(clients, client_tls, parts.limits, door, threads, stopping.clone()));
    if let Some(operator) = &settings.operator {
        let socket = serve::listen(operator.listen).await?;
        let refusals = parts.door.refusals.clone();
        // Also where an admin key alone does (then the door takes it): the certificate is the first credential there is.
        ports.spawn(operator_port(socket, tls, &settings, parts.operator, refusals, ended(stopping.clone())));
    }
    tracing::info!(listen = %settings.listen, member = %settings.member, "the gateway is up");

    shutdown.await;
    tracing::info!("shutting down");
    parts.door.ready.set(false);
    tokio::time::sleep(NOTICE).await;
    parts.draining.cancel();
    stop.send_replace(true);
    while ports.join_next().await.is_some() {}
    background.shutdown().await;
    match health.await {
        Ok(served) => served?,
        Err(error) => tracing::warn!(%error, "the metrics port ended badly"),
    }
    // The lines of the last requests are written before this one.
    tracing::info!("the gateway has ended");
    Ok(())
}

fn check_own(settings: &GatewaySettings, tls: &TlsContext) -> Result<(), RunError> {
    let own = tls.own_id();
    if own.role == Role::Gateway && own.cluster == settings.cluster && own.member == settings.member {
        return Ok(());
    }
    Err(RunError::WrongCertificate {
        certificate: own.to_string(),
        member: settings.member.to_string(),
        cluster: settings.cluster.to_string(),
    })
}

/// What a gateway is made of.
pub(crate) struct Parts {
    pub(crate) door: Arc<Door>,
    pub(crate) mirror: Mirror,
    pub(crate) reporter: Reporter,
    pub(crate) operator: Arc<Operator>,
    tokens: Option<Arc<Jwks>>,
    pub(crate) limits: ListenerLimits,
    pub(crate) threads: Arc<Threads>,
    draining: CancellationToken,
}

impl Parts {
    pub(crate) async fn build(
        settings: &GatewaySettings,
        document: Document,
        tls: TlsContext,
    ) -> Result<Self, RunError> {
        let placement = GroupName::new(PLACEMENT)?;
        let routes = Routes::default();
        routes.change(|table| table.add_group(placement_group(settings, &placement)));
        let directory = Directory::new(settings.identity_grace());
        let threads = Arc::new(Threads::start()?);
        let upstream = Upstream::new(tls, settings.cluster.clone(), routes.clone(), threads.number());
        let lookup = Arc::new(Lookup::new(routes.clone(), upstream.clone(), placement.clone()));
        let unary = Arc::new(Unary::new(upstream.clone(), routes.clone(), lookup.clone()));
        let patience = Duration::from_millis(settings.limits.deadline_ms);
        let operator = Arc::new(Operator::new(unary.clone(), routes.clone(), placement.clone(), patience));
        let draining = CancellationToken::new();
        let handles = watch::Handles {
            cluster: settings.cluster.clone(),
            routes: routes.clone(),
            upstream: upstream.clone(),
            directory: directory.clone(),
            draining: draining.clone(),
        };
        let watches = watch::Lane::with_settings(handles, settings.watch.clone());
        let edge = Edge::new(settings.edge.clone(), watches.clone(), upstream.clone());
        let refusals = settings.refused.clone().map(JsonLines::open).transpose().map_err(RunError::Refused)?;
        let refusals = refusals.map(|sink| Arc::new(sink) as Arc<dyn AuditSink>);
        let by_key_alone = settings.operator.as_ref().is_some_and(|o| o.allow_admin_key);
        let tokens = settings.jwt.clone().map(Jwks::new).transpose().map_err(RunError::Jwt)?;
        let ready = Readiness::default();
        let usage = Arc::new(Usage::default());
        let every = Duration::from_secs(settings.use_report_s);
        let reporter = Reporter::new(usage.clone(), routes.clone(), upstream.clone(), every);
        let door = Arc::new(Door {
            authenticator: Authenticator::new(directory.clone(), tokens.clone()),
            lookup,
            unary,
            edge,
            watches,
            document,
            self_service: SelfService::new().await?,
            operator: by_key_alone.then(|| operator.clone()),
            usage,
            budget: Budget::new(settings.limits.bodies_bytes),
            limits: settings.limits.clone(),
            ready: ready.clone(),
            refusals: refusals.clone(),
        });
        let mirror = Mirror::new(routes, directory, upstream, placement, ready);
        Ok(Self { door, mirror, reporter, operator, tokens, limits: listener_limits(settings), threads, draining })
    }
}

fn placement_group(settings: &GatewaySettings, name: &GroupName) -> Group {
    let member = |p: &conflux_common::settings::PlacementAddress| Member {
        node_id: 0,
        name: p.member.clone(),
        address: p.address.clone(),
    };
    Group { name: name.clone(), log_index: 0, term: 0, members: settings.placement.iter().map(member).collect() }
}

fn listener_limits(settings: &GatewaySettings) -> ListenerLimits {
    ListenerLimits {
        max_connections: settings.limits.max_connections,
        max_streams: settings.limits.max_streams,
        head: Duration::from_secs(settings.limits.idle_s),
        ..ListenerLimits::default()
    }
}

/// The operators' port, which asks for certificates.
pub(crate) fn operator_port(
    socket: TcpListener,
    tls: TlsContext,
    settings: &GatewaySettings,
    operator: Arc<Operator>,
    refusals: Option<Arc<dyn AuditSink>>,
    ended: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let admission = Admission { cluster: settings.cluster.clone(), allowed: vec![Peers::Role(Role::Operator)] };
    let port = OperatorPort::new(operator, settings.limits.rest_body_bytes, refusals);
    async move { serve::serve(socket, tls, admission, serve::ServeLimits::default(), port.router(), ended).await }
}

/// Keeps gRPC health in step with readiness.
async fn tell_health(health: SelfService, ready: Readiness) {
    let mut told = false;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tick.tick().await;
        if ready.get() != told {
            told = ready.get();
            health.set_serving(told).await;
        }
    }
}
