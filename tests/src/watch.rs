//! Watchers over the three transports. Each collects `(revision, type, name)` and can resume where it was.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use conflux_proto::v1;
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::client::Client;

/// What a watcher saw, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub revision: u64,
    pub kind: String,
    pub name: String,
}

/// Which transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Sse,
    WebSocket,
    Grpc,
}

impl Transport {
    pub const ALL: [Transport; 3] = [Transport::Sse, Transport::WebSocket, Transport::Grpc];
}

/// Follows one tenant until it is dropped, and resumes by token whenever its stream ends.
pub struct Watcher {
    pub transport: Transport,
    seen: Arc<Mutex<Vec<Seen>>>,
    resumed: Arc<std::sync::atomic::AtomicU64>,
    ends: Arc<Mutex<Vec<String>>>,
    reins: Reins,
    task: JoinHandle<()>,
}

/// Makes a watcher slow, and ends its stream. Clones hold the same watcher.
#[derive(Debug, Clone)]
pub struct Reins {
    held: Arc<tokio::sync::watch::Sender<bool>>,
    cut: Arc<tokio::sync::Notify>,
}

impl Reins {
    fn new() -> Self {
        Self { held: Arc::new(tokio::sync::watch::Sender::new(false)), cut: Arc::default() }
    }

    /// While it is held it reads nothing.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Its stream breaks off, and it resumes.
    pub fn cut(&self) {
        self.cut.notify_waiters();
    }

    async fn free(&self) {
        // The sender lives as long as this.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Starts after revision `from` (`<incarnation>.<revision>`); returns once the first stream is open.
    pub async fn start(client: &Client, ca: &std::path::Path, tenant: &str, transport: Transport, from: &str) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let resumed: Arc<std::sync::atomic::AtomicU64> = Arc::default();
        let ends: Arc<Mutex<Vec<String>>> = Arc::default();
        let said = Arc::clone(&ends);
        let (opened, wait) = tokio::sync::oneshot::channel();
        let (sink, count, client) = (Arc::clone(&seen), Arc::clone(&resumed), client.clone());
        let (tenant, mut token, ca) = (tenant.to_owned(), from.to_owned(), ca.to_owned());
        let reins = Reins::new();
        let rein = reins.clone();
        let task = tokio::spawn(async move {
            let mut opened = Some(opened);
            loop {
                let mut reader = Reader { token: &mut token, sink: &sink, opened: &mut opened, rein: &rein };
                let stream = async {
                    match transport {
                        Transport::Sse => sse(&client, &tenant, &mut reader).await,
                        Transport::WebSocket => websocket(&client, &ca, &tenant, &mut reader).await,
                        Transport::Grpc => grpc(&client, &ca, &tenant, &mut reader).await,
                    }
                };
                let ended = tokio::select! {
                    ended = stream => ended,
                    () = rein.cut.notified() => Err(anyhow::anyhow!("cut off by the test")),
                };
                if let Err(why) = ended {
                    said.lock().push(format!("{why:#}"));
                }
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the watch opens").expect("a running watcher");
        Self { transport, seen, resumed, ends, reins, task }
    }

    /// To make it slow, or to end its stream.
    pub fn reins(&self) -> Reins {
        self.reins.clone()
    }

    /// What was delivered so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// How its streams ended.
    pub fn ends(&self) -> Vec<String> {
        self.ends.lock().clone()
    }

    /// How often it had to resume.
    pub fn resumed(&self) -> u64 {
        self.resumed.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// One stream's way into the watcher.
struct Reader<'a> {
    token: &'a mut String,
    sink: &'a Mutex<Vec<Seen>>,
    opened: &'a mut Option<tokio::sync::oneshot::Sender<()>>,
    rein: &'a Reins,
}

impl Reader<'_> {
    fn opened(&mut self) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(());
        }
    }
}

fn take(sink: &Mutex<Vec<Seen>>, frame: &Value) {
    for event in frame["events"].as_array().into_iter().flatten() {
        sink.lock().push(Seen {
            revision: event["revision"].as_u64().unwrap_or_default(),
            kind: event["type"].as_str().unwrap_or_default().to_owned(),
            name: event["name"].as_str().unwrap_or_default().to_owned(),
        });
    }
}

async fn sse(c: &Client, tenant: &str, reader: &mut Reader<'_>) -> Result<()> {
    // The first time by `from`, later as a browser does: Last-Event-ID.
    let path = format!("/api/v1/watch/{tenant}");
    let request = if reader.token.contains('.') {
        c.request(reqwest::Method::GET, &format!("{path}?from={}", reader.token))
    } else {
        c.request(reqwest::Method::GET, &path).header("last-event-id", &*reader.token)
    };
    let request = request.header("accept", "text/event-stream").timeout(Duration::from_secs(3600));
    let response = request.send().await?;
    if response.status() != 200 {
        bail!("{}: {}", response.status(), response.text().await.unwrap_or_default());
    }
    reader.opened();
    let mut body = response.bytes_stream();
    let mut text = String::new();
    while let Some(chunk) = body.next().await {
        reader.rein.free().await;
        text.push_str(std::str::from_utf8(&chunk?)?);
        while let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
            if let Some(data) = field("data:") {
                take(reader.sink, &serde_json::from_str(data)?);
            }
            if let Some(id) = field("id:") {
                *reader.token = id.to_owned();
            }
            if field("event:") == Some("error") {
                bail!("the last event: {block}");
            }
        }
    }
    Ok(())
}

