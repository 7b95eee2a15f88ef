//! Tenants for a load, each with a key of its own.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use http::Method;
use serde_json::{Value, json};

use super::{Federation, Tenant};
use crate::connection::{Connection, Protocol};

/// The most configs that an operator lets a tenant have.
pub const CONFIGS_OF_A_TENANT: u64 = 100_000;

/// Tenants that are made at a time.
const AT_A_TIME: usize = 16;

/// A load is beyond what a tenant may by default: the most that an operator can give.
pub(super) fn most() -> Value {
    json!({
        "configs": CONFIGS_OF_A_TENANT, "config_bytes": 1 << 20, "versions": 1_000_000, "total_bytes": 1u64 << 40,
    })
}

impl Federation {
    /// Makes so many tenants, `{prefix}0` and on, where `shard` says, with the most room that there is.
    pub async fn tenants(&self, prefix: &str, count: usize, shard: &str) -> Result<Vec<Tenant>> {
        let connection = Arc::new(self.endpoint(Protocol::Http2)?.connect().await?);
        let made = (0..count).map(|n| self.tenant(Arc::clone(&connection), format!("{prefix}{n}"), shard));
        futures::stream::iter(made).buffered(AT_A_TIME).try_collect().await
    }

    async fn tenant(&self, connection: Arc<Connection>, name: String, shard: &str) -> Result<Tenant> {
        let call = |method, path: String, body: Value| {
            let connection = Arc::clone(&connection);
            async move {
                let answer = connection.call(self.operators(method, &path, Some(&body))?).await;
                anyhow::Ok(serde_json::from_slice::<Value>(&answer.with_context(|| path)?)?)
            }
        };
        call(Method::POST, "/api/v1/admin/tenants".into(), json!({"name": name, "shard": shard})).await?;
        call(Method::PUT, format!("/api/v1/admin/tenants/{name}/quotas"), most()).await?;
        let wanted = json!({"tenant": name, "roles": ["publisher"], "description": "bench"});
        let key = call(Method::POST, "/api/v1/admin/keys".into(), wanted).await?;
        Tenant::new(&name, key["key"].as_str().context("a key in the answer")?)
    }
}
