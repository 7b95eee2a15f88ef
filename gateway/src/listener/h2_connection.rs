//! One h2 connection of a client: its streams in, an answer for each.
//!
//! h2 itself, not pingora's sessions over it: those copy the heads both ways and have a task for each stream, which was a third of
//! what a fetch from memory cost. Here a request is first answered on the connection's own turn; only what has to wait gets a task.

use std::{net::SocketAddr, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use pingora::server::ShutdownWatch;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, timeout},
};

use super::{ListenerLimits, Service};
use crate::session_adapter::stream;

/// Bytes of a head, decoded.
const MAX_HEAD: u32 = 64 << 10;
/// What one stream may send before a service reads it, and what one connection may.
const WINDOWS: (u32, u32) = (256 << 10, 1 << 20);
/// Streams that are opened and reset at once (rapid reset), that we had to reset, and that are reset and not forgotten yet.
const RESETS: (usize, usize, usize) = (64, 256, 32);

/// A client has so long to hear that it was silent for too long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until the client leaves, is silent for too long with nothing to answer, or the gateway stops and all is answered.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send,
    client: Option<SocketAddr>,
    service: &Arc<dyn Service>,
    limits: &ListenerLimits,
    mut shutdown: ShutdownWatch,
) {
    let mut options = h2::server::Builder::new();
    options
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_streams(limits.max_streams)
        .initial_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_pending_accept_reset_streams(RESETS.0)
        .max_local_error_reset_streams(Some(RESETS.1))
        .max_concurrent_reset_streams(RESETS.2);
    let mut connection = match timeout(limits.handshake, options.handshake::<_, Bytes>(io)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(?client, %error, "no h2"),
        Err(_) => return tracing::debug!(?client, "h2 began too slowly"),
    };
    let mut idle = pin!(sleep(limits.head));
    // Also when nobody is left who could say it.
    let mut stop = pin!(async move { drop(shutdown.wait_for(|stop| *stop).await) });
    let (mut last, mut stopping) = (Instant::now(), false);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop, if !stopping => {
                connection.graceful_shutdown();
                stopping = true;
                continue;
            }
            accepted = connection.accept() => accepted,
            () = &mut idle => {
                let now = Instant::now();
                // Until the last byte of its answer is sent.
                if connection.has_streams() {
                    last = now;
                }
                let until = last + limits.head;
                if until > now {
                    idle.as_mut().reset(until.min(now + limits.head / 2));
                    continue;
                }
                if stopping {
                    return;
                }
                // What comes meanwhile is answered yet.
                connection.graceful_shutdown();
                stopping = true;
                idle.as_mut().reset(now + LAST_WORDS);
                continue;
            }
        };
        let (request, respond) = match accepted {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return tracing::debug!(?client, %error, "h2 connection lost"),
            None => return,
        };
        last = Instant::now();
        // A panic ends its stream, and is in the log; the others on this connection go on.
        let answering = AssertUnwindSafe(stream::answer(request, respond, client, service.clone())).catch_unwind();
        let mut answering = Box::pin(answering);
        if futures::poll!(answering.as_mut()).is_pending() {
            tokio::spawn(async move { drop(answering.await) });
        }
    }
}
