//! Durable changes: a new version of one config of 1,000 and its release, in one entry, against a put of one key of 1,000.

use anyhow::Result;

use super::{KEYS, Kind, Pair};
use crate::{compare::compare, connection::Protocol, results::Results};

/// What the page calls it.
const NAME: &str = "put and release / put";

/// 1 KiB, then other sizes where they are wanted.
pub async fn measure(pair: &Pair<'_>, results: &mut Results) -> Result<()> {
    results.comparisons.retain(|c| c.kind != Kind::Change);
    let conflux = pair.conflux_side(pair.conflux.puts(1024, KEYS, false), Protocol::Http2)?;
    let etcd = pair.etcd_side(pair.etcd.puts(1024, KEYS, false))?;
    pair.loops(results, Kind::Change, NAME, 1024, (&conflux, &etcd)).await?;
    let sizes: &[usize] = if pair.run.sizes { &[256, 16 << 10] } else { &[] };
    for size in sizes {
        let conflux = pair.conflux_side(pair.conflux.puts(*size, KEYS, false), Protocol::Http2)?;
        let etcd = pair.etcd_side(pair.etcd.puts(*size, KEYS, false))?;
        results.comparisons.push(compare(pair.case(Kind::Change, NAME, *size, 64), &conflux, &etcd).await?);
    }
    Ok(())
}