async fn websocket(c: &Client, ca: &std::path::Path, tenant: &str, reader: &mut Reader<'_>) -> Result<()> {
    let address = c.url.strip_prefix("https://").context("an https URL")?;
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(crate::client::tls_config(ca)));
    let tls = connector.connect("localhost".try_into()?, tcp).await?;
    let mut request = format!("wss://{address}/api/v1/watch/{tenant}?from={}", reader.token).into_client_request()?;
    let key = c.key.as_deref().context("a key")?;
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse()?);
    let (mut socket, _) = tokio_tungstenite::client_async(request, tls).await?;
    reader.opened();
    while let Some(message) = socket.next().await {
        reader.rein.free().await;
        match message? {
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text)?;
                take(reader.sink, &frame);
                if let Some(t) = frame["token"].as_str() {
                    *reader.token = t.to_owned();
                }
            }
            Message::Ping(data) => socket.send(Message::Pong(data)).await?,
            Message::Close(frame) => bail!("closed: {frame:?}"),
            _ => {}
        }
    }
    Ok(())
}

async fn grpc(c: &Client, ca: &std::path::Path, tenant: &str, reader: &mut Reader<'_>) -> Result<()> {
    let channel = grpc_channel(c, ca).await?;
    let mut client = v1::config_service_client::ConfigServiceClient::new(channel);
    let request = grpc_request(c, tenant, v1::WatchRequest { from: reader.token.clone(), ..Default::default() })?;
    let mut stream = client.watch(request).await?.into_inner();
    reader.opened();
    while let Some(frame) = stream.message().await? {
        reader.rein.free().await;
        for event in &frame.events {
            let seen = Seen { revision: event.revision, kind: event.r#type.clone(), name: event.name.clone() };
            reader.sink.lock().push(seen);
        }
        *reader.token = frame.token;
    }
    Ok(())
}

/// A gRPC connection to the gateway.
pub async fn grpc_channel(c: &Client, ca: &std::path::Path) -> Result<tonic::transport::Channel> {
    let address = c.url.strip_prefix("https://").context("an https URL")?.to_owned();
    let mut config = crate::client::tls_config(ca);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: http::Uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let tcp = tokio::net::TcpStream::connect(address).await?;
            let name = "localhost".try_into().map_err(std::io::Error::other)?;
            connector.connect(name, tcp).await.map(hyper_util::rt::TokioIo::new)
        }
    });
    Ok(tonic::transport::Endpoint::from_shared(c.url.clone())?.connect_with_connector(connect).await?)
}

/// A gRPC request with the client's key and tenant.
pub fn grpc_request<T>(c: &Client, tenant: &str, message: T) -> Result<tonic::Request<T>> {
    let mut request = tonic::Request::new(message);
    if let Some(key) = &c.key {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse()?);
    }
    request.metadata_mut().insert("x-conflux-tenant", tenant.parse()?);
    Ok(request)
}
