use std::{fs, path::PathBuf};

use futures::TryStreamExt;
use openraft::{
    storage::{IOFlushed, RaftLogReader, RaftLogStorage},
    type_config::TypeConfigExt,
};
use tempfile::TempDir;

use super::*;
use crate::testing::{append, command, commands, log_id, purge};

struct Dir {
    temp: TempDir,
}

impl Dir {
    fn new() -> Self {
        let dir = Self { temp: tempfile::tempdir().unwrap() };
        LogStore::create(&dir.log(), &dir.floor()).unwrap();
        dir
    }

    fn log(&self) -> PathBuf {
        self.temp.path().join("log")
    }

    fn floor(&self) -> PathBuf {
        self.temp.path().join("floor")
    }

    fn open(&self) -> LogStore {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<LogStore, OpenError> {
        LogStore::open(&self.log(), &self.floor(), Fatal::new())
    }

    /// The write-ahead log that is not empty.
    fn wal(&self) -> PathBuf {
        let files = fs::read_dir(self.log()).unwrap().map(|found| found.unwrap().path());
        let mut wals = files.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
        wals.find(|path| fs::metadata(path).unwrap().len() > 0).unwrap()
    }
}

async fn indexes(log: &mut LogStore) -> Vec<u64> {
    let entries = log.try_get_log_entries(0..).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index()).collect()
}

// A restart must find what was acknowledged, in every part.
#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = Dir::new();
    let mut log = dir.open();
    assert!(log.is_empty());
    let identity =
        Identity { cluster: "c".into(), group: "g".into(), member: "m".into(), node_id: 1007, founding: vec![1, 2] };
    log.write_identity(&identity).await.unwrap();
    assert!(log.is_empty());
    append(&mut log, commands(1..=10)).await;
    log.save_vote(&Vote::new_committed(4, 2)).await.unwrap();
    log.save_committed(Some(log_id(1, 8))).await.unwrap();
    drop(log);

    let mut log = dir.open();
    assert!(!log.is_empty());
    assert_eq!(log.identity().unwrap(), Some(identity));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(4, 2)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 8)));
    assert_eq!(log.try_get_log_entries(1..=10).await.unwrap(), commands(1..=10));
    assert_eq!(log.last(), Some(log_id(1, 10)));
}

// Damage to synced entries looks to RocksDB like a torn end; only the floor tells them apart.
#[tokio::test]
async fn a_log_that_lost_its_end_is_refused() {
    let dir = Dir::new();
    let mut log = dir.open();
    append(&mut log, commands(1..=100)).await;
    drop(log);
    let wal = dir.wal();
    let length = fs::metadata(&wal).unwrap().len();
    fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(length / 2).unwrap();
    match dir.try_open() {
        Err(OpenError::Refused(text)) => assert!(text.contains("admit it anew"), "{text}"),
        other => panic!("{:?}", other.map(|log| log.last())),
    }
}

// What a power cut tore was never acknowledged: the member goes on.
#[tokio::test]
async fn a_torn_end_is_left_out() {
    let dir = Dir::new();
    let mut log = dir.open();
    append(&mut log, commands(1..=100)).await;
    drop(log);
    let (wal, mut bytes) = (dir.wal(), fs::read(dir.wal()).unwrap());
    // The beginning of a record whose end never reached the disk, then the zeros that ext4 may leave.
    let record = bytes[..40].to_vec();
    bytes.extend_from_slice(&record);
    bytes.extend_from_slice(&[0; 512]);
    fs::write(wal, bytes).unwrap();
    assert_eq!(indexes(&mut dir.open()).await, (1..=100).collect::<Vec<_>>());
}

// A follower drops entries that a new leader does not have; the floor must follow, or it never starts again.
#[tokio::test]
async fn truncation_lowers_the_floor() {
    let dir = Dir::new();
    let mut log = dir.open();
    append(&mut log, commands(1..=10)).await;
    log.truncate_after(Some(log_id(1, 4))).await.unwrap();
    assert_eq!(indexes(&mut log).await, [1, 2, 3, 4]);
    drop(log);
    let mut log = dir.open();
    assert_eq!(log.last(), Some(log_id(1, 4)));
    append(&mut log, commands(5..=6)).await;
    drop(log);
    assert_eq!(indexes(&mut dir.open()).await, [1, 2, 3, 4, 5, 6]);
}

// Purged entries must be gone for readers at once and after a restart, and the log still knows where it ends.
#[tokio::test]
async fn purged_entries_stay_purged() {
    let dir = Dir::new();
    let mut log = dir.open();
    append(&mut log, commands(1..=10)).await;
    purge(&mut log, 6).await.unwrap();
    assert_eq!(indexes(&mut log).await, [7, 8, 9, 10]);
    purge(&mut log, 20).await.unwrap();
    drop(log);
    let mut log = dir.open();
    assert_eq!((log.purged(), log.last()), (Some(log_id(1, 20)), Some(log_id(1, 20))));
    append(&mut log, commands(21..=21)).await;
    assert_eq!(indexes(&mut log).await, [21]);
}

