//! Public gRPC: the same functions in another skin.

use conflux_common::headers;
use conflux_proto::v1::{
    CreateVersionRequest, FetchRequest, GetConfigRequest, PutConfigRequest, ReleaseRule, SetReleasesRequest,
    WatchRequest, config_service_client::ConfigServiceClient, management_service_client::ManagementServiceClient,
};

use crate::{caller::fetch, member::Member};

/// What is put by gRPC is fetched by gRPC and REST alike; `if-match` and the known ETag mean the same.
#[tokio::test]
async fn grpc_and_rest_are_one() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let mut manage = ManagementServiceClient::new(member.gateway());
    let mut config = ConfigServiceClient::new(member.gateway());
    let put = PutConfigRequest {
        app: "shop".into(),
        env: "prod".into(),
        name: "a.json".into(),
        content: "{}".into(),
        ..Default::default()
    };
    let made = manage.put_config(admin.grpc(put.clone())).await.unwrap().into_inner();
    assert!(made.created);
    let asked = FetchRequest { app: "shop".into(), env: "prod".into(), name: "a.json".into(), ..Default::default() };
    let got = config.fetch(admin.grpc(asked.clone())).await.unwrap().into_inner();
    assert_eq!((&got.content[..], got.revision.as_str()), (&b"{}"[..], made.revision.as_str()));
    let rest = admin.get(&fetch("shop", "a.json")).await;
    assert_eq!((&rest.body, rest.header("etag")), (&got.content, got.etag.as_str()));
    let known = FetchRequest { if_none_match: got.etag, ..asked };
    let known = config.fetch(admin.grpc(known)).await.unwrap().into_inner();
    assert!(known.not_modified && known.content.is_empty());

    let version = CreateVersionRequest { id: made.config_id.clone(), content: "[]".into(), ..Default::default() };
    let second = manage.create_version(admin.grpc(version)).await.unwrap().into_inner();
    assert_eq!(second.version, 2);
    let rules = SetReleasesRequest {
        id: made.config_id.clone(),
        rules: vec![ReleaseRule { version: 2, ..Default::default() }],
    };
    manage.set_releases(admin.grpc(rules)).await.unwrap();
    assert_eq!(&admin.get(&fetch("shop", "a.json")).await.body[..], b"[]");
    let stale = manage.put_config(admin.with("if-match", &made.etag).grpc(put)).await.unwrap_err();
    assert_eq!(stale.code(), tonic::Code::FailedPrecondition);
    let shown = GetConfigRequest { id: made.config_id, consistency: 0 };
    assert_eq!(manage.get_config(admin.grpc(shown)).await.unwrap().into_inner().latest_version, 2);
}

/// Errors carry the code, REST's body and the request id; a watch is sent to where it is served.
#[tokio::test]
async fn errors_are_grpcs_own() {
    let member = Member::with_acme().await;
    let admin = member.admin();
    let mut config = ConfigServiceClient::new(member.gateway());
    let asked = FetchRequest { app: "shop".into(), env: "../x".into(), name: "a".into(), ..Default::default() };
    let refused = config.fetch(admin.grpc(asked)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let body = refused.metadata().get(headers::ERROR_BODY).unwrap().to_str().unwrap();
    assert!(body.contains("\"request_id\":\"request-1\""), "{body}");
    let watch = config.watch(admin.grpc(WatchRequest::default())).await.unwrap_err();
    assert_eq!(watch.code(), tonic::Code::Unimplemented);
    assert!(watch.message().contains("gateway"));
}
