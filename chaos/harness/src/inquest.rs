//! What is asked of the federation once all is healed, and the verdicts on the whole.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, path::Path, time::Duration};

use anyhow::{Context, Result};
use conflux_tests::{Client, Federation, load::Acknowledged, replica};
use futures::FutureExt;

use crate::{
    checks::{self, Finding, Stored},
    ground::{Ground, Tenant, eventually, place},
    history::{Call, Told, document, hash_of, revision_of},
    nemesis::Nemesis,
    workload::Shared,
};

/// How soon after healing everything goes again.
pub const HEALS_WITHIN: Duration = Duration::from_secs(30);

/// Writes are accepted and strong reads answered, on each tenant; the last revision of each, and how long it took.
pub async fn liveness(ground: &Ground, unfinished_moves: usize, nemesis: &Nemesis) -> (Finding, Vec<u64>) {
    let mut finding = Finding::new("liveness after healing");
    let (start, mut last) = (tokio::time::Instant::now(), Vec::new());
    for tenant in &ground.tenants {
        let mut revision = 0;
        for (n, client) in tenant.clients.iter().enumerate() {
            let attempt = || goes_again(client, tenant, n as u64);
            match eventually(HEALS_WITHIN.saturating_sub(start.elapsed()), attempt).await {
                Ok(r) => revision = revision.max(r),
                Err(why) => finding.wrong(|| format!("{} is not served again: {why:#}", tenant.name)),
            }
        }
        last.push(revision);
    }
    if unfinished_moves > 0 {
        finding.wrong(|| format!("{unfinished_moves} moves did not end within {HEALS_WITHIN:?}"));
    }
    for (at, name) in &nemesis.fallen {
        finding.wrong_at(*at, || format!("{name} ended by itself: see its log"));
    }
    for (at, words) in &nemesis.refused {
        finding.wrong_at(*at, || words.clone());
    }
    let ms = start.elapsed().as_millis();
    finding.looked_at =
        format!("{} tenants at {} gateways; all served {ms} ms after healing", last.len(), ground.operators.len());
    (finding, last)
}

async fn goes_again(client: &Client, tenant: &Tenant, n: u64) -> Result<u64> {
    let place = place(&tenant.name, "last");
    // No two of them are equal: a put of what is there already makes no revision.
    let put = client.put(&place, document(1_000_000_000 + n)).await?.expect(&[200, 201])?.json();
    client.fetch(&place, "?consistency=linearizable").await?.expect(&[200])?;
    put["revision"].as_str().and_then(revision_of).context("a revision")
}

/// Whether writes are accepted again; the last revision of each tenant.
pub async fn last_writes(ground: &Ground, within: Duration) -> Vec<u64> {
    let mut last = Vec::new();
    for tenant in &ground.tenants {
        let attempt = || goes_again(&tenant.clients[0], tenant, 7);
        last.push(eventually(within, attempt).await.unwrap_or(0));
    }
    last
}

/// No log that was opened had lost what its member had acknowledged as durable.
pub fn promises(witness: &Path) -> Finding {
    let mut finding = Finding::new("durable promises");
    let mut members = 0;
    for entry in std::fs::read_dir(witness).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|kind| kind != "broken") {
            members += 1;
            continue;
        }
        let words = std::fs::read_to_string(&path).unwrap_or_else(|e| e.to_string());
        finding.wrong(|| words);
    }
    finding.looked_at = format!("votes and entries of {members} logs, at every start");
    finding
}

/// What each watcher saw, once it has seen the last or half a minute is over.
pub async fn watchers(
    ground: &Ground,
    last: &[u64],
    calls: &[Call],
    within: Duration,
    sets: &mut Finding,
) -> (Finding, usize) {
    let mut finding = Finding::new("sequence of each watcher");
    let (mut events, mut resumed) = (0, 0);
    for (n, (tenant, last)) in ground.tenants.iter().zip(last).enumerate() {
        let (made, made_sets) = (checks::made_at(calls, n), checks::sets_at(calls, n));
        for watcher in &tenant.watchers {
            let caught_up = || async {
                let at = watcher.seen().last().map_or(0, |s| s.revision);
                anyhow::ensure!(at >= *last, "at {at}");
                Ok(())
            };
            let _ = eventually(within, caught_up).await; // the sequence says it in more words
            let told = watcher.seen();
            events += told.len();
            let told = checks::by_revision(told.iter().map(|s| (s.revision, s.name.as_str())));
            let seen: Vec<u64> = told.iter().map(|(revision, _)| *revision).collect();
            resumed += watcher.resumed();
            let name = format!("{:?} on {}", watcher.transport, tenant.name);
            checks::whole(&name, &told, &made_sets, sets);
            checks::sequence(&name, &seen, (tenant.watched_from, *last), &made, &mut finding);
        }
    }
    let count: usize = ground.tenants.iter().map(|t| t.watchers.len()).sum();
    finding.looked_at = format!("{events} events of {count} watchers, which resumed {resumed} times");
    (finding, events)
}

