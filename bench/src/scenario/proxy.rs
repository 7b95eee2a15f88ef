//! The gateway as a proxy, beside nginx before the same members of the same shard group, and beside no proxy at all. The gateway
//! authenticates, authorizes, limits and finds the tenant's shard; nginx terminates TLS, adds headers that never change, and
//! proxies over kept connections of HTTP/1.1 (it has no h2 towards REST). Both show the shard the same certificate.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, header};
use prost::Message;

use super::{
    Bench, Kind,
    pair::{CONFLUX, Pair, case, measured},
};
use crate::{
    compare::Side,
    conflux::TENANT,
    connection::{Endpoint, Protocol},
    load::Requests,
    nginx::{Nginx, Setup},
    results::Results,
};

/// What the page calls it.
pub const NAME: &str = "fetch stale through the gateway, without a proxy / through nginx";
/// The sides beside the gateway.
pub const NGINX: &str = "nginx";
pub const DIRECT: &str = "no proxy";

/// The only shard group.
const GROUP: &str = "shard-a";

/// `conflux.internal.v1.Principal`, as far as it is needed.
#[derive(Clone, PartialEq, Message)]
struct Principal {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    tenant: String,
    #[prost(message, repeated, tag = "4")]
    grants: Vec<Grant>,
}

#[derive(Clone, PartialEq, Message)]
struct Grant {
    #[prost(string, tag = "1")]
    action: String,
    #[prost(string, tag = "2")]
    pattern: String,
}

/// Closed loops with one request in flight, for the latency, and with 64, for the processor time.
pub async fn measure(pair: &mut Pair, bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    pair.fill(1024).await?;
    let headers = of_a_gateway(pair).await?;
    let nginx = Nginx::start(&Setup {
        binary: &bench.run.nginx,
        base: &bench.base,
        shown: pair.conflux.client_certificate()?,
        towards: pair.conflux.gateway_identity()?,
        upstream: pair.conflux.service_addresses(GROUP),
        headers: &headers,
    })
    .await?;
    pair.start_proxying().await?;
    let measured = beside(pair, &nginx, &headers, results).await;
    pair.stop_proxying().await?;
    measured
}

async fn beside(pair: &Pair, nginx: &Nginx, headers: &HeaderMap, results: &mut Results) -> Result<()> {
    let fetches = pair.space(1024).fetches("stale");
    let gateway = pair.proxying(&fetches, Protocol::Http2)?;
    let mut shards = gateway.processes.clone();
    shards.remove("gateway");
    let (_, _, ca) = pair.conflux.gateway_identity()?;
    let endpoints = vec![Endpoint::new(&nginx.address, &ca, None, Protocol::Http2)?];
    let mut processes = shards.clone();
    processes.insert(NGINX.into(), nginx.processes());
    let peer = Side { name: NGINX.into(), endpoints, requests: fetches.clone(), processes };
    let members = pair.conflux.service_addresses(GROUP);
    let endpoints = members.iter().map(|a| pair.conflux.shard_endpoint(a)).collect::<Result<_>>()?;
    let direct = Side { name: DIRECT.into(), endpoints, requests: with(&fetches, headers), processes: shards };
    let gateway = Side { name: CONFLUX.into(), ..gateway };
    let sides = [direct, gateway, peer];
    for concurrency in [1, 64] {
        measured(results, case(&pair.plan, Kind::Proxy, NAME, 1024, concurrency), &sides).await?;
    }
    Ok(())
}

/// What a gateway says to a shard of whoever asks.
async fn of_a_gateway(pair: &Pair) -> Result<HeaderMap> {
    let shown = pair.conflux.operate(Method::GET, &format!("/api/v1/admin/tenants/{TENANT}"), None).await?;
    let number = |key: &str| shown[key].as_u64().with_context(|| format!("{key} of {TENANT}"));
    let principal = Principal {
        name: "key:bench".into(),
        tenant: TENANT.into(),
        grants: vec![Grant { action: "read".into(), pattern: "*/*/*".into() }],
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-conflux-principal", HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(principal.encode_to_vec()))?);
    headers.insert("x-conflux-tenant-id", number("id")?.into());
    headers.insert("x-conflux-route-epoch", number("epoch")?.into());
    headers.insert("x-conflux-deadline-ms", HeaderValue::from_static("10000"));
    headers.insert("x-request-id", HeaderValue::from_static("bench"));
    Ok(headers)
}

/// As they are after a gateway.
fn with(requests: &Requests, headers: &HeaderMap) -> Requests {
    let (requests, headers) = (requests.clone(), headers.clone());
    Requests::new(move |number| {
        let mut request = requests.of(number);
        request.headers_mut().remove(header::AUTHORIZATION);
        for (name, value) in &headers {
            request.headers_mut().insert(name, value.clone());
        }
        request
    })
}
