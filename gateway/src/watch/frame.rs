//! What watchers are sent, as text and as protobuf.

use bytes::Bytes;
use conflux_common::{error::ApiError, ids::RevisionMark};
use conflux_proto::v1;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{token::Scope, watcher::Told};

#[derive(Serialize)]
struct ChangeFrame<'a> {
    revision: String,
    token: String,
    events: Vec<EventText<'a>>,
}

/// An event as DESIGN section 7 names its fields. What it does not have is left out.
#[derive(Serialize)]
struct EventText<'a> {
    revision: u64,
    time: String,
    #[serde(rename = "type")]
    kind: &'a str,
    app: &'a str,
    env: &'a str,
    name: &'a str,
    config_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    hash: &'a str,
}

#[derive(Serialize)]
struct ProgressFrame {
    revision: String,
    token: String,
    progress: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribed: Option<bool>,
}

#[derive(Serialize)]
struct ErrorFrame {
    error: conflux_common::error::ErrorInfo,
    revision: String,
    token: String,
}

impl<'a> From<&'a v1::Event> for EventText<'a> {
    fn from(event: &'a v1::Event) -> Self {
        EventText {
            revision: event.revision,
            time: text_of_time(event.time_ms),
            kind: &event.r#type,
            app: &event.app,
            env: &event.env,
            name: &event.name,
            config_id: &event.config_id,
            version: (event.version != 0).then_some(event.version),
            hash: &event.hash,
        }
    }
}

fn text_of_time(ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

fn text(frame: &impl Serialize) -> Bytes {
    // Strings and numbers only: this cannot fail, and an empty frame would be seen.
    serde_json::to_vec(frame).unwrap_or_default().into()
}

/// All selected events of one revision.
pub fn change(scope: Scope, told: &Told) -> Bytes {
    let make = || {
        let mark = told.held.mark;
        let events = told.changes().map(|change| EventText::from(&change.event)).collect();
        text(&ChangeFrame { revision: mark.to_string(), token: scope.token(mark), events })
    };
    match told.part {
        None => told.held.whole.get_or_init(make).clone(),
        Some(_) => make(),
    }
}

/// Everything up to there has been sent. `subscribed`: answers a change of subscription.
pub fn progress(scope: Scope, at: RevisionMark, subscribed: bool) -> Bytes {
    let subscribed = subscribed.then_some(true);
    text(&ProgressFrame { revision: at.to_string(), token: scope.token(at), progress: true, subscribed })
}

/// The JSON of every error, and where the watch was.
pub fn error(scope: Scope, at: RevisionMark, error: &ApiError, request_id: &str) -> Bytes {
    let error = error.to_body(request_id).error;
    text(&ErrorFrame { error, revision: at.to_string(), token: scope.token(at) })
}

/// A change or (without one) a progress mark over gRPC.
pub fn message(scope: Scope, at: RevisionMark, told: Option<&Told>) -> v1::WatchResponse {
    v1::WatchResponse {
        events: told.map(|t| t.changes().map(|c| c.event.clone()).collect()).unwrap_or_default(),
        revision: at.to_string(),
        token: scope.token(at),
        progress: told.is_none(),
    }
}
