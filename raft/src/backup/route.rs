//! `GET /_cluster/backup`: this member's state as a stream of frames.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use conflux_common::error::{ApiError, Code, Hint};
use futures::StreamExt;
use http::{HeaderValue, header};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;

use crate::{App, RaftNode};

/// For the state to be current.
const CURRENT_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Refuse on the leader, so that another member is asked: a backup reads much.
    #[serde(default)]
    follower: bool,
}

/// One backup at a time on a member.
pub(crate) fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(1))
}

/// Answers it. Who asks was checked.
pub(crate) async fn serve<A: App>(
    (node, slots): (RaftNode<A>, Arc<Semaphore>),
    asked: Asked,
) -> Result<Response, ApiError> {
    if asked.follower && node.check_leader().is_ok() {
        return Err(ApiError::elsewhere(Hint::TryOther, "this member leads: ask a follower"));
    }
    let slot = slots.try_acquire_owned().map_err(|_| {
        let error = ApiError::new(Code::ResourceExhausted, "another backup is being read from this member");
        error.retry_after(Duration::from_secs(5))
    })?;
    let frames = node.backup(CURRENT_WITHIN).await?;
    tracing::info!("a backup of this member's state is being read");
    let frames = ReceiverStream::new(frames.into_inner()).map(move |frame| {
        // Given back with the stream.
        let _ = &slot;
        frame
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
