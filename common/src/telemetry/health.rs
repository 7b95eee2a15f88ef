//! Whether the process lives and may be sent requests, and its metrics, over plain HTTP.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use super::process;
use crate::net::{TcpListener, TcpStream};

/// Probes and scrapers are few.
const MAX_CONNECTIONS: usize = 64;
/// To send a request's headers, and between two requests of one connection.
const HEADERS: Duration = Duration::from_secs(10);
/// Answers are short; nobody waits longer for the end.
const DRAIN: Duration = Duration::from_secs(1);
/// Recorded values are kept raw until they are folded into buckets: this bounds them while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
/// After an accept failed (out of file descriptors, mostly).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Seconds; for every histogram whose name ends with `_seconds`.
const LATENCY_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Whether the process may be sent requests; shared with what knows.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<watch::Sender<bool>>);

impl Readiness {
    /// Says whether the process may be sent requests.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// Whether the process may be sent requests.
    pub fn get(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the process may be sent requests.
    pub async fn reached(&self) {
        // The sender is in `self`: it cannot be gone.
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }
}

/// Starts recording metrics; a second call gives the same recorder. [`start_logging`](super::start_logging) and
/// [`serve_health`] do it too; call it before metrics are registered, since handles made earlier record nothing.
pub fn install_metrics() -> io::Result<PrometheusHandle> {
    static RECORDER: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let recorder = RECORDER.get_or_init(|| {
        process::start();
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), LATENCY_BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| format!("the metrics recorder cannot be installed: {error}"))
    });
    recorder.clone().map_err(io::Error::other)
}

/// Installs the metrics recorder and serves `/healthz` (`/health`, `/live`), `/readyz` (`/ready`) and `/metrics` over
/// plain HTTP until `shutdown` resolves. Fails at once if the address cannot be bound.
pub async fn serve_health(
    listen: SocketAddr,
    ready: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    if !listen.ip().is_loopback() {
        tracing::warn!(%listen, "health and metrics are served to the network without encryption");
    }
    serve_health_on(crate::serve::listen(listen).await?, ready, shutdown).await
}

/// As [`serve_health`], on a socket that is bound already.
pub async fn serve_health_on(
    listener: TcpListener,
    ready: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let recorder = install_metrics()?;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    loop {
        let accept = async {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?.0, slot))
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            _ = upkeep.tick() => {
                recorder.run_upkeep();
                continue;
            },
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                let serving = connection(stream, ready.clone(), recorder.clone(), &graceful);
                tokio::spawn(async move {
                    serving.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection for health or metrics");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    // A scraper that does not end is not waited for.
    let _ = timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

fn connection(
    stream: TcpStream,
    ready: Readiness,
    recorder: PrometheusHandle,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + 'static {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &ready, &recorder);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let serving = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
    async move {
        if let Err(error) = serving.await {
            tracing::debug!(%error, "a connection for health or metrics ended with an error");
        }
    }
}

fn answer(method: &Method, path: &str, ready: &Readiness, recorder: &PrometheusHandle) -> Response<Full<Bytes>> {
    let (status, kind, body) = match path {
        _ if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into())
        }
        "/healthz" | "/health" | "/live" => (StatusCode::OK, TEXT, "live\n".into()),
        "/readyz" | "/ready" if ready.get() => (StatusCode::OK, TEXT, "ready\n".into()),
        "/readyz" | "/ready" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n".into()),
        "/metrics" => {
            process::refresh();
            (StatusCode::OK, PROMETHEUS, recorder.render())
        }
        _ => (StatusCode::NOT_FOUND, TEXT, "try /healthz, /readyz or /metrics\n".into()),
    };
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    use tokio::sync::oneshot;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(format!("http://{address}{path}").parse().unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// What a probe and a scraper see while a process starts, serves and stops.
    #[tokio::test]
    async fn probes_and_scrapes_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ready = Readiness::default();
        let shutdown = async move { drop(stopped.await) };
        let serving = tokio::spawn(serve_health_on(listener, ready.clone(), shutdown));
        for path in ["/healthz", "/health", "/live"] {
            assert_eq!(get(address, path).await.0, 200, "{path}");
        }
        assert_eq!(get(address, "/readyz").await.0, 503);
        ready.set(true);
        assert_eq!(get(address, "/readyz").await, (200, "ready\n".into()));
        ready.set(false);
        assert_eq!(get(address, "/ready").await.0, 503);
        assert_eq!(get(address, "/secret").await.0, 404);
        metrics::counter!("conflux_test_total").increment(3);
        metrics::histogram!("conflux_test_seconds").record(0.02);
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        for line in ["conflux_test_total 3", "conflux_test_seconds_bucket{le=\"0.025\"} 1", "process_threads "] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(stop);
        serving.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    }

    /// A port that is taken is an error that names it, not a process without health.
    #[tokio::test]
    async fn a_taken_port_is_said() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = serve_health(address, Readiness::default(), async {}).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