// An entry that the state has only in memory must not be purged: after a power cut it would be nowhere.
#[tokio::test]
async fn a_purge_waits_for_the_state() {
    let dir = Dir::new();
    let mut log = dir.open();
    append(&mut log, commands(1..=10)).await;
    log.before_purge(Box::new(|index| Err(FatalError(format!("cannot sync up to {index}")))));
    assert!(purge(&mut log, 6).await.unwrap_err().to_string().contains("cannot sync up to 6"));
    assert_eq!(log.purged(), None);
    assert_eq!(indexes(&mut log).await.len(), 10);
}

// A message between members and a read into memory are bounded, whatever the entries.
#[tokio::test]
async fn reads_are_bounded_by_bytes() {
    let dir = Dir::new();
    let mut log = dir.open();
    let large = format!("set k {}", "x".repeat(900_000));
    append(&mut log, (1..=7).map(|index| command(index, &large)).collect()).await;
    assert_eq!(log.limited_get_log_entries(1, 8).await.unwrap().len(), 2);
    let huge = format!("set k {}", "x".repeat(4 << 20));
    append(&mut log, vec![command(8, &huge)]).await;
    assert_eq!(log.limited_get_log_entries(8, 9).await.unwrap().len(), 1);
    let all: Vec<_> = log.entries_stream(1..9).await.try_collect().await.unwrap();
    assert_eq!(all.len(), 8);
    assert!((9 << 20..12 << 20).contains(&log.bytes()), "{}", log.bytes());
    let before = log.bytes();
    drop(log);
    let log = dir.open();
    assert_eq!(log.bytes(), before);
    assert_eq!(log.purge_point(8 << 20, 7), Some(2));
}

// A hole would make two replicas apply different commands.
#[tokio::test]
async fn an_entry_that_does_not_follow_stops_the_replica() {
    let dir = Dir::new();
    let mut log = dir.open();
    append(&mut log, commands(1..=3)).await;
    assert!(log.append(commands(5..=5), IOFlushed::noop()).await.is_err());
    assert!(log.append(commands(4..=4), IOFlushed::noop()).await.is_err(), "nothing is written after a failure");
    assert_eq!(indexes(&mut log).await, [1, 2, 3]);
}

// A member whose founding failed must be able to begin anew, and one that counted a vote must not.
#[tokio::test]
async fn only_a_log_without_entries_forgets_its_vote() {
    let dir = Dir::new();
    let mut log = dir.open();
    log.save_vote(&Vote::new(9, 1)).await.unwrap();
    log.reset().await.unwrap();
    assert!(log.is_empty());
    drop(log);
    let mut log = dir.open();
    assert!(log.is_empty());
    append(&mut log, commands(0..=0)).await;
    assert!(log.reset().await.is_err());
}

// An append is acknowledged through the worker, and many by few syncs; each callback must be called.
#[tokio::test]
async fn every_waiting_append_is_answered() {
    let dir = Dir::new();
    let mut log = dir.open();
    let mut waiting = Vec::new();
    for index in 1..=500 {
        let (done, answer) = crate::types::TypeConfig::oneshot();
        log.append(commands(index..=index), IOFlushed::signal(done)).await.unwrap();
        waiting.push(answer);
    }
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(*log.durable().synced.borrow(), 501);
}

/// Opens a copy of the directory whose write-ahead log was changed.
async fn damaged(dir: &Dir, change: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u64>> {
    let copy = Dir { temp: tempfile::tempdir().unwrap() };
    fs::create_dir(copy.log()).unwrap();
    fs::copy(dir.floor(), copy.floor()).unwrap();
    for found in fs::read_dir(dir.log()).unwrap().map(|found| found.unwrap()) {
        fs::copy(found.path(), copy.log().join(found.file_name())).unwrap();
    }
    let mut bytes = fs::read(copy.wal()).unwrap();
    change(&mut bytes);
    fs::write(copy.wal(), bytes).unwrap();
    let mut log = copy.try_open().ok()?;
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 1)), "a vote that was given is forgotten");
    Some(indexes(&mut log).await)
}

// Wherever the log was cut or a bit of it changed: it is whole, or it is refused. It is never silently shorter.
#[tokio::test]
async fn no_damage_passes_for_a_torn_end() {
    let dir = Dir::new();
    let mut log = dir.open();
    append(&mut log, commands(1..=20)).await;
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    append(&mut log, commands(21..=40)).await;
    drop(log);
    let all: Vec<u64> = (1..=40).collect();
    let length = fs::metadata(dir.wal()).unwrap().len() as usize;
    assert_eq!(damaged(&dir, |_| {}).await, Some(all.clone()));
    for at in (0..length).step_by(length / 24) {
        assert_eq!(damaged(&dir, |bytes| bytes.truncate(at)).await, None, "cut at {at} of {length}");
        let flipped = damaged(&dir, |bytes| bytes[at] ^= 0x10).await;
        assert!(flipped.is_none() || flipped.as_ref() == Some(&all), "flipped at {at} of {length}: {flipped:?}");
    }
}