/// All stored versions of all registers.
pub async fn stored(ground: &Ground, shared: &Shared) -> Result<BTreeMap<(usize, String), Vec<Stored>>> {
    let configs = shared.configs.lock().clone();
    let mut all = BTreeMap::new();
    for ((tenant, register), id) in configs {
        let (name, client) = (&ground.tenants[tenant].name, &ground.tenants[tenant].clients[0]);
        let (mut versions, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/mgt/{name}/configs/{id}/versions?limit=1000&cursor={cursor}");
            let page = eventually(HEALS_WITHIN, || async { client.get(&path).await?.expect(&[200]) }).await?.json();
            for version in page["versions"].as_array().context("a list of versions")? {
                let number = version["number"].as_u64().context("a number")?;
                let hash = version["hash"].as_str().context("a hash")?.trim_start_matches("sha256:").to_owned();
                let created_ms = version["created_ms"].as_u64().context("its time")?;
                versions.push(Stored { number, hash, created_ms });
            }
            cursor = page["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        all.insert((tenant, register), versions);
    }
    Ok(all)
}

/// The audit chain of each tenant holds.
pub async fn audit(ground: &Ground, within: Duration) -> Finding {
    let mut finding = Finding::new("audit chain");
    let mut records = 0;
    for tenant in &ground.tenants {
        let path = format!("/api/v1/mgt/{}/audit/verify", tenant.name);
        let shown = eventually(within, || async { tenant.clients[0].get(&path).await?.expect(&[200]) }).await;
        match shown.map(|a| a.json()) {
            Ok(shown) => {
                records += shown["records"].as_u64().unwrap_or(0);
                if shown["valid"] != true {
                    finding.wrong(|| format!("{}: {shown}", tenant.name));
                }
            }
            Err(why) => finding.wrong(|| format!("{}: {why:#}", tenant.name)),
        }
    }
    finding.looked_at = format!("{records} records");
    finding
}

/// Every replica of a tenant's group has the same history, with each acknowledged write at its revision.
pub async fn convergence(ground: &Ground, federation: &Federation, calls: &[Call]) -> Finding {
    let mut finding = Finding::new("convergence of replicas");
    let (mut replicas, mut compared) = (0, 0);
    for (n, tenant) in ground.tenants.iter().enumerate() {
        let acknowledged: Vec<Acknowledged> =
            calls.iter().filter(|c| c.tenant == n).filter_map(|c| of(c, tenant)).collect();
        compared += acknowledged.len();
        let record = ground.ask(&format!("/api/v1/admin/tenants/{}", tenant.name)).await.unwrap_or_default();
        let group = record["shard"].as_str().unwrap_or_default().to_owned();
        replicas += federation.members(&group).len();
        // It says what is wrong by a panic, as a test does.
        let check = replica::verify_on_each(federation, &group, &tenant.name, &acknowledged);
        if let Err(panic) = AssertUnwindSafe(check).catch_unwind().await {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let text = text.unwrap_or_default();
            finding.wrong(|| format!("{}: {}", tenant.name, text.lines().next().unwrap_or_default()));
        }
    }
    finding.looked_at = format!("{compared} acknowledged writes on {replicas} replicas");
    finding
}

fn of(call: &Call, tenant: &Tenant) -> Option<Acknowledged> {
    let Told::Wrote { revision, version } = call.told else { return None };
    Some(Acknowledged {
        place: place(&tenant.name, &call.register),
        config_id: String::new(),
        version,
        revision: format!("1.{revision}"),
        sha256: hash_of(call.writes()?),
        at: std::time::Instant::now(),
        took: std::time::Duration::ZERO,
    })
}

/// What no client should ever be told.
pub fn odd_answers(shared: &Shared) -> Finding {
    let mut finding = Finding::new("answers that fit no question");
    for words in shared.odd.lock().iter() {
        finding.wrong(|| words.clone());
    }
    finding.looked_at = format!("{} calls", shared.calls.lock().len());
    finding
}
