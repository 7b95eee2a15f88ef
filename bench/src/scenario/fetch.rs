//! Reads of one config of many, through the gateway, against reads of one key of as many.

use anyhow::Result;

use super::{
    Kind,
    pair::{CONFLUX, Pair, case, loops, measured},
};
use crate::{conflux::Space, connection::Protocol, results::Results};

/// Stale against serializable, at a rising number of requests in flight and at an offered rate.
pub const STALE: &str = "fetch stale / serializable range";
/// Linearizable against linearizable.
pub const LINEARIZABLE: &str = "fetch linearizable / linearizable range";
const LEADER: &str = "fetch leader / serializable range";
const HTTP1: &str = "fetch stale over HTTP/1.1 / serializable range";
const UNCHANGED: &str = "fetch stale, If-None-Match: 304 / range of the key without its value";

/// Configs with rules by label, and the numbers of their rules.
const LABELLED: u64 = 100;
const RULES: [u64; 3] = [1, 10, 100];

/// All of it; the second gateway runs meanwhile.
pub async fn measure(pair: &mut Pair, results: &mut Results) -> Result<()> {
    pair.start_proxying().await?;
    let measured = levels(pair, results).await;
    pair.stop_proxying().await?;
    measured
}

async fn levels(pair: &mut Pair, results: &mut Results) -> Result<()> {
    pair.fill(1024).await?;
    let (plan, space) = (pair.plan.clone(), pair.space(1024));
    let keys = space.configs;
    let serializable = pair.etcd(pair.etcd.ranges(1024, keys, true, false))?;
    let mut sides = pair.fetching(&space.fetches("stale"), Protocol::Http2)?;
    sides.push(serializable.clone());
    loops(&plan, results, Kind::Fetch, STALE, &sides).await?;

    let linearizable = pair.etcd(pair.etcd.ranges(1024, keys, false, false))?;
    let sides = [pair.conflux(CONFLUX, space.fetches("linearizable"), Protocol::Http2)?, linearizable];
    loops(&plan, results, Kind::Fetch, LINEARIZABLE, &sides).await?;

    let sides = [pair.conflux(CONFLUX, space.fetches("leader"), Protocol::Http2)?, serializable.clone()];
    measured(results, case(&plan, Kind::Fetch, LEADER, 1024, 64), &sides).await?;

    let etags = space.etags(&pair.conflux.endpoint(Protocol::Http2)?.connect().await?).await?;
    let mut sides = pair.fetching(&space.unchanged_fetches(etags), Protocol::Http2)?;
    sides.push(pair.etcd(pair.etcd.ranges(1024, keys, true, true))?);
    measured(results, case(&plan, Kind::Fetch, UNCHANGED, 1024, 64), &sides).await?;

    let mut sides = pair.fetching(&space.fetches("stale"), Protocol::Http1)?;
    sides.push(serializable.clone());
    measured(results, case(&plan, Kind::Fetch, HTTP1, 1024, 64), &sides).await?;

    for rules in RULES {
        let space = Space::new(vec![pair.demo.clone()], &format!("rules{rules}-"), 1024, LABELLED);
        space.release_by_label(&pair.conflux.endpoint(Protocol::Http2)?.connect().await?, rules).await?;
        let mut sides = pair.fetching(&space.labelled_fetches(rules), Protocol::Http2)?;
        sides.push(serializable.clone());
        let name = format!("fetch stale by label, rules: {rules} / serializable range");
        measured(results, case(&plan, Kind::Fetch, &name, 1024, 64), &sides).await?;
    }
    for (size, concurrency) in plan.grid() {
        pair.fill(size).await?;
        let mut sides = pair.fetching(&pair.space(size).fetches("stale"), Protocol::Http2)?;
        sides.push(pair.etcd(pair.etcd.ranges(size, plan.keys(size), true, false))?);
        measured(results, case(&plan, Kind::Fetch, STALE, size, concurrency), &sides).await?;
    }
    Ok(())
}
