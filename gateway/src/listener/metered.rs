//! A client's HTTP/1.1 connection that gives out only so many bytes while the head of a request is read, and sends head and body of a
//! small answer together.
//!
//! pingora reads up to a megabyte of HTTP/1 head before it complains: with thousands of connections that is memory. And it writes
//! the head of an answer, then its body, then flushes: each write would be a TLS record of its own, and each but small ones a
//! call into the kernel.

use std::{
    fmt,
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType, http::ServerSession, l4::socket::SocketAddr as PingoraAddr, raw_connect::ProxyDigest,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// At most so many bytes wait for the flush: what fits into one TLS record.
const HELD: usize = 16 * 1024;

/// The stream under a session.
pub(super) struct Metered {
    io: TlsStream<TcpStream>,
    digest: Arc<SocketDigest>,
    left: AtomicI64,
    held: Held,
}

/// What was written and not yet given on. Empty, it has no memory: most connections are idle.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// So many of them have been given on.
    given: usize,
}

impl Held {
    /// Keeps these bytes too, if there is room.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let room = self.bytes.len() + bytes.len() <= HELD;
        if room {
            self.bytes.extend_from_slice(bytes);
        }
        room
    }

    /// Gives all of it on.
    fn poll_give(&mut self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.given < self.bytes.len() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.given..]))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                n => self.given += n,
            }
        }
        *self = Self::default();
        Poll::Ready(Ok(()))
    }
}

impl Metered {
    pub(super) fn new(io: TlsStream<TcpStream>, peer: Option<SocketAddr>) -> Self {
        // Sessions know from it where requests come from.
        let digest = SocketDigest::from_raw_fd(io.get_ref().0.as_raw_fd());
        let _ = digest.peer_addr.set(peer.map(PingoraAddr::Inet));
        Self { io, digest: Arc::new(digest), left: AtomicI64::new(i64::MAX), held: Held::default() }
    }

    /// The stream of a session.
    pub(super) fn of(session: &ServerSession) -> Option<&Self> {
        session.stream().and_then(|stream| (**stream).as_any().downcast_ref())
    }

    /// At most so many bytes from now on.
    pub(super) fn allow(&self, bytes: i64) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// No bound from now on.
    pub(super) fn allow_all(&self) {
        self.allow(i64::MAX);
    }

    /// Whether the bound was met.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left.load(Ordering::Relaxed) <= 0
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let left = self.left.load(Ordering::Relaxed);
        if left <= 0 {
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "the head of the request is too large")));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if left != i64::MAX {
            let got = i64::try_from(buf.filled().len() - before).unwrap_or(i64::MAX);
            self.left.store(left.saturating_sub(got), Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let Self { io, held, .. } = &mut *self;
        if held.take(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(held.poll_give(io, cx))?;
        Pin::new(io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { io, held, .. } = &mut *self;
        ready!(held.poll_give(io, cx))?;
        Pin::new(io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { io, held, .. } = &mut *self;
        ready!(held.poll_give(io, cx))?;
        Pin::new(io).poll_shutdown(cx)
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered").finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Metered {
    async fn shutdown(&mut self) {
        let Self { io, held, .. } = self;
        // Who has gone gets nothing any more.
        let _ = std::future::poll_fn(|cx| held.poll_give(io, cx)).await;
        let _ = io.shutdown().await;
    }
}

impl UniqueID for Metered {
    fn id(&self) -> UniqueIDType {
        self.io.get_ref().0.as_raw_fd()
    }
}

/// Nobody asks: what TLS agreed on was looked at before.
impl Ssl for Metered {}

impl GetTimingDigest for Metered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Metered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Metered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}

impl Peek for Metered {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and remembers how often it was called.
    #[derive(Default)]
    struct Narrow {
        got: Vec<u8>,
        calls: usize,
        most: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
            let n = buf.len().min(self.most);
            self.got.extend_from_slice(&buf[..n]);
            self.calls += 1;
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Head and body of an answer are one write, and nothing is lost where the connection takes less.
    #[test]
    fn what_is_held_is_given_on_whole_and_once() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for (most, calls) in [(usize::MAX, 1), (3, 3)] {
            let (mut held, mut io) = (Held::default(), Narrow { most, ..Narrow::default() });
            assert!(held.take(b"head ") && held.take(b"body"));
            assert!(!held.take(&[0; HELD]), "a large body is not copied");
            assert!(held.poll_give(&mut io, &mut cx).is_ready());
            assert_eq!((&io.got[..], io.calls), (&b"head body"[..], calls));
            assert!(held.poll_give(&mut io, &mut cx).is_ready());
            assert_eq!(io.got, b"head body");
            assert_eq!(held.bytes.capacity(), 0, "an idle connection holds nothing");
        }
        let (mut held, mut io) = (Held::default(), Narrow::default());
        assert!(held.take(b"x"));
        assert!(
            matches!(held.poll_give(&mut io, &mut cx), Poll::Ready(Err(_))),
            "a connection that takes nothing is closed"
        );
    }
}
