//! A group of real members in one process: loopback ports, real certificates, real disks.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use conflux_common::{
    settings::{FounderSettings, LogSettings, MemberSettings, RaftTuning},
    testing::{TestCa, free_address},
    tls::{Role, TlsContext},
};
use conflux_raft::{App, Applied, Entry, FatalError, GroupStatus, OpenError, ProposeError, RaftNode, Read, Tx, View};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// No condition of a healthy group takes longer, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Rows as they are put: `key=value`; `key` alone deletes. Answers the number of commands so far.
#[derive(Default)]
pub struct Rows {
    pub replaced: AtomicU64,
    pub notices: AtomicU64,
}

const COUNT: &[u8] = b"\0count";
const STAMP: &[u8] = b"\0stamp";

impl App for Rows {
    type Notice = ();
    const LEVEL: u32 = 2;

    fn apply(&self, entry: &Entry<'_>, tx: &mut Tx<'_>) -> Result<Applied<()>, FatalError> {
        let number = |row: Option<Vec<u8>>| row.map_or(0, |v| u64::from_be_bytes(v.try_into().unwrap()));
        let count = number(tx.get(COUNT)?) + 1;
        assert!(entry.stamp_ms >= number(tx.get(STAMP)?), "group time went back");
        tx.put(COUNT, count.to_be_bytes());
        tx.put(STAMP, entry.stamp_ms.to_be_bytes());
        match entry.command.iter().position(|b| *b == b'=') {
            Some(at) => tx.put(&entry.command[..at], &entry.command[at + 1..]),
            None => tx.delete(entry.command),
        }
        Ok(Applied { answer: Bytes::from(count.to_string()), notices: vec![()] })
    }

    fn committed(&self, notices: Vec<()>) {
        self.notices.fetch_add(notices.len() as u64, Ordering::Relaxed);
    }

    fn replaced(&self, _view: &View<'_>) {
        self.replaced.fetch_add(1, Ordering::Relaxed);
    }

    fn check(&self, _tx: &Tx<'_>) -> Result<(), String> {
        Ok(())
    }
}

pub type Node = RaftNode<Rows>;

/// The members' settings, certificates and disks; each member may be up or down.
pub struct Group {
    pub dir: TempDir,
    pub ca: TestCa,
    pub settings: Vec<MemberSettings>,
    pub nodes: Vec<Option<Node>>,
}

impl Group {
    /// So many founders, none of them up.
    pub fn planned(count: usize) -> Self {
        Self::tuned(count, |_| {})
    }

    pub fn tuned(count: usize, tune: impl Fn(&mut RaftTuning)) -> Self {
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let _ = tracing_subscriber_init();
        let dir = TempDir::new().unwrap();
        let ca = TestCa::new(&dir.path().join("ca"));
        let mut group = Self { dir, ca, settings: Vec::new(), nodes: Vec::new() };
        let founders: Vec<FounderSettings> = (0..count)
            .map(|i| FounderSettings {
                member: name(i).parse().unwrap(),
                raft_address: free_address().to_string(),
                service_address: free_address().to_string(),
            })
            .collect();
        let mut tuning = RaftTuning::default();
        tune(&mut tuning);
        for founder in &founders {
            let mut settings = group.draft(founder, &founders);
            settings.raft = tuning.clone();
            group.settings.push(settings);
            group.nodes.push(None);
        }
        group
    }

    /// Settings of one more member that is no founder.
    pub fn plan_another(&mut self) -> usize {
        let i = self.settings.len();
        let founder = FounderSettings {
            member: name(i).parse().unwrap(),
            raft_address: free_address().to_string(),
            service_address: free_address().to_string(),
        };
        let founders = self.settings[0].founders.clone();
        let mut settings = self.draft(&founder, &founders);
        settings.raft = self.settings[0].raft.clone();
        self.settings.push(settings);
        self.nodes.push(None);
        i
    }

    fn draft(&self, own: &FounderSettings, founders: &[FounderSettings]) -> MemberSettings {
        MemberSettings {
            cluster: "test".parse().unwrap(),
            group: "s1".parse().unwrap(),
            member: own.member.clone(),
            data_dir: self.dir.path().join(own.member.as_str()),
            raft_listen: own.raft_address.parse().unwrap(),
            service_listen: own.service_address.parse().unwrap(),
            metrics_listen: free_address(),
            raft_advertise: None,
            service_advertise: None,
            tls: self.ca.issue(&format!("conflux://test/shard/s1/{}", own.member)),
            founders: founders.to_vec(),
            raft: RaftTuning::default(),
            log: LogSettings::default(),
        }
    }

    /// So many founders, all up, with a leader.
    pub async fn of(count: usize) -> Self {
        let mut group = Self::planned(count);
        group.start_all().await;
        group.leader().await;
        group
    }

