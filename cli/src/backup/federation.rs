//! The whole federation: tenants are held as they are, each group is backed up, placement last, and all of it must fit together.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use conflux_raft::backup::Content;
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    PLACEMENT,
    group::{Source, Stored, take},
    hold::Hold,
    manifest::{Kind, Manifest},
    store::Store,
};
use crate::{
    client::Client,
    command::{cell, items, pages},
};

/// What is under way when the hold begins has so long to end.
const SETTLE: Duration = Duration::from_secs(120);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(250);

/// A tenant as placement has it: what must be the same before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    name: String,
    state: String,
    shard: String,
    epoch: u64,
    incarnation: u64,
}

type Records = BTreeMap<u64, Record>;

/// Backs it up.
pub async fn of_all(client: &Client, store: &Store) -> anyhow::Result<Manifest> {
    let hold = Hold::begin(client, "a backup of the federation").await?;
    // Ended before whatever went wrong is told.
    let made = held(client, store, &hold).await;
    hold.end().await;
    made
}

async fn held(client: &Client, store: &Store, hold: &Hold) -> anyhow::Result<Manifest> {
    let before = settled(client).await?;
    let shards = client.json(client.call(Method::GET, &["api", "v1", "admin", "shards"])).await?;
    let mut stored = Vec::new();
    for shard in items(&shards, "shards") {
        let name = cell(shard, "name");
        stored.push(take(Source::member(client, &name).await?, store, &name).await?);
    }
    let placement = take(Source::member(client, PLACEMENT).await?, store, PLACEMENT).await?;
    hold.prove().await?;
    let after = records(client).await?;
    if before != after {
        bail!("placement's records changed during the backup ({}): try again", difference(&before, &after));
    }
    fits(&before, &stored, &placement)?;
    let cluster = placement.cluster.clone();
    if let Some(other) = stored.iter().find(|s| s.cluster != cluster) {
        bail!("{} is of {}, placement of {cluster}", other.part.group, other.cluster);
    }
    let tenants = placement.contents.iter().filter(|c| c.id != 0).cloned().collect();
    stored.push(placement);
    Ok(Manifest::new(Kind::Federation, cluster, stored.into_iter().map(|s| s.part).collect(), tenants))
}

/// Waits until every tenant is where it is to stay.
async fn settled(client: &Client) -> anyhow::Result<Records> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let now = records(client).await?;
        let Some((id, moving)) = now.iter().find(|(_, record)| record.state != "stable") else { return Ok(now) };
        if Instant::now() > deadline {
            bail!(
                "tenant {} ({id}) is still {} after {} s: see to it first",
                moving.name,
                moving.state,
                SETTLE.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn records(client: &Client) -> anyhow::Result<Records> {
    let tenants = pages(client, &["api", "v1", "admin", "tenants"], &[], "tenants").await?;
    let number = |t: &Value, key: &str| t[key].as_u64().with_context(|| format!("a tenant without {key}"));
    tenants
        .iter()
        .map(|t| {
            let record = Record {
                name: cell(t, "name"),
                state: if t["move"].is_null() { cell(t, "state") } else { "moving".into() },
                shard: cell(t, "shard"),
                epoch: number(t, "epoch")?,
                incarnation: number(t, "incarnation")?,
            };
            Ok((number(t, "id")?, record))
        })
        .collect()
}

fn difference(before: &Records, after: &Records) -> String {
    let ids = before.keys().chain(after.keys());
    let first = ids.into_iter().find(|id| before.get(id) != after.get(id));
    first.map_or_else(String::new, |id| match before.get(id).or_else(|| after.get(id)) {
        Some(record) => format!("tenant {}", record.name),
        None => format!("tenant {id}"),
    })
}

/// Whether what was read of the groups is what placement says of them. Pure.
fn fits(records: &Records, shards: &[Stored], placement: &Stored) -> anyhow::Result<()> {
    let inside: Records = placement.contents.iter().filter(|c| c.id != 0).map(of_content).collect();
    if inside != *records {
        bail!(
            "placement's part holds other records than placement showed ({}): try again",
            difference(&inside, records)
        );
    }
    for (id, record) in records {
        let shard = shards.iter().find(|s| s.part.group == record.shard);
        let shard =
            shard.with_context(|| format!("tenant {} is on {}, which was not backed up", record.name, record.shard))?;
        let held = shard.contents.iter().find(|c| c.id == *id);
        if !held.is_some_and(|c| c.epoch == record.epoch && c.state == "active") {
            bail!(
                "tenant {} is on {} at epoch {}, but its part has {}: the federation has a fault, see `conflux restored list`",
                record.name,
                record.shard,
                record.epoch,
                held.map_or("nothing of it".to_owned(), |c| format!("it as {} at epoch {}", c.state, c.epoch))
            );
        }
    }
    Ok(())
}

fn of_content(c: &Content) -> (u64, Record) {
    let (name, state, shard) = (c.name.clone(), c.state.clone(), c.shard.clone());
    (c.id, Record { name, state, shard, epoch: c.epoch, incarnation: c.incarnation })
}

#[cfg(test)]
mod tests {
    use super::{super::manifest::Part, *};

    fn stored(group: &str, contents: Vec<Content>) -> Stored {
        let part = Part { group: group.into(), member: "m".into(), bytes: 1, manifest_sha256: String::new() };
        Stored { part, cluster: "c".into(), contents }
    }

    fn content(id: u64, state: &str, shard: &str, epoch: u64) -> Content {
        let (name, state, shard) = (format!("t{id}"), state.to_owned(), shard.to_owned());
        Content { id, name, state, shard, epoch, incarnation: 1, ..Content::default() }
    }

    /// A backup whose parts do not belong together must not become one that somebody restores.
    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let records: Records =
            [content(1, "stable", "a", 1), content(2, "stable", "b", 3)].iter().map(of_content).collect();
        let placement = || {
            stored(
                PLACEMENT,
                vec![content(0, "placement", "", 0), content(1, "stable", "a", 1), content(2, "stable", "b", 3)],
            )
        };
        let shards = |epoch, state| {
            vec![stored("a", vec![content(1, state, "", epoch)]), stored("b", vec![content(2, "active", "", 3)])]
        };
        fits(&records, &shards(1, "active"), &placement()).unwrap();
        assert!(fits(&records, &shards(2, "active"), &placement()).is_err(), "moved away and back in between");
        assert!(fits(&records, &shards(1, "deleting"), &placement()).is_err());
        assert!(fits(&records, &shards(1, "active")[..1], &placement()).is_err(), "a shard is missing");
        let lost = vec![stored("a", Vec::new()), stored("b", vec![content(2, "active", "", 3)])];
        let error = fits(&records, &lost, &placement()).unwrap_err().to_string();
        assert!(error.contains("t1") && error.contains("nothing of it"), "{error}");
        let other = stored(PLACEMENT, vec![content(1, "stable", "a", 1)]);
        assert!(fits(&records, &shards(1, "active"), &other).unwrap_err().to_string().contains("t2"));
    }
}
