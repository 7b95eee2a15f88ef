//! Links between processes that a test can harm. Nothing of it is in a release build.
//!
//! `CONFLUX_DETOUR` names the `host:port` of a relay. Every connection to another process then goes through it: the first
//! line says who dials (its process id) and where to. `conflux-chaos` is that relay: it cuts, delays and thins out each
//! direction of each link by itself, without any right that a user does not have.

use std::io;

use crate::net::TcpStream;

/// The environment variable with the relay's address.
pub const VARIABLE: &str = "CONFLUX_DETOUR";

/// A connection to this `host:port`.
pub(crate) async fn connect(address: &str) -> io::Result<TcpStream> {
    #[cfg(debug_assertions)]
    if let Some(relay) = set::relay() {
        return set::connect(relay, address).await;
    }
    TcpStream::connect(address).await
}

#[cfg(debug_assertions)]
mod set {
    use std::sync::LazyLock;

    use tokio::io::AsyncWriteExt;

    use super::{TcpStream, io};

    static RELAY: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(super::VARIABLE).ok());

    pub(super) fn relay() -> Option<&'static str> {
        RELAY.as_deref()
    }

    pub(super) async fn connect(relay: &str, address: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(relay).await?;
        stream.write_all(format!("{} {address}\n", std::process::id()).as_bytes()).await?;
        Ok(stream)
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;

    /// The relay must learn who wants to go where, and then be out of the way.
    #[tokio::test]
    async fn the_first_line_says_who_and_where_to() {
        let relay = crate::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap().to_string();
        let dialled = tokio::spawn(async move { set::connect(&address, "localhost:7001").await });
        let (stream, _) = relay.accept().await.unwrap();
        let mut dialler = dialled.await.unwrap().unwrap();
        dialler.write_all(b"hello\n").await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        assert_eq!(first, format!("{} localhost:7001", std::process::id()));
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "hello");
    }
}
