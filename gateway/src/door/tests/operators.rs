//! Operators' calls: their own port with a certificate, and in development a key alone.

use conflux_common::api_key::ApiKey;
use conflux_proto::{context::CallContext, internal::change::Change};

use super::federation::{Federation, key_record};

#[tokio::test]
async fn operators_calls_are_not_on_the_client_port() {
    let mut federation = Federation::start().await;
    let operator = ApiKey::generate();
    let gateway = federation.gateway(|_| {}).await;
    federation.tell(2, Change::Key(key_record(&operator, "")));
    let mut seen = gateway.door.authenticator_changes();
    seen.wait_for(|seq| *seq >= 2).await.unwrap();
    let ask = async |key: &ApiKey| {
        gateway
            .client()
            .get(gateway.url("/api/v1/admin/tenants"))
            .bearer_auth(key.expose())
            .send()
            .await
            .unwrap()
            .status()
    };
    assert_eq!(ask(&operator).await, 404);
    assert_eq!(ask(&federation.key).await, 404);
}

#[tokio::test]
async fn in_development_an_admin_key_alone_does() {
    let mut federation = Federation::start().await;
    let operator = ApiKey::generate();
    let listen = "127.0.0.1:1".parse().unwrap();
    let allow = crate::settings::OperatorSettings { listen, allow_admin_key: true };
    let gateway = federation.gateway(|s| s.operator = Some(allow)).await;
    federation.tell(2, Change::Key(key_record(&operator, "")));
    let mut seen = gateway.door.authenticator_changes();
    seen.wait_for(|seq| *seq >= 2).await.unwrap();
    let ask = async |key: &ApiKey, path: &str| {
        gateway.client().get(gateway.url(path)).bearer_auth(key.expose()).send().await.unwrap().status()
    };
    assert_eq!(ask(&federation.key, "/api/v1/admin/tenants").await, 403, "a tenant's key is no operator's");
    assert!(federation.all_seen().is_empty());
    assert_eq!(ask(&operator, "/api/v1/admin/tenants").await, 200);
    let seen = federation.seen().await;
    assert_eq!((seen.member.as_str(), seen.uri.path()), ("p-1", "/api/v1/admin/tenants"));
    assert!(CallContext::read(&seen.headers).unwrap().principal.operator);
    assert_eq!(ask(&operator, "/_cluster/a/nodes").await, 200);
    let seen = federation.seen().await;
    assert_eq!((&seen.member[..2], seen.uri.path()), ("a-", "/_cluster/nodes"));
    assert_eq!(ask(&operator, "/_cluster/nowhere/nodes").await, 404);
    // The summary asks every member; the stand-ins answer no JSON, which is said of each.
    let url = gateway.url("/_cluster/status");
    let summary: serde_json::Value =
        gateway.client().get(url).bearer_auth(operator.expose()).send().await.unwrap().json().await.unwrap();
    let groups: Vec<_> = summary["groups"].as_array().unwrap().iter().map(|g| g["group"].as_str().unwrap()).collect();
    assert_eq!(groups, ["a", "placement"]);
    assert_eq!(summary["groups"][0]["members"].as_array().unwrap().len(), 3);
    let mut asked: Vec<_> = federation.all_seen().into_iter().map(|s| s.member).collect();
    asked.sort();
    assert_eq!(asked, ["a-1", "a-2", "a-3", "p-1"]);
}

#[tokio::test]
async fn the_operators_port_asks_for_an_operators_certificate() {
    // Attacks 2 and 32. Also in development: there a key alone does on the clients' port, not here.
    for allow_admin_key in [false, true] {
        let mut federation = Federation::start().await;
        let listen = "127.0.0.1:1".parse().unwrap();
        let operator = crate::settings::OperatorSettings { listen, allow_admin_key };
        let gateway = federation.gateway(|s| s.operator = Some(operator)).await;
        let ask = async |uri: Option<&str>, key: Option<&ApiKey>| {
            let (client, url) = gateway.operator(&federation, uri, "/api/v1/admin/tenants");
            let request = client.get(url);
            let request = if let Some(key) = key { request.bearer_auth(key.expose()) } else { request };
            request.send().await.map(|answer| answer.status().as_u16()).map_err(drop)
        };
        assert_eq!(ask(Some("conflux://test/operator/ada"), None).await, Ok(200));
        assert_eq!(ask(Some("conflux://test/gateway/g-1"), None).await, Err(()));
        assert_eq!(ask(Some("conflux://other/operator/ada"), None).await, Err(()));
        assert_eq!(ask(None, None).await, Err(()));
        assert_eq!(ask(None, Some(&federation.key)).await, Err(()));
        let seen = federation.seen().await;
        let context = CallContext::read(&seen.headers).unwrap();
        assert_eq!((context.principal.name.as_str(), context.principal.operator), ("operator:ada", true));
        assert!(federation.all_seen().is_empty());
    }
}
