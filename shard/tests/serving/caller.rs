//! A client behind the gateway: sends requests with the internal headers that the gateway would write.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use conflux_common::{
    grant::{Grant, Principal},
    ids::{Epoch, TenantId},
};
use conflux_proto::context::{CallContext, IdempotencyKey};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};

#[derive(Clone)]
pub struct Caller {
    pub channel: Channel,
    pub context: CallContext,
    pub extra: HeaderMap,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }

    /// The status and, of an error, its code.
    pub fn code(&self) -> (u16, String) {
        let code = self.json()["error"]["code"].as_str().unwrap_or("").to_owned();
        (self.status.as_u16(), code)
    }
}

impl Caller {
    pub fn new(channel: Channel, grants: &[(&str, &str)]) -> Self {
        let grant = |(action, pattern): &(&str, &str)| Grant {
            action: action.parse().unwrap(),
            pattern: pattern.parse().unwrap(),
        };
        let context = CallContext {
            principal: Arc::new(Principal {
                name: "key:test".into(),
                tenant: Some("acme".parse().unwrap()),
                operator: false,
                grants: grants.iter().map(grant).collect(),
                directory_seq: 1,
            }),
            tenant: Some((TenantId(1), Epoch(1))),
            request_id: "request-1".into(),
            deadline: Duration::from_secs(10),
            idempotency: None,
        };
        Self { channel, context, extra: HeaderMap::new() }
    }

    /// The same for another tenant and epoch.
    pub fn of(&self, id: u64, name: &str, epoch: u64) -> Self {
        let mut other = self.clone();
        other.context.tenant = Some((TenantId(id), Epoch(epoch)));
        Arc::make_mut(&mut other.context.principal).tenant = Some(name.parse().unwrap());
        other
    }

    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        let name: HeaderName = name.parse().unwrap();
        other.extra.append(name, HeaderValue::from_str(value).unwrap());
        other
    }

    pub fn with_key(&self, key: &str) -> Self {
        let mut other = self.clone();
        other.context.idempotency = Some(IdempotencyKey::Client(key.into()));
        other
    }

    pub fn within(&self, deadline: Duration) -> Self {
        let mut other = self.clone();
        other.context.deadline = deadline;
        other
    }

    pub fn headers(&self) -> HeaderMap {
        let mut headers = self.extra.clone();
        self.context.write(&mut headers);
        headers
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Bytes::new()).await
    }

    /// Asks until this member is ready and, where it refuses for not leading, knows who leads: as a gateway asks again.
    pub async fn get_once_ready(&self, path: &str) -> Answer {
        self.send_once_ready("GET", path, Bytes::new()).await
    }

    /// The same for any method: such a refusal says that nothing was done.
    pub async fn send_once_ready(&self, method: &str, path: &str, body: Bytes) -> Answer {
        loop {
            let answer = self.send(method, path, body.clone()).await;
            let says = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
            match says("x-conflux-retry") {
                "try-other" => {}
                "not-leader" if says("x-conflux-retry-hint").is_empty() => {}
                _ => return answer,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send("PUT", path, body.into()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body.to_string().into()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, Bytes::new()).await
    }

    pub async fn send(&self, method: &str, path: &str, body: Bytes) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).body(tonic::body::Body::new(Full::new(body))).unwrap();
        *request.headers_mut() = self.headers();
        let mut channel = self.channel.clone();
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A gRPC request of this caller.
    pub fn grpc<T>(&self, body: T) -> tonic::Request<T> {
        let metadata = tonic::metadata::MetadataMap::from_headers(self.headers());
        tonic::Request::from_parts(metadata, tonic::Extensions::new(), body)
    }
}

/// Where a file of `acme` is put.
pub fn file(app: &str, name: &str) -> String {
    format!("/api/v1/tenants/acme/apps/{app}/envs/prod/configs/{name}")
}

/// Where it is fetched.
pub fn fetch(app: &str, name: &str) -> String {
    format!("/api/v1/fetch/config/acme/{app}/prod/{name}")
}
