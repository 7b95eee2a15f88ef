//! A group's backup, and a group made of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{path::Path, sync::Arc, time::Duration};

use conflux_raft::{
    FatalError, OpenError,
    backup::{BackupStream, Description, Frame, FrameReader, Offline, Origin, Restoring},
};
use support::{Group, PATIENCE, Rows};

/// A backup in memory.
struct Taken {
    description: Description,
    data: Vec<u8>,
    sha256: [u8; 32],
}

async fn read(mut stream: BackupStream) -> Taken {
    let (mut reader, mut data, mut description) = (FrameReader::default(), Vec::new(), None);
    while let Some(bytes) = stream.next().await.unwrap() {
        reader.push(&bytes);
        while let Some(frame) = reader.next_frame().unwrap() {
            match frame {
                Frame::Description(told) => description = Some(told),
                Frame::Data(bytes) => data.extend_from_slice(&bytes),
                Frame::Contents(_) => {}
                Frame::End(sha256) => return Taken { description: description.unwrap(), data, sha256 },
                Frame::Failed(why) => panic!("{why}"),
            }
        }
    }
    panic!("the stream has no end");
}

async fn backup(group: &Group, i: usize) -> Taken {
    read(group.node(i).backup(Duration::from_secs(20)).await.unwrap()).await
}

fn restore(taken: &Taken, into: &Path) -> Result<(), OpenError> {
    let mut restoring = Restoring::begin(into)?;
    for part in taken.data.chunks(10_000) {
        restoring.write(part).map_err(|e| FatalError(e.to_string()))?;
    }
    let origin =
        Origin { cluster: "test".into(), group: "s1".into(), backup: "b".into(), restored_ms: 1_700_000_000_000 };
    restoring.finish(taken.sha256, &taken.description.position, &origin, |_| Ok(()), |_| Ok(()))
}

async fn destroy(group: &mut Group) {
    for i in group.up() {
        group.kill(i).await;
    }
    for i in 0..group.settings.len() {
        group.wipe(i).await;
    }
}

