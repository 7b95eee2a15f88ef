//! One log line and one measurement for each request; the request id on each answer.

use std::time::Instant;

use conflux_common::{error::Code, headers, telemetry::RequestLine};
use http::{HeaderValue, Method, Request, StatusCode};

use super::measured::measure;
use crate::{
    refused::{Answered, AuditSink},
    session_adapter::{Answer, ClientAddress, RequestBody},
};

/// What is known of a request by now.
pub(super) struct Access {
    pub(super) request_id: String,
    pub(super) principal: String,
    pub(super) tenant: String,
    pub(super) template: &'static str,
    pub(super) code: Option<Code>,
    /// The canonical path; empty: there is none.
    pub(super) path: String,
    /// Whether it would change something.
    pub(super) write: bool,
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
            path: String::new(),
            write: false,
            method: request.method().clone(),
            client: request.extensions().get::<ClientAddress>().map(|a| a.0),
        }
    }

    /// Tells of the request if it was refused.
    pub(super) fn tell(&self, sink: Option<&dyn AuditSink>, answer: &Answer) {
        let (Some(sink), Answer::Response(response)) = (sink, answer) else { return };
        let answered = Answered {
            request_id: &self.request_id,
            principal: &self.principal,
            tenant: &self.tenant,
            method: &self.method,
            path: &self.path,
            write: self.write,
            status: response.status(),
            // The gateway's own refusal, or the one that a shard has answered.
            code: self.code.or_else(|| response.extensions().get::<Code>().copied()),
            client: self.client,
        };
        if let Some(attempt) = answered.refused() {
            sink.record(attempt);
        }
    }

    /// Writes the line, and the request id into the answer.
    pub(super) fn finish(self, mut answer: Answer, started: Instant) -> Answer {
        let status = match &mut answer {
            Answer::Response(response) => {
                if let Ok(id) = HeaderValue::from_str(&self.request_id) {
                    response.headers_mut().insert(headers::REQUEST_ID, headers::unrepeated(id));
                }
                response.headers_mut().entry("x-content-type-options").or_insert(HeaderValue::from_static("nosniff"));
                response.status()
            }
            Answer::Upgrade(_) => StatusCode::SWITCHING_PROTOCOLS,
        };
        let took = started.elapsed();
        measure(self.template, status, took);
        let line = RequestLine {
            request_id: &self.request_id,
            principal: &self.principal,
            tenant: &self.tenant,
            method: self.method.as_str(),
            path: self.template,
            status: status.as_u16(),
            code: self.code.map(Code::name),
            client: self.client,
            took,
        };
        line.log();
        answer
    }
}
