//! gRPC through the gateway, as a generated client speaks it: the domain, its errors, and gRPC's own services.

use conflux_common::error::{Code, ErrorBody};
use conflux_proto::v1::{
    self, Consistency, FetchRequest, config_service_client::ConfigServiceClient,
    management_service_client::ManagementServiceClient,
};
use conflux_tests::{
    Client, Federation, Shape,
    watch::{grpc_channel, grpc_request},
};
use futures::StreamExt;
use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_client_reads_writes_and_understands_refusals() {
    let federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let demo = federation.demo();
    let ca = federation.description.gateways[0].ca_file.clone();
    let channel = grpc_channel(&demo, &ca).await.unwrap();

    puts_fetches_and_lists(&demo, &channel).await;
    labels_choose_the_version(&demo, &channel).await;
    refusals_carry_the_code_and_the_body_of_rest(&demo, &channel).await;
    health_is_for_anyone(channel.clone()).await;
    reflection_is_for_whoever_has_a_credential(&demo, channel).await;
}

fn fetch(name: &str) -> FetchRequest {
    FetchRequest { app: "shop".into(), env: "grpc".into(), name: name.into(), ..Default::default() }
}

fn put(name: &str, content: &str) -> v1::PutConfigRequest {
    v1::PutConfigRequest {
        app: "shop".into(),
        env: "grpc".into(),
        name: name.into(),
        content: content.to_owned().into_bytes().into(),
        ..Default::default()
    }
}

async fn puts_fetches_and_lists(demo: &Client, channel: &Channel) {
    let mut manage = ManagementServiceClient::new(channel.clone());
    let mut configs = ConfigServiceClient::new(channel.clone());
    let made = manage.put_config(grpc_request(demo, "demo", put("a.yaml", "a: 1 # ä\n")).unwrap()).await.unwrap();
    let made = made.into_inner();
    assert!(made.created);
    assert_eq!(made.version, 1);

    // What was acknowledged is seen by each level: `stale` by naming the revision of the write.
    let levels = [
        FetchRequest { min_revision: made.revision.clone(), ..fetch("a.yaml") },
        FetchRequest { consistency: Consistency::Leader as i32, ..fetch("a.yaml") },
        FetchRequest { consistency: Consistency::Linearizable as i32, ..fetch("a.yaml") },
    ];
    for request in levels {
        let got = configs.fetch(grpc_request(demo, "demo", request.clone()).unwrap()).await.unwrap().into_inner();
        assert_eq!(got.content, "a: 1 # ä\n".as_bytes(), "{request:?}");
        assert_eq!((got.version, got.media_type.as_str()), (1, "application/yaml"));
        assert_eq!((&got.hash, &got.config_id), (&made.hash, &made.config_id));

        // Who has it already is sent no content.
        let again = FetchRequest { if_none_match: got.etag, ..request };
        let again = configs.fetch(grpc_request(demo, "demo", again).unwrap()).await.unwrap().into_inner();
        assert!(again.not_modified && again.content.is_empty());
    }

    // `if-match` means what it means over REST: the second writer with the same ETag is refused.
    let mut conditional = grpc_request(demo, "demo", put("a.yaml", "a: 2\n")).unwrap();
    conditional.metadata_mut().insert("if-match", made.etag.parse().unwrap());
    let second = manage.put_config(conditional).await.unwrap().into_inner();
    assert_eq!((second.created, second.version), (false, 2));
    let mut outdated = grpc_request(demo, "demo", put("a.yaml", "a: 3\n")).unwrap();
    outdated.metadata_mut().insert("if-match", made.etag.parse().unwrap());
    assert_eq!(manage.put_config(outdated).await.unwrap_err().code(), tonic::Code::FailedPrecondition);

    // A page of one, then the rest by its cursor; nothing of other environments.
    manage.put_config(grpc_request(demo, "demo", put("b.json", "{}")).unwrap()).await.unwrap();
    let mut names = Vec::new();
    let mut asked = v1::ListConfigsRequest { env: "grpc".into(), limit: 1, ..Default::default() };
    loop {
        let page = manage.list_configs(grpc_request(demo, "demo", asked.clone()).unwrap()).await.unwrap().into_inner();
        names.extend(page.configs.into_iter().map(|c| c.name));
        if page.next_cursor.is_empty() {
            break;
        }
        asked.cursor = page.next_cursor;
    }
    assert_eq!(names, ["a.yaml", "b.json"]);
}

