//! Calls of clients, as requests of a load.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, header};
use prost::Message;
use serde_json::{Value, json};

use crate::{
    connection::{Body, Connection, whole},
    document::{Documents, mixed},
    etcd::wire::framed,
    load::Requests,
};

/// The application and environment of everything.
const PLACE: &str = "bench/test";

/// A tenant and the credential for it.
#[derive(Clone)]
pub struct Tenant {
    pub name: String,
    bearer: HeaderValue,
}

impl Tenant {
    /// With an API key.
    pub fn new(name: &str, key: &str) -> Result<Self> {
        Ok(Self { name: name.into(), bearer: HeaderValue::from_str(&format!("Bearer {key}"))? })
    }

    fn request(&self, method: Method, path: String) -> http::request::Builder {
        Request::builder().method(method).uri(path).header(header::AUTHORIZATION, self.bearer.clone())
    }
}

/// So many configs of one size, spread over tenants.
#[derive(Clone)]
pub struct Space {
    tenants: Arc<[Tenant]>,
    documents: Arc<Documents>,
    prefix: String,
    /// Of all tenants together.
    pub configs: u64,
}

impl Space {
    /// Configs whose names begin with `prefix`.
    pub fn new(tenants: Vec<Tenant>, prefix: &str, size: usize, configs: u64) -> Self {
        let documents = Arc::new(Documents::of(size));
        Self { tenants: tenants.into(), documents, prefix: format!("{prefix}{size}"), configs }
    }

    fn tenant(&self, at: u64) -> &Tenant {
        &self.tenants[(at % self.tenants.len() as u64) as usize]
    }

    fn name(&self, at: u64) -> String {
        format!("{}-{}.json", self.prefix, at / self.tenants.len() as u64)
    }

    fn fetch(&self, at: u64, query: &str) -> http::request::Builder {
        let tenant = self.tenant(at);
        let path = format!("/api/v1/fetch/config/{}/{PLACE}/{}{query}", tenant.name, self.name(at));
        tenant.request(Method::GET, path)
    }

    /// One of them, at this consistency.
    pub fn fetches(&self, consistency: &str) -> Requests {
        let (space, query) = (self.clone(), format!("?consistency={consistency}"));
        Requests::new(move |number| built(space.fetch(mixed(number) % space.configs, &query).body(whole(""))))
    }

    /// One of them, by a client that has it already.
    pub fn unchanged_fetches(&self, etags: Vec<HeaderValue>) -> Requests {
        let space = self.clone();
        Requests::new(move |number| {
            let at = mixed(number) % space.configs;
            let etag = etags[at as usize].clone();
            built(space.fetch(at, "").header(header::IF_NONE_MATCH, etag).body(whole("")))
        })
        .not_modified()
    }

    /// The content's ETag of each.
    pub async fn etags(&self, connection: &Connection) -> Result<Vec<HeaderValue>> {
        let mut etags = Vec::new();
        for at in 0..self.configs {
            let answer = connection.open(built(self.fetch(at, "?consistency=leader").body(whole("")))).await?;
            etags.push(answer.headers().get(header::ETAG).context("an ETag")?.clone());
        }
        Ok(etags)
    }

    /// One of them, by clients with one of so many labels.
    pub fn labelled_fetches(&self, labels: u64) -> Requests {
        let space = self.clone();
        let regions: Vec<_> = (0..labels).filter_map(|n| HeaderValue::from_str(&format!("r{n}")).ok()).collect();
        Requests::new(move |number| {
            let random = mixed(number);
            let region = regions[(random >> 32) as usize % regions.len()].clone();
            built(space.fetch(random % space.configs, "").header("x-client-label-region", region).body(whole("")))
        })
    }

    fn put(&self, at: u64, document: Bytes) -> Request<Body> {
        let tenant = self.tenant(at);
        let path = format!("/api/v1/tenants/{}/apps/bench/envs/test/configs/{}", tenant.name, self.name(at));
        let request = tenant.request(Method::PUT, path);
        built(request.header(header::CONTENT_TYPE, "application/json").body(whole(document)))
    }

    /// Puts and releases the first version of each in turn.
    pub fn first_puts(&self) -> Requests {
        let space = self.clone();
        Requests::new(move |number| space.put(number % space.configs, space.documents.document(number)))
    }

    /// Puts and releases a new version of one of them.
    pub fn puts(&self) -> Requests {
        let space = self.clone();
        // What fills and what changes are never the same document.
        Requests::new(move |number| {
            space.put(mixed(number) % space.configs, space.documents.document(number + (1 << 40)))
        })
    }

