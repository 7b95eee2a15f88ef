//! One log line and one measurement for each request; the request id on each answer.

use std::time::Instant;

use conflux_common::{error::Code, headers};
use http::{HeaderValue, Method, Request, StatusCode};

use crate::session_adapter::{Answer, ClientAddress, RequestBody};

/// What is known of a request by now.
pub(super) struct Access {
    pub(super) request_id: String,
    pub(super) principal: String,
    pub(super) tenant: String,
    pub(super) template: &'static str,
    pub(super) code: Option<Code>,
    method: Method,
    pub(super) client: Option<std::net::SocketAddr>,
}

impl Access {
    pub(super) fn of(request: &Request<RequestBody>, request_id: String) -> Self {
        Self {
            request_id,
            principal: String::new(),
            tenant: String::new(),
            template: "unread",
            code: None,
            method: request.method().clone(),
            client: request.extensions().get::<ClientAddress>().map(|a| a.0),
        }
    }

    /// Writes the line, and the request id into the answer.
    pub(super) fn finish(self, mut answer: Answer, started: Instant) -> Answer {
        let status = match &mut answer {
            Answer::Response(response) => {
                if let Ok(id) = HeaderValue::from_str(&self.request_id) {
                    response.headers_mut().insert(headers::REQUEST_ID, id);
                }
                response.headers_mut().entry("x-content-type-options").or_insert(HeaderValue::from_static("nosniff"));
                response.status()
            }
            Answer::Upgrade(_) => StatusCode::SWITCHING_PROTOCOLS,
        };
        let took = started.elapsed();
        metrics::counter!("conflux_gateway_requests_total", "route" => self.template, "status" => status.as_str().to_owned())
            .increment(1);
        metrics::histogram!("conflux_gateway_request_seconds", "route" => self.template).record(took.as_secs_f64());
        tracing::info!(
            request_id = self.request_id,
            principal = self.principal,
            tenant = self.tenant,
            method = %self.method,
            path = self.template,
            status = status.as_u16(),
            code = self.code.map(Code::name),
            client = self.client.map(tracing::field::display),
            ms = took.as_secs_f64() * 1000.0,
            "request"
        );
        answer
    }
}
