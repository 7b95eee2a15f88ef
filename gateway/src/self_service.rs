//! gRPC's own services, which the gateway answers itself: health, to anyone, and reflection of the public API.

use axum::{Router, body::Body};
use http::Request;
use tonic_health::server::HealthReporter;
use tower::ServiceExt;

use crate::session_adapter::Answer;

/// A question names a service or a symbol.
pub const MAX_QUESTION: usize = 16 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub struct SelfService {
    router: Router,
    health: HealthReporter,
}

impl SelfService {
    /// Not serving until [`SelfService::set_serving`] says so.
    pub async fn new() -> Result<Self, tonic_reflection::server::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(conflux_proto::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let router = tonic::service::Routes::new(health_service)
            .add_service(reflection().build_v1()?.max_decoding_message_size(MAX_QUESTION))
            .add_service(reflection().build_v1alpha()?.max_decoding_message_size(MAX_QUESTION))
            .into_axum_router();
        let this = Self { router, health };
        this.set_serving(false).await;
        Ok(this)
    }

    /// What health answers from now on, for the whole gateway and for each service.
    pub async fn set_serving(&self, serving: bool) {
        use tonic_health::ServingStatus;
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", "conflux.v1.ConfigService", "conflux.v1.ManagementService"] {
            self.health.set_service_status(service, status).await;
        }
    }

    /// Answers one of their calls.
    pub async fn answer(&self, request: Request<Body>) -> Answer {
        match self.router.clone().oneshot(request).await {
            Ok(response) => Answer::Response(response),
            Err(never) => match never {},
        }
    }
}
