//! The links between processes: a relay through which every connection goes (`conflux_common::detour`), and which cuts,
//! delays, thins out and breaks each direction of each link by itself.
//!
//! It is TCP that is harmed, as the processes see it: what is cut arrives after healing or not at all, a lost packet holds
//! up all that follow it for as long as TCP takes to send it again.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

/// So much is taken from a sender at a time; about what a switch forwards in one go.
const CHUNK: usize = 16 << 10;
/// Chunks under way in one direction of a connection; then the sender has to wait, as with a full send buffer.
const UNDER_WAY: usize = 64;
/// A lost packet is sent again after so long, and after twice as long if it is lost again (RFC 6298, as Linux has it).
const SENT_AGAIN: Duration = Duration::from_millis(200);

/// What one direction of a link is like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Condition {
    /// Nothing arrives.
    pub cut: bool,
    pub delay_ms: u64,
    /// On top of the delay, at random.
    pub jitter_ms: u64,
    /// Chunks of a hundred that are lost, and sent again.
    pub lost_percent: u32,
    /// Above 0: all that gets through.
    pub bytes_per_s: u64,
}

/// By who sends and who is to receive; what is not there is sound.
type Conditions = HashMap<(String, String), Condition>;

/// See the module. Clones are the same relay.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

struct Shared {
    address: String,
    /// Where the federation's settings files are: `<member>/<role>.toml`.
    directory: Mutex<PathBuf>,
    conditions: watch::Sender<Conditions>,
    /// Goes up when every connection is to break.
    broken: watch::Sender<u64>,
    /// Which member listens at a port.
    ports: Mutex<HashMap<u16, String>>,
    relayed: AtomicU64,
}

impl Relay {
    /// Starts it on a port of the loopback; `directory` is that of the federation.
    pub async fn start(directory: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the relay's port")?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?.to_string(),
            directory: Mutex::new(directory.to_owned()),
            conditions: watch::Sender::default(),
            broken: watch::Sender::default(),
            ports: Mutex::default(),
            relayed: AtomicU64::new(0),
        });
        let relay = Self { shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    // Why a connection ended, its two ends know.
                    tokio::spawn(async move { drop(carry(&shared, stream).await) });
                }
            }
        });
        Ok(relay)
    }

    /// For `CONFLUX_DETOUR`.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Harms these directions, and no others.
    pub fn harm(&self, directions: impl IntoIterator<Item = (String, String)>, condition: Condition) {
        self.shared.conditions.send_replace(directions.into_iter().map(|d| (d, condition)).collect());
    }

    /// All links are sound again.
    pub fn heal(&self) {
        self.shared.conditions.send_replace(Conditions::new());
    }

    /// Every connection breaks at once; new ones may be made.
    pub fn break_all(&self) {
        self.shared.broken.send_modify(|n| *n += 1);
    }

    /// Bytes that went through.
    pub fn relayed(&self) -> u64 {
        self.shared.relayed.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Who listens at this `host:port`; its port says it, since all are on this machine.
    fn listener(&self, address: &str) -> Option<String> {
        let port: u16 = address.rsplit_once(':')?.1.parse().ok()?;
        if let Some(known) = self.ports.lock().get(&port) {
            return Some(known.clone());
        }
        let read = ports(&self.directory.lock());
        let mut ports = self.ports.lock();
        ports.extend(read);
        ports.get(&port).cloned()
    }
}

/// The ports in the settings files of all members.
fn ports(directory: &Path) -> HashMap<u16, String> {
    let mut all = HashMap::new();
    for role in ["shard", "placement"] {
        for home in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let file = home.path().join(format!("{role}.toml"));
            let Ok(text) = std::fs::read_to_string(file) else { continue };
            let name = home.file_name().to_string_lossy().into_owned();
            for line in text.lines().filter(|l| l.starts_with("raft_listen") || l.starts_with("service_listen")) {
                let port = line.trim_end().trim_end_matches('"').rsplit_once(':').and_then(|(_, p)| p.parse().ok());
                all.extend(port.map(|port| (port, name.clone())));
            }
        }
    }
    all
}

