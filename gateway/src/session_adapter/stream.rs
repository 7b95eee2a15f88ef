//! One h2 stream: its request through the service, and the answer back.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc, task::Poll};

use axum::body::Body;
use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Method, Request, Response, header};
use http_body::{Body as _, Frame};
use pingora::protocols::http::date::get_cached_date;
use tokio::time::{Instant, timeout_at};

use super::{Answer, ClientAddress, Gone, RequestBody, WRITE_TIMEOUT, is_bodiless};
use crate::{listener::Service, respond};

impl From<h2::Error> for Gone {
    fn from(error: h2::Error) -> Self {
        Gone(error.to_string())
    }
}

/// Answers one request. A client that resets the stream cancels the service's future and its body.
pub(crate) async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    client: Option<SocketAddr>,
    service: Arc<dyn Service>,
) {
    if let Err(gone) = exchange(request, &mut respond, client, service).await {
        tracing::debug!(error = %gone, "request given up");
    }
}

async fn exchange(
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    client: Option<SocketAddr>,
    service: Arc<dyn Service>,
) -> Result<(), Gone> {
    // It may have been reset before its turn came.
    if let Poll::Ready(reset) = poll_fn(|cx| Poll::Ready(respond.poll_reset(cx))).await {
        return left(reset);
    }
    let is_head = request.method() == Method::HEAD;
    let response = match is_ambiguous(&request) {
        true => respond::unreadable(false).map(Body::from),
        false => answered(adapted(request, client), respond, service).await?,
    };
    write(response, is_head, respond).await
}

/// Waits for the answer. What the service held is gone when it returns, however long the answer's body takes.
async fn answered(
    request: Request<RequestBody>,
    respond: &mut SendResponse<Bytes>,
    service: Arc<dyn Service>,
) -> Result<Response<Body>, Gone> {
    let mut answer = service.answer(request);
    let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Ok(answer)),
        Poll::Pending => respond.poll_reset(cx).map(left),
    });
    match answer.await? {
        Answer::Response(response) => Ok(response),
        // The door lets nobody ask for it over h2.
        Answer::Upgrade(_) => Err(Gone("no stream of h2 can be taken over".into())),
    }
}

fn left<T>(reset: Result<h2::Reason, h2::Error>) -> Result<T, Gone> {
    reset.map_err(Gone::from).and_then(|reason| Err(Gone(format!("reset: {reason}"))))
}

fn adapted(request: Request<RecvStream>, client: Option<SocketAddr>) -> Request<RequestBody> {
    let (parts, body) = request.into_parts();
    let body = RequestBody::of_stream(body, &parts.headers);
    let mut request = Request::from_parts(parts, body);
    if let Some(client) = client {
        request.extensions_mut().insert(ClientAddress(client));
    }
    request
}

/// Whether whoever stands before us may have read another authority in it than we would (RFC 9113, 8.3.1).
fn is_ambiguous(request: &Request<RecvStream>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, more) = (hosts.next().map(|host| host.as_bytes()), hosts.next());
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let named = match (authority, host) {
        (Some(authority), Some(host)) if authority != host => None,
        (authority, host) => authority.or(host),
    };
    more.is_some() || named.is_none_or(|named| named.contains(&b'@'))
}

async fn write(response: Response<Body>, is_head: bool, respond: &mut SendResponse<Bytes>) -> Result<(), Gone> {
    let (mut parts, body) = response.into_parts();
    own_to_http1(&mut parts.headers);
    parts.headers.insert(header::DATE, get_cached_date());
    // One frame, as gRPC's "trailers only" demands.
    let ended = body.is_end_stream() || is_bodiless(is_head, parts.status);
    let mut to = respond.send_response(Response::from_parts(parts, ()), ended)?;
    if ended { Ok(()) } else { write_body(body, &mut to).await }
}

/// Takes out what h2 has other means for (RFC 9113, 8.2.2); it would refuse the whole answer.
fn own_to_http1(headers: &mut HeaderMap) {
    for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
}

async fn write_body(mut body: Body, to: &mut SendStream<Bytes>) -> Result<(), Gone> {
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => to.poll_reset(cx).map(left),
        });
        let Some(frame) = frame.await? else { return Ok(to.send_data(Bytes::new(), true)?) };
        let frame = frame.map_err(|error| Gone(format!("the answer broke off: {error}")))?;
        let ended = body.is_end_stream();
        match frame.into_data() {
            Ok(data) => write_data(data, ended, to).await?,
            Err(frame) => return write_trailers(frame, to),
        }
        if ended {
            return Ok(());
        }
    }
}

fn write_trailers(frame: Frame<Bytes>, to: &mut SendStream<Bytes>) -> Result<(), Gone> {
    match frame.into_trailers() {
        Ok(trailers) => Ok(to.send_trailers(trailers)?),
        Err(_) => Ok(to.send_data(Bytes::new(), true)?),
    }
}

/// As fast as the client's window lets it.
async fn write_data(mut data: Bytes, ended: bool, to: &mut SendStream<Bytes>) -> Result<(), Gone> {
    let mut until = None;
    loop {
        to.reserve_capacity(data.len());
        if to.capacity() == 0 && !data.is_empty() {
            // For the whole of it: who takes a byte now and then takes it too slowly.
            let until = *until.get_or_insert_with(|| Instant::now() + WRITE_TIMEOUT);
            opened(to, until).await?;
        }
        let part = data.split_to(to.capacity().min(data.len()));
        let last = data.is_empty();
        to.send_data(part, ended && last)?;
        if last {
            return Ok(());
        }
    }
}

/// Waits until the client takes more.
async fn opened(to: &mut SendStream<Bytes>, until: Instant) -> Result<(), Gone> {
    let opened = async {
        while to.capacity() == 0 {
            match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(room) => room?,
                None => return Err(Gone("the stream is closed".into())),
            };
        }
        Ok(())
    };
    match timeout_at(until, opened).await {
        Ok(opened) => opened,
        Err(_) => {
            to.send_reset(h2::Reason::CANCEL);
            Err(Gone(format!("the answer was not taken within {WRITE_TIMEOUT:?}")))
        }
    }
}
