//! Server-sent events: what browsers and curl speak.

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, Response, header};

use super::{
    Lane, WatchRequest, frame,
    selection::Wish,
    watcher::{Opening, Output, Watcher},
};
use crate::{respond::refuse, session_adapter::Answer};
use std::{convert::Infallible, sync::Arc};

/// Milliseconds after which browsers reconnect, at least; spread, so that a gateway's end is not followed by a flood.
const RETRY_MS: std::ops::Range<u32> = 500..2000;

pub(super) async fn serve(lane: &Arc<Lane>, request: WatchRequest) -> Answer {
    let WatchRequest { parts, identity, route, request_id, style, .. } = request;
    let opened = async {
        let wish = Wish::of_rest(parts.uri.query(), &parts.headers)?;
        let opening = Opening { identity, route, wish, transport: "sse" };
        Watcher::open(lane, opening).await
    };
    match opened.await {
        Ok(_) if parts.method == Method::HEAD => Answer::Response(head(&request_id).map(|()| Body::empty())),
        Ok(watcher) => {
            let response = head(&request_id);
            let stream = Body::from_stream(frames(watcher, request_id));
            Answer::Response(response.map(|()| stream))
        }
        Err(error) => refuse(&error, style, &request_id),
    }
}

fn head(request_id: &str) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    // Proxies that buffer would hold frames back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(conflux_common::headers::REQUEST_ID, id);
    }
    response
}

/// Nothing is made before the client has taken the last frame.
fn frames(watcher: Watcher, request_id: String) -> impl futures::Stream<Item = Result<Bytes, Infallible>> {
    let first = first(&watcher);
    let then = futures::stream::unfold(Some(watcher), move |watcher| {
        let request_id = request_id.clone();
        async move {
            let mut watcher = watcher?;
            let output = watcher.next().await;
            let frame = render(&watcher, &output, &request_id);
            let next = (!matches!(output, Output::End(_))).then_some(watcher);
            Some((Ok(frame), next))
        }
    });
    futures::StreamExt::chain(futures::stream::once(std::future::ready(Ok(first))), then)
}

/// Tells at once that the watch is open, and from where it can be resumed.
fn first(watcher: &Watcher) -> Bytes {
    let mut out = BytesMut::from(format!("retry: {}\n\n", rand::random_range(RETRY_MS)).as_bytes());
    out.put(render(watcher, &Output::Progress, ""));
    out.freeze()
}

fn render(watcher: &Watcher, output: &Output, request_id: &str) -> Bytes {
    let (scope, at) = (watcher.scope(), watcher.at());
    let (event, data) = match output {
        Output::Change(told) => ("change", frame::change(scope, told)),
        Output::Progress => ("progress", frame::progress(scope, at, false)),
        Output::End(error) => ("error", frame::error(scope, at, error, request_id)),
    };
    let id = watcher.token();
    let mut out = BytesMut::with_capacity(data.len() + id.len() + 40);
    // A gateway that stops says it once more: its watchers must not all come at once.
    if let Output::End(error) = output
        && error.retryable()
    {
        out.put_slice(format!("retry: {}\n", rand::random_range(RETRY_MS)).as_bytes());
    }
    // JSON has no line breaks, so that one `data:` holds it.
    for part in [b"id: ", id.as_bytes(), b"\nevent: ", event.as_bytes(), b"\ndata: ", &data, b"\n\n"] {
        out.put_slice(part);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_watcher_is_small() {
        // There may be fifty thousand of them.
        fn size_of<T, R>(_: impl Fn(T, String) -> R) -> usize {
            std::mem::size_of::<R>()
        }
        let bytes = size_of::<Watcher, _>(frames);
        assert!(bytes < 3000, "{bytes} bytes for each event stream");
    }
}
