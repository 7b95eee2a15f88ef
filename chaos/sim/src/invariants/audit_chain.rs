//! The chain of accepted changes of every tenant is whole on every member that has it: the shard's own check of a backup.

use conflux_raft::{FatalError, Read, view::Visit};
use rocksdb::simulation::Contents;

use super::Evidence;
use crate::world::{disks, hosts};

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for group in hosts::GROUPS.into_iter().filter(|group| *group != "placement" && evidence.complete) {
        for member in hosts::members(group) {
            let Some(state) = disks::state(&member) else { continue };
            conflux_shard::backup::check(&Rows(state)).map_err(|broken| format!("{member}: {broken}"))?;
        }
    }
    Ok(())
}

/// The rows of a member, as the shard's code reads them.
struct Rows(Contents);

impl Read for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        Ok(self.0.get("rows", key).map(<[u8]>::to_vec))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError> {
        for (key, value) in self.0.range("rows", from, Some(to)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError> {
        for (key, value) in self.0.range("rows", from, Some(to)).rev() {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
