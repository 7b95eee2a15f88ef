//! Reads of one config of 1,000, through the gateway, against reads of one key of 1,000.

use anyhow::Result;

use super::{KEYS, Kind, Pair};
use crate::{compare::compare, connection::Protocol, results::Results};

/// Stale against serializable, linearizable against linearizable; then HTTP/1.1, and other sizes where they are wanted.
pub async fn measure(pair: &Pair<'_>, results: &mut Results) -> Result<()> {
    results.comparisons.retain(|c| c.kind != Kind::Fetch);
    for (consistency, name) in
        [("stale", "fetch stale / serializable range"), ("linearizable", "fetch linearizable / linearizable range")]
    {
        let conflux = pair.conflux_side(pair.conflux.fetches(1024, KEYS, consistency), Protocol::Http2)?;
        let etcd = pair.etcd_side(pair.etcd.ranges(1024, KEYS, consistency == "stale"))?;
        pair.loops(results, Kind::Fetch, name, 1024, (&conflux, &etcd)).await?;
    }
    if !pair.run.quick {
        let conflux = pair.conflux_side(pair.conflux.fetches(1024, KEYS, "stale"), Protocol::Http1)?;
        let etcd = pair.etcd_side(pair.etcd.ranges(1024, KEYS, true))?;
        let case = pair.case(Kind::Fetch, "fetch stale over HTTP/1.1 / serializable range", 1024, 64);
        results.comparisons.push(compare(case, &conflux, &etcd).await?);
    }
    let sizes: &[usize] = if pair.run.sizes { &[256, 16 << 10] } else { &[] };
    for size in sizes {
        pair.fill(*size).await?;
        let conflux = pair.conflux_side(pair.conflux.fetches(*size, KEYS, "stale"), Protocol::Http2)?;
        let etcd = pair.etcd_side(pair.etcd.ranges(*size, KEYS, true))?;
        let case = pair.case(Kind::Fetch, "fetch stale / serializable range", *size, 64);
        results.comparisons.push(compare(case, &conflux, &etcd).await?);
    }
    Ok(())
}