/// The member that this process is: its settings file lies in a directory of its name.
fn dialler(pid: &str) -> Option<String> {
    let command = std::fs::read(format!("/proc/{}/cmdline", pid.parse::<u32>().ok()?)).ok()?;
    let mut words = command.split(|b| *b == 0);
    words.find(|word| *word == b"--config")?;
    let file = PathBuf::from(String::from_utf8(words.next()?.to_vec()).ok()?);
    Some(file.parent()?.file_name()?.to_string_lossy().into_owned())
}

/// Reads the first line, dials on, and carries bytes both ways until both ends have ended or the link breaks.
async fn carry(shared: &Arc<Shared>, mut near: TcpStream) -> io::Result<()> {
    let unknown = || io::Error::other("who, and where to?");
    let line = first_line(&mut near).await?;
    let (pid, address) = line.split_once(' ').ok_or_else(unknown)?;
    let (from, to) = (dialler(pid).ok_or_else(unknown)?, shared.listener(address).ok_or_else(unknown)?);
    let mut broken = shared.broken.subscribe();
    broken.mark_unchanged();
    // A connection needs both directions to come about.
    let there = (from.clone(), to.clone());
    let back = (to, from);
    let mut conditions = shared.conditions.subscribe();
    let open = |all: &Conditions| [&there, &back].iter().all(|d| !all.get(*d).is_some_and(|c| c.cut));
    conditions.wait_for(open).await.map_err(io::Error::other)?;
    let far = TcpStream::connect(address).await?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let both = async {
        tokio::join!(pump(shared, &there, near_in, far_out), pump(shared, &back, far_in, near_out));
    };
    tokio::select! {
        () = both => {}
        _ = broken.changed() => {}
    }
    Ok(())
}

async fn first_line(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return String::from_utf8(line).map_err(io::Error::other),
            byte if line.len() < 300 => line.push(byte),
            _ => return Err(io::Error::other("a long first line")),
        }
    }
}

/// One direction, to its end.
async fn pump(shared: &Arc<Shared>, direction: &(String, String), mut from: OwnedReadHalf, to: OwnedWriteHalf) {
    let (sender, due) = mpsc::channel(UNDER_WAY);
    let deliver = deliver(shared, direction, due, to);
    let take = async move {
        let mut last = Instant::now();
        let mut buffer = vec![0; CHUNK];
        // The end, or a broken connection, is passed on like a chunk: not before what was sent before it.
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let condition = shared.conditions.borrow().get(direction).copied().unwrap_or_default();
            last = last.max(Instant::now() + latency(condition));
            if condition.bytes_per_s > 0 {
                last += Duration::from_secs_f64(n as f64 / condition.bytes_per_s as f64);
            }
            if sender.send((last, buffer[..n].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(deliver, take);
}

fn latency(condition: Condition) -> Duration {
    let mut rng = rand::rng();
    let mut late = Duration::from_millis(condition.delay_ms + rng.random_range(0..=condition.jitter_ms));
    let mut again = SENT_AGAIN;
    while condition.lost_percent > 0 && rng.random_range(0..100) < condition.lost_percent.min(90) {
        late += again;
        again *= 2;
    }
    late
}

async fn deliver(
    shared: &Arc<Shared>,
    direction: &(String, String),
    mut due: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
) {
    let mut conditions = shared.conditions.subscribe();
    let open = |all: &Conditions| !all.get(direction).is_some_and(|c| c.cut);
    while let Some((at, chunk)) = due.recv().await {
        tokio::time::sleep_until(at).await;
        if conditions.wait_for(open).await.is_err() || to.write_all(&chunk).await.is_err() {
            return;
        }
        shared.relayed.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    // The end is a packet too.
    let _ = conditions.wait_for(open).await;
    let _ = to.shutdown().await;
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
