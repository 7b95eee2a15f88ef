//! One connection with its watchers.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use super::{deliveries::Deliveries, transport::Transport};
use crate::connection::{Answer, Body, Connection, Endpoint};

/// A watch must say something within this.
const FIRST_WORD: Duration = Duration::from_secs(30);

/// Connections from one address of this machine.
const OF_AN_ADDRESS: u32 = 10_000;

/// Makes the request of a watch.
pub type Asking<'a> = &'a (dyn Fn() -> Request<Body> + Sync);

/// Dropping it ends the watchers.
#[derive(Default)]
pub struct Watchers(pub Vec<JoinHandle<()>>);

impl Drop for Watchers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// 127.0.1.1 and on: ports of one address would run out, since closed ones rest for a minute.
fn source() -> Ipv4Addr {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    let turn = OPENED.fetch_add(1, Ordering::Relaxed) / OF_AN_ADDRESS;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + turn)
}

/// Opens so many watches on one new connection, and returns once the first bytes of each have come: from then on they miss nothing.
pub async fn open(
    transport: Transport,
    endpoint: &Endpoint,
    asking: Asking<'_>,
    count: usize,
    deliveries: &Arc<Deliveries>,
) -> Result<Vec<JoinHandle<()>>> {
    let connection = Arc::new(endpoint.connect_from(source()).await?);
    // Side by side: the first word of each takes half a second.
    let opening = (0..count).map(|_| open_one(transport, Arc::clone(&connection), asking, deliveries));
    futures::future::try_join_all(opening).await
}

async fn open_one(
    transport: Transport,
    connection: Arc<Connection>,
    asking: Asking<'_>,
    deliveries: &Arc<Deliveries>,
) -> Result<JoinHandle<()>> {
    let answer = connection.open(asking()).await?;
    if !answer.status().is_success() {
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        bail!("status {status}: {}", String::from_utf8_lossy(&text[..text.len().min(300)]));
    }
    let mut body = answer.into_body();
    let first = tokio::time::timeout(FIRST_WORD, piece(&mut body)).await.context("its first word")??;
    let buffer = BytesMut::from(first.context("a watch ended at once")?);
    let deliveries = Arc::clone(deliveries);
    Ok(tokio::spawn(async move {
        let outcome = follow(transport, connection, body, buffer, &deliveries).await;
        ended(transport, &deliveries, outcome);
    }))
}

/// The same over a WebSocket, which has a connection of its own.
pub async fn open_websocket(
    endpoint: &Endpoint,
    request: Request<()>,
    deliveries: &Arc<Deliveries>,
) -> Result<JoinHandle<()>> {
    let transport = Transport::WebSocket;
    let stream = endpoint.stream(source()).await?;
    // The default is 128 KiB for each watcher.
    let small = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(small)).await?;
    let first = tokio::time::timeout(FIRST_WORD, socket.next()).await.context("its first word")?;
    first.context("a watch ended at once")??;
    let deliveries = Arc::clone(deliveries);
    Ok(tokio::spawn(async move {
        let outcome = async {
            while let Some(message) = socket.next().await {
                // Pings are answered by the library; a closing frame is followed by the end.
                if let Message::Text(text) = message? {
                    let mut frame = BytesMut::from(text.as_str());
                    transport.revisions(&mut frame)?.into_iter().for_each(|r| deliveries.note(r));
                }
            }
            bail!("the server ended it")
        };
        ended(transport, &deliveries, outcome.await);
    }))
}

fn ended(transport: Transport, deliveries: &Deliveries, outcome: Result<()>) {
    if let Err(error) = outcome
        && deliveries.note_end()
    {
        eprintln!("  a watch over {} ended: {error:#}", transport.name());
    }
}

async fn piece(body: &mut Answer) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn follow(
    transport: Transport,
    _open: Arc<Connection>,
    mut body: Answer,
    mut buffer: BytesMut,
    deliveries: &Deliveries,
) -> Result<()> {
    loop {
        transport.revisions(&mut buffer)?.into_iter().for_each(|r| deliveries.note(r));
        match piece(&mut body).await? {
            Some(data) => buffer.extend_from_slice(&data),
            None => bail!("the server ended it"),
        }
    }
}