/// A process under these settings that must end by itself, and what it says.
async fn failure(group: &Group, i: usize) -> String {
    let node = group.try_start(&group.settings[i]).await.unwrap();
    let failed = tokio::time::timeout(PATIENCE, node.failed()).await.expect("it fails");
    node.abandon().await;
    failed.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_group_comes_back_from_its_backup() {
    // Whichever member was restored, and also where the others start first.
    let mut group = Group::of(3).await;
    let large = "x".repeat(200_000);
    for n in 0..30 {
        group.put(&format!("k{n}={large}")).await;
    }
    group.put("a=1").await;
    let taken = backup(&group, group.a_follower().await).await;
    let leader = group.leader().await;
    let before = group.rows(leader);
    assert_eq!(taken.description.founding.len(), 32);
    group.put("late=1").await;
    destroy(&mut group).await;

    for restored in [1, 0] {
        restore(&taken, &group.settings[restored].data_dir).unwrap();
        let others: Vec<usize> = (0..3).filter(|i| *i != restored).collect();
        for i in &others {
            group.start(*i).await;
        }
        group.sees(others[0], "an empty directory", |s| s.state == "standby").await;
        group.start(restored).await;
        for i in 0..3 {
            group.has(i, "a", "1").await;
            group.sees(i, "three voters", |s| s.members.iter().filter(|m| m.voter).count() == 3).await;
            assert_eq!(group.rows(i), before, "what came after the backup is not there");
            let status = group.node(i).status().borrow().clone();
            assert!(status.node_id > 1000, "an id of the old group: {status:?}");
            assert_eq!(status.restored_ms, 1_700_000_000_000);
        }
        group.put("b=2").await;
        // All of them, with what they have on disk.
        for i in group.up() {
            group.kill(i).await;
        }
        group.start_all().await;
        group.put("c=3").await;
        for i in 0..3 {
            group.has(i, "b", "2").await;
            group.has(i, "c", "3").await;
        }
        destroy(&mut group).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_what_was_acknowledged_before_it_began() {
    // Also one that is taken on a follower, which hears of a commit only with the next message.
    let group = Group::of(3).await;
    for n in 0..20 {
        group.put(&format!("n={n}")).await;
        let leader = group.leader().await;
        let index = group.node(leader).freshness().applied_index;
        let taken = backup(&group, (leader + 1) % 3).await;
        assert!(taken.description.position.index >= index, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_lives_is_not_restored_beside() {
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let taken = backup(&group, 0).await;
    group.kill(0).await;
    group.wipe(0).await;
    restore(&taken, &group.settings[0].data_dir).unwrap();
    let why = failure(&group, 0).await;
    assert!(why.contains("has data of a group of this name"), "{why}");
    // The others did not mind it, and it may come back the ordinary way.
    group.wipe(0).await;
    group.start(0).await;
    group.put("b=2").await;
    group.has(0, "b", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restored_members_are_no_group() {
    // Each would lead a group of its own.
    let mut group = Group::of(3).await;
    group.put("a=1").await;
    let taken = backup(&group, 0).await;
    destroy(&mut group).await;
    for i in [0, 1] {
        restore(&taken, &group.settings[i].data_dir).unwrap();
    }
    group.start(0).await;
    let why = failure(&group, 1).await;
    assert!(why.contains("was restored from a backup too"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_leaves_nothing() {
    let mut group = Group::of(1).await;
    group.put("a=1").await;
    let good = backup(&group, 0).await;
    let into = group.dir.path().join("new");
    let with = |data: Vec<u8>| Taken { data, description: good.description.clone(), sha256: good.sha256 };
    let mut flipped = good.data.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut elsewhere = with(good.data.clone());
    elsewhere.description.position.index += 1;
    for (what, bad) in [
        ("flipped", with(flipped)),
        ("truncated", with(good.data[..good.data.len() - 10].to_vec())),
        ("of another position", elsewhere),
    ] {
        assert!(restore(&bad, &into).is_err(), "{what}");
        assert!(!into.exists(), "{what}");
    }
    // A directory that is there stays, empty.
    std::fs::create_dir(&into).unwrap();
    assert!(restore(&with(good.data[..100].to_vec()), &into).is_err());
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 0);
    // And one with data is not touched.
    let used = group.settings[0].data_dir.clone();
    let refused = restore(&good, &used).unwrap_err().to_string();
    assert!(refused.contains("an empty directory only"), "{refused}");
    group.kill(0).await;
    group.start(0).await;
    group.has(0, "a", "1").await;
    // A part of a restore is nothing to start on.
    let mut settings = group.settings[0].clone();
    settings.data_dir = group.dir.path().join("half");
    let mut half = Restoring::begin(&settings.data_dir).unwrap();
    half.write(&good.data[..100]).unwrap();
    let Err(OpenError::Refused(why)) = group.try_start(&settings).await else { panic!("it was opened") };
    assert!(why.contains("did not end"), "{why}");
    drop(half);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_survivor_is_rescued_with_all_of_its_log() {
    let mut group = Group::of(3).await;
    for n in 0..50 {
        group.put(&format!("k{n}={n}")).await;
    }
    let survivor = group.a_follower().await;
    group.has(survivor, "k49", "49").await;
    let dir = group.settings[survivor].data_dir.clone();
    let busy = Offline::open(&dir, Arc::new(Rows::default())).err().expect("a process uses it");
    assert!(busy.to_string().contains("LOCK") || busy.to_string().contains("lock"), "{busy}");
    for i in group.up() {
        group.kill(i).await;
    }
    for i in (0..3).filter(|i| *i != survivor) {
        group.wipe(i).await;
    }
    let taken = {
        let offline = tokio::task::spawn_blocking(move || Offline::open(&dir, Arc::new(Rows::default())).unwrap());
        let offline = offline.await.unwrap();
        read(offline.backup().await.unwrap()).await
    };
    group.wipe(survivor).await;
    restore(&taken, &group.settings[0].data_dir).unwrap();
    group.start_all().await;
    for i in 0..3 {
        group.has(i, "k49", "49").await;
    }
    assert!(Offline::open(&group.dir.path().join("nowhere"), Arc::new(Rows::default())).is_err());
    assert!(!group.dir.path().join("nowhere").exists());
}
