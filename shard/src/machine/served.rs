//! Copies of the versions that a config's rules point at, in the config's own row, so that a fetch reads no row of a version: where keys
//! lie all over a million configs, each row is a block of the disk (docs/adr/0008-speed.md).

use std::collections::BTreeSet;

use conflux_proto::store;
use conflux_raft::{FatalError, Read};

use super::levels;
use crate::store::version;

/// Copies in one row, of the newest versions: a config with more of them at once is rare, and its row must stay small.
pub(super) const MAX: usize = 8;

/// Makes the copies those of the present rules. A version never changes: a copy that is there stays. Below [`levels::COPIES`] there is none, as a
/// member would have it that runs a release which does not know them.
pub(super) fn renew(rows: &dyn Read, tenant: u64, config: &mut store::Config, level: u32) -> Result<(), FatalError> {
    let had = std::mem::take(&mut config.served);
    if level < levels::COPIES {
        return Ok(());
    }
    let numbers: BTreeSet<u64> = config.rules.iter().map(|rule| rule.version).collect();
    for number in numbers.into_iter().rev().take(MAX) {
        let copy = match had.iter().find(|copy| copy.number == number) {
            Some(copy) => Some(copy.clone()),
            None => version::get(rows, tenant, config.id, number)?.map(version::served),
        };
        config.served.extend(copy);
    }
    Ok(())
}
