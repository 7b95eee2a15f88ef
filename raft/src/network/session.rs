//! One session of replication: from the first append of a stream to its last answer or its first error.
//!
//! openraft's stream of requests takes what it sends from a state that all sessions to a follower share. The connection owns
//! that stream, and goes on polling it for a moment after the session is over: whatever it takes then is missing in the next
//! session, which ends at once with nothing sent. openraft then repeats the last command that it had given, however old, and
//! asks for entries that may be purged by now: the follower would be sent entries that do not follow its log. So the stream
//! ends with the session, before it is asked again.

use futures::{Stream, StreamExt};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Held for as long as the session goes on.
pub(super) struct Session {
    _over: DropGuard,
}

/// The same requests, none of which is asked for once the session is dropped.
pub(super) fn begin<S: Stream>(requests: S) -> (Session, impl Stream<Item = S::Item>) {
    let over = CancellationToken::new();
    let ends = over.clone().cancelled_owned();
    // Looks whether it is over before it polls the requests.
    (Session { _over: over.drop_guard() }, requests.take_until(ends))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Poll,
    };

    use super::*;

    /// What a session that is over took would be missing in the next one.
    #[tokio::test]
    async fn a_session_that_is_over_takes_nothing() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let requests = futures::stream::poll_fn(move |_| Poll::Ready(Some(counted.fetch_add(1, Ordering::Relaxed))));
        let (session, requests) = begin(requests);
        tokio::pin!(requests);
        assert_eq!(requests.next().await, Some(0));
        drop(session);
        assert_eq!(requests.next().await, None);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
