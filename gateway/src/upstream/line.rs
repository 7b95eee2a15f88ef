//! One h2 connection to a member, made on use and again after a loss.
//!
//! h2 itself, not hyper's client over it: that has each call pass through two more queues and a task of its own, which was a tenth
//! of what a proxied fetch cost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use conflux_common::dial::{MtlsConnector, MtlsStream};
use h2::{Ping, PingPong, client};
use http::{Request, Response, header};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::AbortHandle};

use super::incoming::Incoming;

/// A peer that does not answer a ping within this is taken for lost.
const PING_EVERY: Duration = Duration::from_secs(2);
/// See [`PING_EVERY`].
const PING_ANSWER: Duration = Duration::from_secs(3);
/// After a failed dial everyone who waits fails with it, and nobody dials again for so long.
const DIAL_PAUSE: Duration = Duration::from_millis(100);
/// Received bytes in flight: a megabyte's answer must not wait for window updates.
const WINDOW: u32 = 2 << 20;
/// Bytes of an answer's head.
const MAX_HEAD: u32 = 64 << 10;
/// A connection that takes no more calls was about to end: another one is dialled, once.
const TRIES: usize = 2;

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
    present: ArcSwapOption<Connection>,
    dialling: Semaphore,
    failed: Mutex<Option<(Instant, String)>>,
}

struct Connection {
    calls: client::SendRequest<Bytes>,
    driver: AbortHandle,
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
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Failure> {
        let failure = |kind| move |error: h2::Error| Failure { kind, message: format!("{}: {error}", self.address) };
        let mut calls = self.ready().await.map_err(|message| Failure { kind: FailureKind::NotSent, message })?;
        let (mut parts, body) = request.into_parts();
        if !body.is_empty() {
            parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let head = Request::from_parts(parts, ());
        let (answer, mut upload) = calls.send_request(head, body.is_empty()).map_err(failure(FailureKind::NotSent))?;
        if !body.is_empty() {
            upload.send_data(body, true).map_err(failure(FailureKind::Lost))?;
        }
        let answer = answer.await.map_err(failure(FailureKind::Lost))?;
        Ok(answer.map(Incoming::new))
    }

    /// A connection that takes a call.
    async fn ready(&self) -> Result<client::SendRequest<Bytes>, String> {
        let mut why = String::new();
        for _ in 0..TRIES {
            let connection = self.connection().await?;
            match connection.calls.clone().ready().await {
                Ok(calls) => return Ok(calls),
                Err(error) => why = format!("{}: {error}", self.address),
            }
            // What is under way on it goes on.
            let present = self.present.load();
            if present.as_ref().is_some_and(|present| Arc::ptr_eq(present, &connection)) {
                self.present.compare_and_swap(&present, None);
            }
        }
        Err(why)
    }

    async fn connection(&self) -> Result<Arc<Connection>, String> {
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
        match self.dial().await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                self.present.store(Some(connection.clone()));
                Ok(connection)
            }
            Err(why) => {
                *self.failed.lock() = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    fn live(&self) -> Option<Arc<Connection>> {
        self.present.load_full().filter(|connection| !connection.driver.is_finished())
    }

    async fn dial(&self) -> Result<Connection, String> {
        let stream = self.connector.connect(&self.address).await.map_err(|e| e.to_string())?;
        if !stream.is_h2() {
            return Err(format!("{} does not speak h2", self.address));
        }
        let (calls, connection) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW)
            .max_header_list_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| format!("{}: {e}", self.address))?;
        let driver = tokio::spawn(drive(connection, self.address.clone())).abort_handle();
        Ok(Connection { calls, driver })
    }
}

/// Reads and writes until the connection ends or falls silent.
async fn drive(mut connection: client::Connection<TokioIo<MtlsStream>, Bytes>, address: String) {
    let pings = connection.ping_pong();
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(address, %error, "connection lost");
        },
        why = silence(pings) => tracing::debug!(address, why, "connection given up"),
    }
}

/// Returns when a ping is not answered in time.
async fn silence(pings: Option<PingPong>) -> String {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(PING_EVERY).await;
        match tokio::time::timeout(PING_ANSWER, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("no answer to a ping within {PING_ANSWER:?}"),
        }
    }
}