    pub async fn start_all(&mut self) {
        for i in 0..self.settings.len() {
            self.start(i).await;
        }
    }

    pub async fn start_all_down(&mut self) {
        for i in 0..self.settings.len() {
            if self.nodes[i].is_none() {
                self.start(i).await;
            }
        }
    }

    /// Starts a member; waits for an abandoned one to let go of its disk and port.
    pub async fn start(&mut self, i: usize) {
        let settings = self.settings[i].clone();
        let deadline = Instant::now() + PATIENCE;
        let node = loop {
            match self.try_start(&settings).await {
                Ok(node) => break node,
                Err(error) if Instant::now() > deadline => panic!("{} cannot start: {error}", settings.member),
                Err(OpenError::Refused(why)) => panic!("{} is refused: {why}", settings.member),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.nodes[i] = Some(node);
    }

    pub async fn try_start(&self, settings: &MemberSettings) -> Result<Node, OpenError> {
        let tls = TlsContext::load(settings.tls.clone()).unwrap();
        RaftNode::open(settings.clone(), Role::Shard, tls, Arc::new(Rows::default())).await
    }

    pub fn node(&self, i: usize) -> &Node {
        self.nodes[i].as_ref().expect("this member is down")
    }

    /// As a crash: nothing is handed over or flushed.
    pub async fn kill(&mut self, i: usize) {
        self.nodes[i].take().expect("this member is down").abandon().await;
    }

    pub async fn stop(&mut self, i: usize) {
        self.nodes[i].take().expect("this member is down").shutdown().await;
    }

    /// Deletes the disk of a member that is down.
    pub async fn wipe(&self, i: usize) {
        assert!(self.nodes[i].is_none());
        let deadline = Instant::now() + PATIENCE;
        while self.settings[i].data_dir.exists() {
            assert!(Instant::now() < deadline, "the disk cannot be wiped");
            let _ = std::fs::remove_dir_all(&self.settings[i].data_dir);
            tokio::task::yield_now().await;
        }
    }

    pub fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| self.nodes[*i].is_some()).collect()
    }

    /// The member that leads by a barrier of its own, not by its belief.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for i in self.up() {
                if self.node(i).check_leader().is_ok()
                    && self.node(i).read_barrier(Duration::from_secs(2)).await.is_ok()
                {
                    return i;
                }
            }
            assert!(Instant::now() < deadline, "no leader: {:#?}", self.statuses());
            let mut changes = self.node(self.up()[0]).status();
            let _ = timeout(Duration::from_millis(100), changes.changed()).await;
        }
    }

    pub async fn a_follower(&self) -> usize {
        let leader = self.leader().await;
        self.up().into_iter().find(|i| *i != leader).expect("another member is up")
    }

    pub fn statuses(&self) -> Vec<GroupStatus> {
        self.up().into_iter().map(|i| self.node(i).status().borrow().clone()).collect()
    }

    /// Puts a row through whoever leads.
    pub async fn put(&self, row: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            match self.node(leader).propose(Bytes::from(row.to_owned()), Duration::from_secs(10)).await {
                Ok(_) => return,
                Err(ProposeError::NotLeader { .. } | ProposeError::Overloaded | ProposeError::Unknown(_))
                    if Instant::now() < deadline => {}
                Err(error) => panic!("{row}: {error}"),
            }
        }
    }

    /// The row as this member has it.
    pub fn get(&self, i: usize, key: &str) -> Option<String> {
        let row = self.node(i).read(|view| view.get(key.as_bytes()).unwrap()).ok()?;
        row.map(|v| String::from_utf8(v).unwrap())
    }

    pub fn rows(&self, i: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let read = self.node(i).read(|view| {
            view.scan(b"", b"\xff", &mut |k, v| {
                rows.push((k.to_vec(), v.to_vec()));
                ControlFlow::Continue(())
            })
        });
        read.unwrap().unwrap();
        rows
    }

    /// Waits until this member has the row.
    pub async fn has(&self, i: usize, key: &str, value: &str) {
        self.sees(i, &format!("{key}={value}"), |_| self.get(i, key).as_deref() == Some(value)).await;
    }

    /// Waits until this member's status is as it should be.
    pub async fn sees(&self, i: usize, what: &str, mut ok: impl FnMut(&GroupStatus) -> bool) {
        let mut changes = self.node(i).status();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = changes.borrow_and_update().clone();
            if ok(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "{} never saw {what}: {status:#?}", self.settings[i].member);
            let _ = timeout(Duration::from_millis(50), changes.changed()).await;
        }
    }
}

fn name(i: usize) -> String {
    format!("s1-{}", (b'a' + i as u8) as char)
}

fn tracing_subscriber_init() -> bool {
    false
}
