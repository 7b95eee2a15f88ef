//! Nineteen fetches to a change: what changes is fetched at once by everybody else.

use anyhow::Result;

use super::{
    Kind,
    pair::{Pair, loops},
};
use crate::{connection::Protocol, results::Results};

/// What the page calls it.
const NAME: &str = "95 % fetch stale, 5 % put and release / 95 % serializable range, 5 % put";

/// Changes of a hundred requests.
const CHANGES: u64 = 5;

/// With edge reads and without.
pub async fn measure(pair: &mut Pair, results: &mut Results) -> Result<()> {
    pair.fill(1024).await?;
    pair.start_proxying().await?;
    let measured = mixed(pair, results).await;
    pair.stop_proxying().await?;
    measured
}

async fn mixed(pair: &Pair, results: &mut Results) -> Result<()> {
    let (space, keys) = (pair.space(1024), pair.plan.keys(1024));
    let mut sides = pair.fetching(&space.fetches("stale").with(space.puts(), CHANGES), Protocol::Http2)?;
    let ranges = pair.etcd.ranges(1024, keys, true, false);
    sides.push(pair.etcd(ranges.with(pair.etcd.puts(1024, keys), CHANGES))?);
    loops(&pair.plan, results, Kind::Mixed, NAME, &sides).await
}