    /// Gives each config a rule for each of so many labels, the clients' random ones.
    pub async fn release_by_label(&self, connection: &Connection, labels: u64) -> Result<()> {
        for at in 0..self.configs {
            let answer: Value =
                serde_json::from_slice(&connection.call(self.put(at, self.documents.document(at))).await?)?;
            let id = answer["config_id"].as_str().context("the config's id")?;
            let rules: Vec<_> = (0..labels)
                .map(|n| json!({"labels": {"region": format!("r{n}")}, "version": 1, "priority": n}))
                .collect();
            let tenant = self.tenant(at);
            let path = format!("/api/v1/mgt/{}/configs/{id}/releases", tenant.name);
            let request = tenant.request(Method::PUT, path).header(header::CONTENT_TYPE, "application/json");
            connection.call(request.body(whole(json!({"rules": rules}).to_string()))?).await?;
        }
        Ok(())
    }

    /// Changesets of so many puts each, in turn over all configs: the quickest way in. The generation tells apart the contents of
    /// a config's versions. A changeset is of one tenant; `number` counts changesets.
    pub fn changesets(&self, each: u64, generation: u64) -> Requests {
        let space = self.clone();
        Requests::new(move |number| {
            let tenants = space.tenants.len() as u64;
            let (tenant, group) = (number % tenants, number / tenants);
            let mut body = BytesMut::with_capacity(each as usize * 600);
            body.put_slice(b"{\"changes\":[");
            for n in 0..each {
                let at = (group * each + n) * tenants + tenant;
                if at >= space.configs {
                    break;
                }
                let content = space.documents.document(at + (generation << 41));
                // Text of JSON within JSON: its quotation marks are escaped.
                let content = String::from_utf8_lossy(&content).replace('"', "\\\"");
                let name = space.name(at);
                let comma = if n == 0 { "" } else { "," };
                body.put_slice(
                    format!(
                        "{comma}{{\"put\":{{\"app\":\"bench\",\"env\":\"test\",\"name\":\"{name}\",\"content\":\"{content}\"}}}}"
                    )
                    .as_bytes(),
                );
            }
            body.put_slice(b"]}");
            let tenant = space.tenant(tenant);
            let request = tenant.request(Method::POST, format!("/api/v1/mgt/{}/changesets", tenant.name));
            built(request.header(header::CONTENT_TYPE, "application/json").body(whole(body.freeze())))
        })
    }
}

const WATCH: &str = "/api/v1/watch/";

/// Follows all changes of what the load changes over SSE, from now.
pub fn watch_sse(tenant: &Tenant) -> Request<Body> {
    let request = tenant.request(Method::GET, format!("{WATCH}{}?app=bench&env=test", tenant.name));
    built(request.header(header::ACCEPT, "text/event-stream").body(whole("")))
}

/// The same over a WebSocket, which is HTTP/1.1 and names its host.
pub fn watch_websocket(tenant: &Tenant, host: &str) -> Result<Request<()>> {
    let request = tenant.request(Method::GET, format!("wss://{host}{WATCH}{}?app=bench&env=test", tenant.name));
    let request = request
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
    Ok(request.body(())?)
}

#[derive(Clone, PartialEq, Message)]
struct WatchRequest {
    #[prost(string, tag = "1")]
    app: String,
    #[prost(string, tag = "2")]
    env: String,
}

/// The same over gRPC.
pub fn watch_grpc(tenant: &Tenant) -> Request<Body> {
    let message = framed(&WatchRequest { app: "bench".into(), env: "test".into() });
    let request = tenant.request(Method::POST, "/conflux.v1.ConfigService/Watch".into());
    built(request.header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers").body(whole(message)))
}

/// All parts of the requests here are fit for HTTP; one that is not becomes a request that every server refuses, and so a failure
/// that is counted.
pub fn built(request: Result<Request<Body>, http::Error>) -> Request<Body> {
    request.unwrap_or_else(|_| Request::new(whole("")))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// A config left out, or put twice, would make a growth of less than it says.
    #[tokio::test]
    async fn changesets_put_each_config_of_each_tenant_once() {
        let tenants = ["a", "b", "c"].map(|name| Tenant::new(name, "key").unwrap()).to_vec();
        let space = Space::new(tenants, "g", 64, 31);
        let requests = space.changesets(4, 1);
        let mut put = Vec::new();
        for number in 0..9 {
            let request = requests.of(number);
            let tenant = request.uri().path().split('/').nth(4).unwrap().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            for change in body["changes"].as_array().unwrap() {
                let content: Value = serde_json::from_str(change["put"]["content"].as_str().unwrap()).unwrap();
                assert!(content["n"].is_u64());
                put.push(format!("{tenant} {}", change["put"]["name"]));
            }
        }
        let all = put.len();
        put.sort();
        put.dedup();
        assert_eq!((all, put.len()), (31, 31));
    }
}