async fn labels_choose_the_version(demo: &Client, channel: &Channel) {
    let mut manage = ManagementServiceClient::new(channel.clone());
    let made = manage.put_config(grpc_request(demo, "demo", put("flags.json", "1")).unwrap()).await.unwrap();
    let id = made.into_inner().config_id;
    let second = v1::CreateVersionRequest { id: id.clone(), content: "2".into(), ..Default::default() };
    manage.create_version(grpc_request(demo, "demo", second).unwrap()).await.unwrap();
    let to_eu = v1::ReleaseRule {
        labels: [("region".to_owned(), "eu".to_owned())].into(),
        version: 2,
        priority: 10,
        percentage: None,
    };
    let rules = vec![v1::ReleaseRule { version: 1, ..Default::default() }, to_eu];
    manage.set_releases(grpc_request(demo, "demo", v1::SetReleasesRequest { id, rules }).unwrap()).await.unwrap();

    let mut configs = ConfigServiceClient::new(channel.clone());
    for (region, content) in [("eu", "2"), ("us", "1")] {
        let labels = [("region".to_owned(), region.to_owned())].into();
        let request = FetchRequest { labels, consistency: Consistency::Leader as i32, ..fetch("flags.json") };
        let got = configs.fetch(grpc_request(demo, "demo", request).unwrap()).await.unwrap().into_inner();
        assert_eq!(got.content, content.as_bytes(), "{region}");
    }
}

/// The canonical code, and the JSON that REST would answer in `x-conflux-error`.
fn assert_refused(status: &Status, code: Code) {
    assert_eq!(status.code() as i32, code.grpc_code(), "{status:?}");
    let body = status.metadata().get("x-conflux-error").expect("the body of the error").to_str().unwrap();
    let body: ErrorBody = serde_json::from_str(body).unwrap();
    assert_eq!(body.error.code, code, "{body:?}");
    assert_eq!(body.error.message, status.message());
    assert!(!body.error.request_id.is_empty());
}

async fn refusals_carry_the_code_and_the_body_of_rest(demo: &Client, channel: &Channel) {
    let mut manage = ManagementServiceClient::new(channel.clone());
    let mut configs = ConfigServiceClient::new(channel.clone());
    let missing = configs.fetch(grpc_request(demo, "demo", fetch("nothing.yaml")).unwrap()).await.unwrap_err();
    assert_refused(&missing, Code::NotFound);
    let foreign = configs.fetch(grpc_request(demo, "other", fetch("a.yaml")).unwrap()).await.unwrap_err();
    assert_refused(&foreign, Code::PermissionDenied);
    let nobody = grpc_request(&demo.anonymous(), "demo", fetch("a.yaml")).unwrap();
    assert_refused(&configs.fetch(nobody).await.unwrap_err(), Code::Unauthenticated);
    let syntax = manage.put_config(grpc_request(demo, "demo", put("bad.json", "{")).unwrap()).await.unwrap_err();
    assert_refused(&syntax, Code::InvalidArgument);
    let watched = v1::WatchRequest { from: "not-a-token".into(), ..Default::default() };
    let refused = configs.watch(grpc_request(demo, "demo", watched).unwrap()).await;
    // A refusal may come as the answer or as the first thing in the stream.
    let refused = match refused {
        Err(status) => status,
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
    };
    assert_refused(&refused, Code::InvalidArgument);
}

async fn health_is_for_anyone(channel: Channel) {
    for service in ["", "conflux.v1.ConfigService", "conflux.v1.ManagementService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
}

async fn reflection_is_for_whoever_has_a_credential(demo: &Client, channel: Channel) {
    let asked = || {
        let ask = |what| ServerReflectionRequest { host: String::new(), message_request: Some(what) };
        tokio_stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("conflux.v1.ManagementService.PutConfig".into())),
        ])
    };
    let mut client = ServerReflectionClient::new(channel);
    assert_refused(&client.server_reflection_info(asked()).await.unwrap_err(), Code::Unauthenticated);
    let request = grpc_request(demo, "demo", asked()).unwrap();
    let mut answers = client.server_reflection_info(request).await.unwrap().into_inner();
    let listed = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let names: Vec<String> = listed.service.into_iter().map(|s| s.name).collect();
    for service in ["conflux.v1.ConfigService", "conflux.v1.ManagementService"] {
        assert!(names.iter().any(|n| n == service), "{names:?}");
    }
    // What members say to one another is nobody's business.
    assert!(!names.iter().any(|n| n.contains("internal")), "{names:?}");
    let described = answers.next().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(described, MessageResponse::FileDescriptorResponse(_)), "{described:?}");
}
