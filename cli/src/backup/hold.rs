//! Placement keeps tenants as they are while a federation is backed up. Whatever happens here, that ends by itself.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{client::Client, command::cell, failure::Failure};

/// It ends so long after the last renewal.
const TTL: Duration = Duration::from_secs(60);
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(15);

const PATH: [&str; 4] = ["api", "v1", "admin", "hold"];

/// A hold that is renewed while this lives.
pub struct Hold {
    client: Client,
    id: String,
    renewing: JoinHandle<()>,
}

impl Hold {
    /// Begins it. Refused while another one stands.
    pub async fn begin(client: &Client, purpose: &str) -> anyhow::Result<Self> {
        let body = json!({ "purpose": purpose, "ttl_ms": TTL.as_millis() as u64 });
        let begun = client.json(client.call(Method::POST, &PATH).json(&body)).await;
        let id = cell(&begun.context("placement does not hold the tenants")?, "id");
        let (renewing, again) = (client.clone(), id.clone());
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                // One that fails may be followed by one that does not; that it stood is proven at the end.
                if let Err(error) = renew(&renewing, &again).await {
                    eprintln!("conflux: the hold was not renewed: {error}");
                }
            }
        });
        Ok(Self { client: client.clone(), id, renewing })
    }

    /// Succeeds only if it has stood all the time since it began: one that has ended cannot be renewed.
    pub async fn prove(&self) -> anyhow::Result<()> {
        match renew(&self.client, &self.id).await {
            Ok(()) => Ok(()),
            Err(Failure::Refused { info, .. }) if !info.retryable => {
                bail!(
                    "tenants were not held all the time ({}): the backup may not fit together. Try again",
                    info.message
                )
            }
            Err(error) => Err(error).context("it cannot be proven that tenants were held all the time"),
        }
    }

    /// Ends it. Where that fails, time does it.
    pub async fn end(self) {
        self.renewing.abort();
        let path: Vec<&str> = PATH.into_iter().chain([self.id.as_str()]).collect();
        if let Err(error) = self.client.json(self.client.call(Method::DELETE, &path)).await {
            eprintln!("conflux: the hold ends by itself within {} s: {error}", TTL.as_secs());
        }
    }
}

async fn renew(client: &Client, id: &str) -> Result<(), Failure> {
    let path: Vec<&str> = PATH.into_iter().chain([id]).collect();
    let body = json!({ "ttl_ms": TTL.as_millis() as u64 });
    client.json(client.call(Method::PUT, &path).json(&body)).await.map(drop)
}
