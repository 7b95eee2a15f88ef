//! The body of a member's answer, as `http_body` knows bodies.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame};

/// See the module.
#[derive(Debug)]
pub struct Incoming(RecvStream);

impl Incoming {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self(stream)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.0.poll_data(cx)) {
            Some(Ok(data)) => {
                // The window opens again as it is read.
                let taken = self.0.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(taken.map(|()| Frame::data(data))));
            }
            // RFC 9113 section 8.1: the whole answer was sent, and nothing more of the request is wanted.
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        let trailers = ready!(self.0.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
