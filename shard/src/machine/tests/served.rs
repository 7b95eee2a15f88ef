//! Copies of versions in the rows of their configs.

use std::cell::Cell;

use conflux_common::labels::Labels;
use conflux_proto::{
    log::{UpdateConfig, shard_command::Op},
    store,
};
use conflux_raft::{FatalError, Read, view::Visit};

use super::{bench::*, commands::*};
use crate::{
    machine::{levels::COPIES, served::MAX},
    query,
    store::config,
};

/// Counts the rows that are asked for by key.
struct Counted<'r> {
    rows: &'r dyn Read,
    gets: Cell<usize>,
}

impl Read for Counted<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        self.gets.set(self.gets.get() + 1);
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError> {
        self.rows.scan(from, to, visit)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError> {
        self.rows.scan_back(from, to, visit)
    }
}

fn row(bench: &Bench) -> store::Config {
    bench.state.read(|view| config::get(view, TENANT, 1)).unwrap().unwrap()
}

fn copies(bench: &Bench) -> Vec<u64> {
    row(bench).served.iter().map(|copy| copy.number).collect()
}

/// How many rows a fetch without labels reads, and of which version it is.
fn fetch(bench: &Bench) -> (usize, u64) {
    let mut gets = 0;
    let fetched = bench.read(|view, tenant| {
        let rows = Counted { rows: view, gets: Cell::new(0) };
        let fetched = query::fetch(&rows, tenant, "app", "env", "a", &Labels::default());
        gets = rows.gets.get();
        fetched
    });
    (gets, fetched.unwrap().version)
}

/// Name, config, content: and not the version's row, which lies elsewhere.
#[test]
fn a_fetch_reads_no_row_of_a_version() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    assert_eq!(fetch(&bench), (3, 1));
    bench.write(put("a", "x: 2")).unwrap();
    assert_eq!((copies(&bench), fetch(&bench)), (vec![2], (3, 2)));
    // One that is no longer pointed at has no copy, and others keep theirs.
    bench.write(Op::Publish(publish(1, "x: 3", targeted("host", "a")))).unwrap();
    assert_eq!(copies(&bench), [3, 2]);
    bench.write(Op::Publish(publish_version(1, 3, all()))).unwrap();
    assert_eq!((copies(&bench), fetch(&bench)), (vec![3], (3, 3)));
}

/// A member of an older release drops what it does not know whenever it writes the row: below the level the newer one does too.
#[test]
fn there_is_no_copy_before_all_members_know_it() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 1")).unwrap();
    assert_eq!(copies(&bench), [1]);
    bench.level = COPIES - 1;
    bench.write(put("a", "x: 2")).unwrap();
    assert_eq!((copies(&bench), fetch(&bench)), (Vec::new(), (4, 2)));
    bench.level = COPIES;
    let described = UpdateConfig { description: Some("copied again".into()), ..update(1) };
    bench.write(Op::UpdateConfig(described)).unwrap();
    assert_eq!((copies(&bench), fetch(&bench)), (vec![2], (3, 2)));
}

/// A row does not grow with the number of rules.
#[test]
fn only_the_newest_have_copies() {
    let mut bench = Bench::active();
    bench.write(put("a", "x: 0")).unwrap();
    let mut rules = vec![rule(&[], 1, 0)];
    for number in 2..=MAX as u64 + 2 {
        bench.write(add_version(1, &format!("x: {number}"))).unwrap();
        rules.push(rule(&[("host", &number.to_string())], number, 1));
    }
    bench.write(releases(1, rules)).unwrap();
    assert_eq!(copies(&bench), (3..=MAX as u64 + 2).rev().collect::<Vec<_>>());
    assert_eq!(fetch(&bench), (4, 1));
}
