//! One h2 connection to a member, made on use and again after a loss.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use conflux_common::dial::MtlsConnector;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// A peer that does not answer a ping within this is taken for lost.
const PING_EVERY: Duration = Duration::from_secs(2);
/// See [`PING_EVERY`].
const PING_ANSWER: Duration = Duration::from_secs(3);
/// After a failed dial everyone who waits fails with it, and nobody dials again for so long.
const DIAL_PAUSE: Duration = Duration::from_millis(100);
/// Received bytes in flight: a megabyte's answer must not wait for window updates.
const WINDOW: u32 = 2 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whether the member can have seen the call.
    pub kind: FailureKind,
    /// For logs.
    pub message: String,
}

/// Whether the member can have seen the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It never left this process.
    NotSent,
    /// It may have arrived and taken effect.
    Lost,
}

pub(super) struct Line {
    connector: MtlsConnector,
    address: String,
    present: ArcSwapOption<http2::SendRequest<Full<Bytes>>>,
    dialling: Semaphore,
    failed: Mutex<Option<(Instant, String)>>,
}

impl Line {
    pub(super) fn new(connector: MtlsConnector, address: String) -> Self {
        Self {
            connector,
            address,
            present: ArcSwapOption::empty(),
            dialling: Semaphore::new(1),
            failed: Mutex::new(None),
        }
    }

    /// Sends a call and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let mut connection =
            self.connection().await.map_err(|message| Failure { kind: FailureKind::NotSent, message })?;
        connection.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            let kind = if unsent { FailureKind::NotSent } else { FailureKind::Lost };
            Failure { kind, message: format!("{}: {}", self.address, chain(error.error())) }
        })
    }

    async fn connection(&self) -> Result<http2::SendRequest<Full<Bytes>>, String> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        // One dials, the others wait for what comes of it.
        let _turn = self.dialling.acquire().await.map_err(|e| e.to_string())?;
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if let Some((at, why)) = &*self.failed.lock()
            && at.elapsed() < DIAL_PAUSE
        {
            return Err(why.clone());
        }
        let dialled = self.dial().await;
        match &dialled {
            Ok(connection) => self.present.store(Some(Arc::new(connection.clone()))),
            Err(why) => *self.failed.lock() = Some((Instant::now(), why.clone())),
        }
        dialled
    }

    fn live(&self) -> Option<http2::SendRequest<Full<Bytes>>> {
        self.present.load().as_ref().filter(|c| !c.is_closed()).map(|c| (**c).clone())
    }

    async fn dial(&self) -> Result<http2::SendRequest<Full<Bytes>>, String> {
        let stream = self.connector.connect(&self.address).await.map_err(|e| e.to_string())?;
        if !stream.is_h2() {
            return Err(format!("{} does not speak h2", self.address));
        }
        let (connection, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW)
            .handshake(stream)
            .await
            .map_err(|e| format!("{}: {}", self.address, chain(&e)))?;
        let address = self.address.clone();
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(address, error = chain(&error), "connection lost");
            }
        });
        Ok(connection)
    }
}

/// The error with its causes: hyper's own words are only "connection error".
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
