//! Bodies of requests and of answers, whichever protocol carries them.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use anyhow::Result;
use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

/// A request's body. Not boxed: the load makes one for each request.
pub enum Body {
    /// All of it at once.
    Whole(Option<Bytes>),
    /// A first piece of one that is never ended, as a client's side of a stream that stays open.
    Unended(Option<Bytes>),
}

/// All of a body at once.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Body::Whole(Some(bytes.into()).filter(|b| !b.is_empty()))
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            // Nobody wakes it: the stream ends with its connection.
            Body::Unended(bytes) => bytes.take().map_or(Poll::Pending, |b| Poll::Ready(Some(Ok(Frame::data(b))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Unended(_) => SizeHint::default(),
        }
    }
}

/// An answer's body.
pub enum Answer {
    /// Over HTTP/1.1.
    Http1(Incoming),
    /// Over h2.
    Http2(RecvStream),
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let stream = match self.get_mut() {
            Answer::Http1(body) => return Pin::new(body).poll_frame(cx).map_err(Into::into),
            Answer::Http2(stream) => stream,
        };
        if let Some(data) = ready!(stream.poll_data(cx)?) {
            stream.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(stream.poll_trailers(cx)?);
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
