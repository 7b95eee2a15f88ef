//! The same seed must give the same run: what cannot be run again cannot be understood.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{path::Path, process::Command};

fn trace(seed: u64, file: &Path) -> Vec<u8> {
    let ran = Command::new(env!("CARGO_BIN_EXE_conflux-sim"))
        .args(["replay", "--seed", &seed.to_string(), "--trace"])
        .arg(file)
        .output()
        .expect("run conflux-sim");
    assert!(ran.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&ran.stdout));
    std::fs::read(file).expect("read the trace")
}

/// Two processes, with hash maps and addresses of their own, byte for byte.
#[test]
fn a_seed_gives_the_same_trace_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    for seed in [1, 2, 3] {
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        let (first, second) = (trace(seed, &first), trace(seed, &second));
        assert!(first.len() > 10_000, "a trace of {} bytes tells nothing", first.len());
        let differs = first.split(|b| *b == b'\n').zip(second.split(|b| *b == b'\n')).find(|(a, b)| a != b);
        let shown =
            differs.map(|(a, b)| (String::from_utf8_lossy(a).into_owned(), String::from_utf8_lossy(b).into_owned()));
        assert!(first == second, "seed {seed} differs at {shown:?}");
    }
}

/// Another seed is another run.
#[test]
fn another_seed_gives_another_trace() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_ne!(trace(4, &directory.path().join("4")), trace(5, &directory.path().join("5")));
}
