//! The operator: makes the tenants, moves them, and looks at how moves stand.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use conflux_common::{headers, tls::TlsContext};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Shared,
    routes::{connector, pause},
};
use crate::world::{
    hosts::{self, SERVICE_PORT},
    trace,
};

const CALL: Duration = Duration::from_secs(3);

/// One with a certificate.
pub struct Operator {
    tls: TlsContext,
    shared: Rc<Shared>,
}

impl Operator {
    /// With this certificate.
    pub fn new(tls: TlsContext, shared: Rc<Shared>) -> Self {
        Self { tls, shared }
    }

    /// Asks any member of placement once; none: it does not lead or does not answer.
    async fn try_ask(&self, method: Method, path: &str, body: Option<&Value>) -> Option<(StatusCode, Value)> {
        let member = hosts::members("placement").choose(&mut rand::rng())?.clone();
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector(&self.tls, &member).ok()?);
        let body = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let request = Request::builder().method(method).uri(format!("http://{member}:{SERVICE_PORT}{path}"));
        let asking = async {
            let (parts, body) = client.request(request.body(Full::new(body)).ok()?).await.ok()?.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            let retry = parts.headers.contains_key(headers::RETRY);
            (!retry).then(|| (parts.status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        timeout(CALL, asking).await.ok().flatten()
    }

    /// Asks until placement's leader answers.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        loop {
            if let Some(answer) = self.try_ask(method.clone(), path, body.as_ref()).await {
                return answer;
            }
            pause(150).await;
        }
    }

    /// Makes every tenant, the first on the first shard and so on in turn.
    pub async fn make_tenants(&self) {
        let names: Vec<String> = self.shared.tenants.borrow().iter().map(|t| t.name.clone()).collect();
        for (at, name) in names.into_iter().enumerate() {
            let shard = ["shard-a", "shard-b"][at % 2];
            loop {
                let wanted = json!({"name": name, "shard": shard});
                let (status, answer) = self.ask(Method::POST, "/api/v1/admin/tenants", Some(wanted)).await;
                trace::note(format_args!("tenant {name}: {status} {answer}"));
                if status.is_success() || status == StatusCode::CONFLICT {
                    break;
                }
                pause(300).await;
            }
            let id = loop {
                let path = format!("/api/v1/admin/tenants/{name}");
                let (_, shown) = self.ask(Method::GET, &path, None).await;
                let id = shown["id"].as_u64().or_else(|| shown["id"].as_str().and_then(|id| id.parse().ok()));
                if let Some(id) = id {
                    break id;
                }
                pause(300).await;
            };
            self.shared.tenants.borrow_mut()[at].id = id;
        }
    }

    /// Where every tenant is and whether it is on its way; none: the answer cannot be read.
    pub async fn places(&self) -> Vec<Value> {
        let (_, answer) = self.ask(Method::GET, "/api/v1/admin/tenants", None).await;
        answer["tenants"].as_array().cloned().unwrap_or_default()
    }

    /// Moves a tenant to the other shard, if it can be moved now.
    pub async fn move_tenant(&self, tenant: usize) {
        let name = self.shared.tenants.borrow()[tenant].name.clone();
        let (_, shown) = self.ask(Method::GET, &format!("/api/v1/admin/tenants/{name}"), None).await;
        let to = if shown["shard"] == "shard-a" { "shard-b" } else { "shard-a" };
        let wanted = json!({"tenant": name, "to": to});
        let (status, answer) = self.ask(Method::POST, "/api/v1/admin/moves", Some(wanted)).await;
        trace::note(format_args!("move of {name} to {to}: {status} {}", answer["id"]));
        if status == StatusCode::ACCEPTED {
            self.shared.history.moves.set(self.shared.history.moves.get() + 1);
        }
    }

    /// Waits until no move is under way.
    pub async fn moves_have_ended(&self) {
        loop {
            let (status, answer) = self.ask(Method::GET, "/api/v1/admin/moves?state=under_way", None).await;
            if status.is_success() && answer["moves"].as_array().is_some_and(Vec::is_empty) {
                return;
            }
            pause(200).await;
        }
    }
}
