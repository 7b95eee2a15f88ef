//! What only the whole of a tenant shows: every reference, version and draft is counted, every promotion is in the index.

use std::collections::{BTreeMap, BTreeSet};

use conflux_proto::store;
use prost::Message;

use super::bench::*;
use crate::{machine::tally::recount, store::keys::Key};

/// Checks all rows of [`TENANT`].
pub fn check(bench: &Bench) {
    let rows = bench.rows();
    let of = |key: &'_ [u8]| key.to_vec();
    let mut held: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut counted: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let (mut versions, mut drafts) = (BTreeMap::<u64, u64>::new(), 0);
    let (mut promised, mut indexed) = (BTreeSet::new(), BTreeSet::new());
    let mut kept: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut bytes, mut contents) = (0, 0);
    for (key, value) in &rows {
        match Key::decode(key).unwrap() {
            Key::Version { config, .. } => {
                *versions.entry(config).or_default() += 1;
                *held.entry(of(&store::Version::decode(value.as_slice()).unwrap().sha256)).or_default() += 1;
            }
            Key::Draft { .. } => {
                drafts += 1;
                *held.entry(of(&store::Draft::decode(value.as_slice()).unwrap().sha256)).or_default() += 1;
            }
            Key::ContentReferences { sha256, .. } => {
                counted.insert(of(&sha256), store::ContentReferences::decode(value.as_slice()).unwrap().count);
            }
            Key::Content { .. } => {
                contents += 1;
                bytes += store::Content::decode(value.as_slice()).unwrap().data.len() as u64;
            }
            Key::Config { config, .. } => {
                let row = store::Config::decode(value.as_slice()).unwrap();
                kept.insert(config, row.versions);
                promised.extend(row.promotion.map(|p| (p.due_ms, config)));
            }
            Key::Promotion { due_ms, config, .. } => {
                indexed.insert((due_ms, config));
            }
            _ => {}
        }
    }
    let row = bench.row();
    let counts = bench.state.read(|view| recount(view, TENANT));
    assert_eq!((row.rows_hash.clone(), row.rows, row.row_bytes), counts, "every row is counted and in the sum");
    assert_eq!(held, counted, "each content is counted as often as it is held");
    assert_eq!((contents, bytes), (counted.len(), row.content_bytes), "each content is there once");
    assert_eq!(versions.values().sum::<u64>(), row.versions, "versions are counted");
    assert_eq!(drafts, row.drafts, "drafts are counted");
    assert_eq!(promised, indexed, "the index of promotions is that of the configs");
    for (config, kept) in kept {
        assert_eq!(versions.get(&config).copied().unwrap_or(0), kept, "versions of config {config} are counted");
    }
}
