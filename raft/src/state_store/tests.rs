use std::{fs, ops::ControlFlow};

use openraft::{EntryPayload, RaftSnapshotBuilder, storage::RaftStateMachine};
use tempfile::TempDir;

use super::*;
use crate::{
    disk::Found,
    testing::{Notes, apply, command, commands, entry, log_id, membership, notes},
    types::{Command, Node},
    view::Read,
};

struct Dir {
    temp: TempDir,
    dir: Arc<DataDir>,
}

impl Dir {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let (dir, found) = DataDir::open(temp.path()).unwrap();
        assert_eq!(found, Found::Empty);
        StateHandle::<Notes>::create(&dir).unwrap();
        Self { temp, dir: Arc::new(dir) }
    }

    fn open(&self) -> (StateHandle<Notes>, StateMachine<Notes>) {
        let state = StateHandle::open(notes(), self.dir.clone(), 1 << 20, None, Fatal::new()).unwrap();
        let machine = state.machine();
        (state, machine)
    }

    fn snapshots(&self) -> Vec<String> {
        let found = fs::read_dir(self.temp.path().join("snapshots")).unwrap();
        found.map(|found| found.unwrap().file_name().into_string().unwrap()).collect()
    }
}

pub(crate) async fn build(machine: &mut StateMachine<Notes>) -> SnapshotHandle {
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap().snapshot
}

/// As the network does it: in chunks.
pub(crate) async fn send(snapshot: &SnapshotHandle, to: &StateHandle<Notes>) -> SnapshotHandle {
    let (mut reader, mut writer) = (snapshot.pack().await.unwrap(), to.receive_snapshot().await.unwrap());
    while let Some(chunk) = reader.next().await.unwrap() {
        writer.write(chunk).await.unwrap();
    }
    writer.finish(&snapshot.meta(), reader.sha256()).await.unwrap()
}

fn value(state: &StateHandle<Notes>, key: &str) -> Option<String> {
    let value = state.view(|view| view.get(key.as_bytes()).unwrap()).unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}

fn keys(state: &StateHandle<Notes>) -> Vec<String> {
    let mut keys = Vec::new();
    state
        .view(|view| {
            view.scan(b"", b"\xff", &mut |key, _| {
                keys.push(String::from_utf8(key.to_vec()).unwrap());
                ControlFlow::Continue(())
            })
        })
        .unwrap()
        .unwrap();
    keys
}

// A snapshot that fails half-way ends the member; without one it only keeps more of its log.
#[tokio::test]
async fn a_full_disk_puts_a_snapshot_off() {
    let dir = Dir::new();
    let (state, mut machine) = dir.open();
    apply(&mut machine, vec![command(1, "set a 1")]).await.unwrap();
    let free = |bytes: u64| dir.dir.at_most_free.store(bytes, Ordering::Relaxed);
    free(4096);
    assert!(machine.try_create_snapshot_builder(false).await.is_none());
    assert!(state.check_room().unwrap_err().contains("4096 are free"));
    // Nothing was begun, and nothing broke: the next one is taken.
    assert_eq!(dir.snapshots(), Vec::<String>::new());
    free(u64::MAX);
    let mut builder = machine.try_create_snapshot_builder(false).await.unwrap();
    assert_eq!(builder.build_snapshot().await.unwrap().meta.last_log_id.unwrap().index(), 1);
}

// Two compare-and-sets of one key may be in one batch: the second must see the first.
#[tokio::test]
async fn a_command_sees_the_earlier_ones_of_its_batch() {
    let dir = Dir::new();
    let (state, mut machine) = dir.open();
    apply(&mut machine, (1..=5).map(|index| command(index, "count n")).collect()).await.unwrap();
    apply(&mut machine, vec![command(6, "count n"), command(7, "set a 1"), command(8, "del a")]).await.unwrap();
    assert_eq!(value(&state, "n").as_deref(), Some("6"));
    assert_eq!(keys(&state), ["n"]);
    assert_eq!(*state.shared.app.committed.lock(), (1..=8).collect::<Vec<_>>());
    assert_eq!(state.last_applied().map(|id| id.index()), Some(8));
}

