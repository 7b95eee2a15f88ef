//! A client's connection that gives out only so many bytes while the head of a request is read.
//!
//! pingora reads up to a megabyte of HTTP/1 head before it complains: with thousands of connections that is memory.

use std::{
    fmt,
    io::{Error, ErrorKind, Result},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
    http::ServerSession,
    l4::stream::Stream as TcpIo,
    raw_connect::ProxyDigest,
    tls::{SslDigest, TlsRef, TlsStream},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream under a session.
pub(super) struct Metered {
    io: TlsStream<TcpIo>,
    left: AtomicI64,
}

impl Metered {
    pub(super) fn new(io: TlsStream<TcpIo>) -> Self {
        Self { io, left: AtomicI64::new(i64::MAX) }
    }

    /// The stream of an HTTP/1 session; h2 bounds heads by itself.
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
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
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
        Shutdown::shutdown(&mut self.io).await;
    }
}

impl UniqueID for Metered {
    fn id(&self) -> UniqueIDType {
        self.io.id()
    }
}

impl Ssl for Metered {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.io.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.io.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.selected_alpn_proto()
    }
}

impl GetTimingDigest for Metered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.io.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.io.get_write_pending_time()
    }
}

impl GetProxyDigest for Metered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io.get_proxy_digest()
    }
}

impl GetSocketDigest for Metered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.get_socket_digest()
    }
}

impl Peek for Metered {}
