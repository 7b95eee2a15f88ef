use openraft::{
    StorageError,
    storage::RaftStateMachine,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

use super::*;
use crate::{
    state_store::StateMachine,
    testing::{Notes, append, apply, commands, log_id, notes, purge},
    types::TypeConfig,
};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine<Notes>, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine<Notes>), StorageError<TypeConfig>> {
        let temp = tempfile::tempdir().unwrap();
        let storage = open_at(temp.path(), 8 << 20, notes()).unwrap();
        Ok((temp, storage.log, storage.state.machine()))
    }
}

// openraft relies on each of these properties of a store; its own authors wrote them down as this suite.
#[tokio::test(flavor = "multi_thread")]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}

fn open(temp: &TempDir) -> Result<Storage<Notes>, OpenError> {
    open_at(temp.path(), 8 << 20, notes())
}

fn refusal(temp: &TempDir) -> String {
    match open(temp) {
        Err(OpenError::Refused(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

// A log that lost entries which were applied had acknowledged them: the member could help to lose them everywhere.
#[tokio::test]
async fn a_state_ahead_of_its_log_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let mut storage = open(&temp).unwrap();
    append(&mut storage.log, commands(0..=5)).await;
    apply(&mut storage.state.machine(), commands(0..=6)).await.unwrap();
    drop(storage);
    let text = refusal(&temp);
    assert!(text.contains("ends at index 5") && text.contains("admit it anew"), "{text}");
}

// What was purged can only come from the state.
#[test]
fn a_state_behind_the_purged_log_is_refused() {
    let id = |index| Some(log_id(1, index));
    assert!(check(id(20), id(10), id(9), None).is_err());
    assert!(check(id(20), id(10), id(10), None).is_ok());
    assert!(check(id(20), None, None, None).is_ok());
    assert!(check(None, None, id(7), Some(7)).is_ok());
    assert!(check(None, None, id(8), Some(7)).is_err());
}

// A member goes on where it was: nothing applied is lost, nothing is applied twice.
#[tokio::test]
async fn a_reopened_storage_is_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let mut storage = open(&temp).unwrap();
    append(&mut storage.log, commands(0..=9)).await;
    apply(&mut storage.state.machine(), commands(0..=7)).await.unwrap();
    drop(storage);
    let storage = open(&temp).unwrap();
    assert_eq!(storage.state.machine().applied_state().await.unwrap().0, Some(log_id(1, 7)));
    assert_eq!(*storage.state.applied().borrow(), 7);
    assert_eq!(storage.log.last(), Some(log_id(1, 9)));
    apply(&mut storage.state.machine(), commands(8..=9)).await.unwrap();
    use crate::view::Read;
    assert_eq!(storage.state.view(|view| view.get(b"k9").unwrap()).unwrap(), Some(b"v9".to_vec()));
}

// After a snapshot was installed and before the log was purged, the log may end below the state.
#[tokio::test]
async fn a_crash_after_an_install_is_recovered() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = open(&from).unwrap();
    apply(&mut leader.state.machine(), commands(1..=100)).await.unwrap();
    let snapshot = crate::state_store::tests::build(&mut leader.state.machine()).await;
    let mut follower = open(&to).unwrap();
    append(&mut follower.log, commands(1..=3)).await;
    let received = crate::state_store::tests::send(&snapshot, &follower.state).await;
    follower.state.machine().install_snapshot(&snapshot.meta(), received).await.unwrap();
    drop(follower);
    let mut follower = open(&to).unwrap();
    assert_eq!(*follower.state.applied().borrow(), 100);
    assert_eq!(follower.state.snapshot_index(), 100);
    purge(&mut follower.log, 100).await.unwrap();
    append(&mut follower.log, commands(101..=102)).await;
    apply(&mut follower.state.machine(), commands(101..=102)).await.unwrap();
    drop(follower);
    assert_eq!(*open(&to).unwrap().state.applied().borrow(), 102);
}

// Two processes on one directory would both vote.
#[test]
fn a_directory_is_opened_once() {
    let temp = tempfile::tempdir().unwrap();
    let first = open(&temp).unwrap();
    assert!(matches!(open(&temp), Err(OpenError::Fatal(_))));
    drop(first);
    assert!(open(&temp).is_ok());
}

/// The write-ahead log of the state, and its length.
fn state_wal(temp: &TempDir) -> (std::path::PathBuf, u64) {
    let files = std::fs::read_dir(temp.path().join("state/1")).unwrap().map(|found| found.unwrap().path());
    let wals = files.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    wals.map(|path| (path.clone(), std::fs::metadata(&path).unwrap().len())).max_by_key(|wal| wal.1).unwrap()
}

fn cut(wal: &std::path::Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(wal).unwrap().set_len(length).unwrap();
}

fn rows(storage: &Storage<Notes>) -> u64 {
    use crate::view::Read;
    let mut rows = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        rows += 1;
        std::ops::ControlFlow::Continue(())
    };
    storage.state.view(|view| view.scan(b"", b"\xff", visit)).unwrap().unwrap();
    rows
}

// A power cut takes the unsynced end of the state: rows and last applied must go back together, then come forward.
#[tokio::test]
async fn a_state_that_lost_its_end_is_brought_forward_from_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let mut storage = open(&temp).unwrap();
    append(&mut storage.log, commands(1..=50)).await;
    for first in (1..=50).step_by(5) {
        apply(&mut storage.state.machine(), commands(first..=first + 4)).await.unwrap();
    }
    drop(storage);
    let (wal, length) = state_wal(&temp);
    cut(&wal, length * 2 / 3);
    let storage = open(&temp).unwrap();
    let applied = *storage.state.applied().borrow();
    assert!((5..50).contains(&applied) && applied.is_multiple_of(5), "{applied}");
    assert_eq!(rows(&storage), applied);
    apply(&mut storage.state.machine(), commands(applied + 1..=50)).await.unwrap();
    assert_eq!(rows(&storage), 50);
}

// An entry whose effect is only in memory must survive the purge of the log, or a power cut loses it for good.
#[tokio::test]
async fn a_purge_never_passes_what_the_state_has_on_disk() {
    let temp = tempfile::tempdir().unwrap();
    let mut storage = open(&temp).unwrap();
    append(&mut storage.log, commands(1..=50)).await;
    apply(&mut storage.state.machine(), commands(1..=40)).await.unwrap();
    assert_eq!(storage.state.synced_index(), None);
    purge(&mut storage.log, 30).await.unwrap();
    assert_eq!(storage.state.synced_index(), Some(40));
    let (wal, synced) = state_wal(&temp);
    apply(&mut storage.state.machine(), commands(41..=50)).await.unwrap();
    drop(storage);
    cut(&wal, synced);
    let storage = open(&temp).unwrap();
    assert_eq!(*storage.state.applied().borrow(), 40);
}