// What Raft keeps beside the rows must be exactly as old as they are, also after a restart.
#[tokio::test]
async fn rows_and_raft_state_survive_together() {
    let dir = Dir::new();
    let (state, mut machine) = dir.open();
    let payload = |command| EntryPayload::Normal(command);
    let node = Node { member: "m4".into(), raft_address: "h:1".into(), service_address: "h:2".into() };
    let entries = vec![
        membership(1, &[1, 2, 3]),
        entry(2, payload(Command::app(5_000, "set a 1".into()))),
        entry(3, payload(Command::raise_level(4_000, 2))),
        entry(4, payload(Command::admit(0, node.clone()))),
        entry(5, payload(Command::raise_level(0, 1))),
        entry(6, EntryPayload::Blank),
    ];
    apply(&mut machine, entries).await.unwrap();
    drop((state, machine));
    let (state, mut machine) = dir.open();
    let (last, members) = machine.applied_state().await.unwrap();
    assert_eq!(last, Some(log_id(1, 6)));
    assert_eq!(members.voter_ids().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((state.level(), state.stamp_ms()), (2, 5_000));
    assert_eq!(value(&state, "a").as_deref(), Some("1"));
    let admission = Admission { node_id: 1004, index: 4, raft_address: "h:1".into(), service_address: "h:2".into() };
    assert_eq!(state.admitted("m4").unwrap(), Some(admission));
    assert_eq!(state.admitted("m5").unwrap(), None);
    apply(&mut machine, vec![entry(7, payload(Command::admit(0, node)))]).await.unwrap();
    assert_eq!(state.admitted("m4").unwrap().unwrap().node_id, 1007);
}

// An entry that is applied twice would count twice.
#[tokio::test]
async fn an_applied_entry_is_refused() {
    let dir = Dir::new();
    let (state, mut machine) = dir.open();
    apply(&mut machine, vec![command(1, "count n")]).await.unwrap();
    assert!(apply(&mut machine, vec![command(1, "count n")]).await.is_err());
    assert_eq!(value(&state, "n").as_deref(), Some("1"));
}

// A broken invariant must stop the replica before anything of it is stored or told.
#[tokio::test]
async fn a_broken_invariant_stops_the_replica() {
    for bad in ["set forbidden 1", "fail"] {
        let dir = Dir::new();
        let (state, mut machine) = dir.open();
        let entries = vec![command(1, "set a 1"), command(2, bad)];
        assert!(apply(&mut machine, entries).await.is_err());
        assert!(state.shared.fatal.check().is_err());
        assert!(state.shared.app.committed.lock().is_empty());
        assert!(apply(&mut machine, vec![command(1, "set a 1")]).await.is_err(), "nothing is applied after a failure");
        assert_eq!(keys(&state), Vec::<String>::new());
    }
}

// An old binary in a group that has moved on would compute other rows than its peers.
#[tokio::test]
async fn a_level_that_is_too_high_stops_an_old_binary() {
    let dir = Dir::new();
    let (_state, mut machine) = dir.open();
    let raise = entry(1, EntryPayload::Normal(Command::raise_level(0, 3)));
    let error = apply(&mut machine, vec![raise]).await.unwrap_err().to_string();
    assert!(error.contains("start a newer binary"), "{error}");
}

// A new follower must end with the very rows of the leader, and tell whoever watches to join anew.
#[tokio::test]
async fn an_installed_snapshot_replaces_the_state() {
    let (from, to) = (Dir::new(), Dir::new());
    let (leader, mut leading) = from.open();
    let mut entries = commands(2..=700);
    entries.insert(0, membership(1, &[1, 2]));
    entries.push(command(701, &format!("set large {}", "x".repeat(1 << 20))));
    apply(&mut leading, entries).await.unwrap();
    let snapshot = build(&mut leading).await;
    apply(&mut leading, commands(702..=705)).await.unwrap();

    let (state, mut machine) = to.open();
    apply(&mut machine, vec![command(1, "set old 1")]).await.unwrap();
    let received = send(&snapshot, &state).await;
    machine.install_snapshot(&snapshot.meta(), received).await.unwrap();
    assert_eq!(*state.shared.app.replaced_with.lock(), [700]);
    assert_eq!(*state.applied().borrow(), 701);
    assert_eq!(state.snapshot_index(), 701);
    assert_eq!(value(&state, "old"), None);
    assert_eq!(value(&state, "large").map(|v| v.len()), Some(1 << 20));
    assert_eq!(keys(&state).len(), 700);
    assert_eq!(machine.applied_state().await.unwrap().1.voter_ids().collect::<Vec<_>>(), [1, 2]);
    apply(&mut machine, commands(702..=705)).await.unwrap();
    assert_eq!(keys(&state), keys(&leader));
    drop((state, machine));
    let (state, _machine) = to.open();
    assert_eq!((keys(&state), state.snapshot_index()), (keys(&leader), 701));
}

// A late snapshot must not take a member back behind what it acknowledged.
#[tokio::test]
async fn an_older_snapshot_changes_nothing() {
    let (from, to) = (Dir::new(), Dir::new());
    let (_leader, mut leading) = from.open();
    apply(&mut leading, commands(1..=10)).await.unwrap();
    let snapshot = build(&mut leading).await;
    let (state, mut machine) = to.open();
    apply(&mut machine, commands(1..=12)).await.unwrap();
    let received = send(&snapshot, &state).await;
    machine.install_snapshot(&snapshot.meta(), received).await.unwrap();
    assert_eq!(*state.applied().borrow(), 12);
    assert!(state.shared.app.replaced_with.lock().is_empty());
    assert_eq!(to.snapshots(), Vec::<String>::new());
}

// A snapshot that is not what it claims must not be installed, and must leave nothing on the disk.
#[tokio::test]
async fn a_snapshot_with_another_content_is_refused() {
    let (from, to) = (Dir::new(), Dir::new());
    let (_leader, mut leading) = from.open();
    apply(&mut leading, commands(1..=10)).await.unwrap();
    let snapshot = build(&mut leading).await;
    let (state, _machine) = to.open();
    let (mut reader, mut writer) = (snapshot.pack().await.unwrap(), state.receive_snapshot().await.unwrap());
    while let Some(chunk) = reader.next().await.unwrap() {
        writer.write(chunk).await.unwrap();
    }
    let mut claimed = snapshot.meta();
    claimed.last_log_id = Some(log_id(1, 11));
    assert!(writer.finish(&claimed, reader.sha256()).await.is_err());
    let mut abandoned = state.receive_snapshot().await.unwrap();
    abandoned.write(bytes::Bytes::from_static(b"CFXSNAP1")).await.unwrap();
    drop(abandoned);
    assert_eq!(to.snapshots(), Vec::<String>::new());
}

// Snapshots must not fill the disk: one is kept, and what a dead process left goes at the next start.
#[tokio::test]
async fn one_snapshot_is_kept() {
    let dir = Dir::new();
    let (state, mut machine) = dir.open();
    apply(&mut machine, commands(1..=10)).await.unwrap();
    let first = build(&mut machine).await;
    apply(&mut machine, commands(11..=20)).await.unwrap();
    build(&mut machine).await;
    assert_eq!(dir.snapshots().len(), 2, "one that is being sent stays");
    drop(first);
    assert_eq!(dir.snapshots().len(), 1);
    fs::create_dir(dir.temp.path().join("snapshots/in-1")).unwrap();
    fs::create_dir(dir.temp.path().join("snapshots/9-damaged")).unwrap();
    fs::create_dir_all(dir.temp.path().join("state/in-2")).unwrap();
    drop((state, machine));
    let (state, _machine) = dir.open();
    assert_eq!((dir.snapshots().len(), state.snapshot_index()), (1, 20));
    assert!(!dir.temp.path().join("state/in-2").exists());
}

// Reading while a snapshot is installed must give the old state or the new one, never a mixture or an error.
#[tokio::test]
async fn a_view_outlives_its_generation() {
    let (from, to) = (Dir::new(), Dir::new());
    let (_leader, mut leading) = from.open();
    apply(&mut leading, commands(1..=10)).await.unwrap();
    let snapshot = build(&mut leading).await;
    let (state, mut machine) = to.open();
    apply(&mut machine, vec![command(1, "set old 1")]).await.unwrap();
    let received = send(&snapshot, &state).await;
    let (reading, began) = std::sync::mpsc::channel();
    let (replaced, go_on) = std::sync::mpsc::channel::<()>();
    let reader = state.clone();
    let thread = std::thread::spawn(move || {
        reader.view(|view| {
            reading.send(()).unwrap();
            go_on.recv().unwrap();
            view.get(b"old").unwrap()
        })
    });
    began.recv().unwrap();
    machine.install_snapshot(&snapshot.meta(), received).await.unwrap();
    replaced.send(()).unwrap();
    assert_eq!(thread.join().unwrap().unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(value(&state, "k10").as_deref(), Some("v10"));
}

// A snapshot that is taken while entries are applied must be of one moment, and say of which.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_under_load_is_of_one_moment() {
    let (from, to) = (Dir::new(), Dir::new());
    let (_leader, mut leading) = from.open();
    apply(&mut leading, commands(1..=10)).await.unwrap();
    let mut builder = leading.get_snapshot_builder().await;
    let building = tokio::spawn(async move {
        let mut snapshots = Vec::new();
        for _ in 0..5 {
            snapshots.push(builder.build_snapshot().await.unwrap().snapshot);
        }
        snapshots
    });
    let mut index = 10;
    while !building.is_finished() {
        apply(&mut leading, commands(index + 1..=index + 20)).await.unwrap();
        index += 20;
    }
    let (state, mut machine) = to.open();
    for snapshot in building.await.unwrap() {
        let received = send(&snapshot, &state).await;
        machine.install_snapshot(&snapshot.meta(), received).await.unwrap();
        let (rows, at) = (keys(&state).len() as u64, *state.applied().borrow());
        assert_eq!(rows, at);
        assert!(at >= snapshot.meta().last_log_id.unwrap().index());
    }
}
