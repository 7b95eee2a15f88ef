//! Bytes on a TLS connection to the gateway, for requests that no well-behaved client would send.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A TLS connection that speaks HTTP/1.1.
pub type Tls = tokio_rustls::client::TlsStream<TcpStream>;

pub async fn connect(url: &str, ca: &Path) -> Result<Tls> {
    let address = url.strip_prefix("https://").context("an https URL")?;
    let tcp = TcpStream::connect(address).await?;
    let mut config = crate::client::tls_config(ca);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Ok(connector.connect("localhost".try_into()?, tcp).await?)
}

/// Sends the bytes and reads one answer: its status and everything up to `Content-Length` or the end.
pub async fn exchange(url: &str, ca: &Path, request: &[u8]) -> Result<(u16, String)> {
    let mut tls = connect(url, ca).await?;
    // The server may answer and close before it has read all.
    let _ = tls.write_all(request).await;
    let text = read_answer(&mut tls).await?;
    let status =
        text.split(' ').nth(1).and_then(|s| s.parse().ok()).with_context(|| format!("a status in {text:?}"))?;
    Ok((status, text))
}

async fn read_answer(tls: &mut Tls) -> Result<String> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = match tokio::time::timeout(Duration::from_secs(60), tls.read(&mut chunk)).await? {
            Ok(0) | Err(_) => break,
            Ok(n) => n,
        };
        text.extend_from_slice(&chunk[..n]);
        let seen = String::from_utf8_lossy(&text);
        if let Some((head, body)) = seen.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| {
                let (name, value) = l.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if length.is_some_and(|l| body.len() >= l) {
                break;
            }
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
