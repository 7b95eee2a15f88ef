//! Does each tenant's shard know how many configs it has? They are counted one by one, and a quota of as many must let no other one
//! in, a quota of one more exactly one.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    checks::Finding,
    ground::{Ground, Tenant, eventually, place, quotas},
    history::document,
};

/// The verdict on each tenant. Writes to it.
pub async fn recount(ground: &Ground, within: Duration) -> Finding {
    let mut finding = Finding::new("quota recount");
    let mut counted = 0;
    for tenant in &ground.tenants {
        match of(ground, tenant, within).await {
            Ok(configs) => counted += configs,
            Err(why) => finding.wrong(|| format!("{}: {why:#}", tenant.name)),
        }
    }
    finding.looked_at = format!("{counted} configs of {} tenants", ground.tenants.len());
    finding
}

async fn of(ground: &Ground, tenant: &Tenant, within: Duration) -> Result<u64> {
    let configs = count(tenant, within).await.context("counting the configs")?;
    allow(ground, tenant, configs, within).await?;
    put(tenant, "beyond-1", &[429], within)
        .await
        .with_context(|| format!("a quota of {configs}, and as many are there"))?;
    allow(ground, tenant, configs + 1, within).await?;
    put(tenant, "beyond-2", &[200, 201], within)
        .await
        .with_context(|| format!("a quota of {}, for one more", configs + 1))?;
    put(tenant, "beyond-3", &[429], within).await.context("a quota that was just filled")?;
    Ok(configs)
}

async fn count(tenant: &Tenant, within: Duration) -> Result<u64> {
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let path = format!("/api/v1/mgt/{}/configs?limit=1000&consistency=linearizable&cursor={cursor}", tenant.name);
        let page = eventually(within, || async { tenant.clients[0].get(&path).await?.expect(&[200]) }).await?.json();
        count += page["configs"].as_array().context("a list of configs")?.len() as u64;
        cursor = page["next_cursor"].as_str().unwrap_or_default().to_owned();
        if cursor.is_empty() {
            return Ok(count);
        }
    }
}

/// Returns once the tenant's shard has heard of it.
async fn allow(ground: &Ground, tenant: &Tenant, configs: u64, within: Duration) -> Result<()> {
    let path = format!("/api/v1/admin/tenants/{}/quotas", tenant.name);
    let set = || async { ground.operators[0].put_json(&path, &quotas(configs)).await?.expect(&[200]) };
    eventually(within, set).await.with_context(|| format!("setting a quota of {configs}")).map(drop)
}

/// Puts a config until it is answered so: one that is let in may be there already, by an attempt whose answer was lost.
async fn put(tenant: &Tenant, name: &str, wanted: &[u16], within: Duration) -> Result<()> {
    let attempt = || async { tenant.clients[0].put(&place(&tenant.name, name), document(1)).await?.expect(wanted) };
    eventually(within, attempt).await.map(drop)
}
