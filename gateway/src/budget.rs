//! The bytes of bodies that all requests in flight may hold together.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use conflux_common::error::{ApiError, Code};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::session_adapter::RequestBody;

/// Permits are of so many bytes.
const UNIT: usize = 1024;
/// A body must arrive at this rate at least, in bytes a second, after its first [`PATIENCE`].
const SLOWEST: u64 = 16 * 1024;
/// Before this nobody is called slow.
const PATIENCE: Duration = Duration::from_secs(5);
/// However large it is, a body is there after this.
const LONGEST: Duration = Duration::from_secs(30);

/// Cheap to clone; all clones share the budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

/// A whole body and its share of the budget.
#[derive(Debug)]
pub struct Held {
    /// The body.
    pub bytes: Bytes,
    _share: Vec<OwnedSemaphorePermit>,
}

impl Budget {
    /// One of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Reads a body of at most `limit` bytes.
    pub async fn collect(&self, mut body: RequestBody, limit: usize) -> Result<Held, ApiError> {
        let too_large = || ApiError::too_large(format!("the body is larger than {limit} bytes"));
        if body.announced_length().is_some_and(|n| n > limit as u64) {
            return Err(too_large());
        }
        let mut share = Vec::new();
        let mut bytes = BytesMut::new();
        let mut held = 0;
        if let Some(announced) = body.announced_length().filter(|n| *n > 0) {
            let announced = usize::try_from(announced).unwrap_or(limit);
            share.push(self.take(announced)?);
            bytes.reserve(announced);
            held = announced;
        }
        let started = Instant::now();
        loop {
            let frame = tokio::time::timeout_at(slowest_arrival(started, bytes.len()), body.frame())
                .await
                .map_err(|_| ApiError::new(Code::DeadlineExceeded, "the request body came too slowly"))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| ApiError::invalid("body", "it broke off"))?;
            let Ok(chunk) = frame.into_data() else { continue };
            if bytes.len() + chunk.len() > limit {
                return Err(too_large());
            }
            if bytes.len() + chunk.len() > held {
                let more = chunk.len().max(16 * 1024);
                share.push(self.take(more)?);
                held += more;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Held { bytes: bytes.freeze(), _share: share })
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.0.clone().try_acquire_many_owned(units).map_err(|_| {
            metrics::counter!("conflux_gateway_budget_refused_total").increment(1);
            let message = "this gateway holds as many request bodies as it may; try again";
            ApiError::new(Code::ResourceExhausted, message).retry_after(Duration::from_secs(1))
        })
    }
}

/// When the next chunk must be there at the latest.
fn slowest_arrival(started: Instant, read: usize) -> Instant {
    let earned = Duration::from_millis(read as u64 * 1000 / SLOWEST);
    started + (PATIENCE + earned).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_sender_gets_no_more_time_than_its_bytes_earn() {
        // Attack 22: a byte now and then must not hold a place for ever.
        let start = Instant::now();
        assert_eq!(slowest_arrival(start, 0), start + PATIENCE);
        assert_eq!(slowest_arrival(start, 1), start + PATIENCE);
        assert_eq!(slowest_arrival(start, 16 * 1024), start + PATIENCE + Duration::from_secs(1));
        assert_eq!(slowest_arrival(start, 100 << 20), start + LONGEST);
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Budget::new(64 * 1024);
        let held = budget.take(60 * 1024).unwrap();
        let refused = budget.take(10 * 1024).unwrap_err();
        assert_eq!(refused.http_status(), 429);
        assert!(refused.retry_after.is_some());
        drop(held);
        assert!(budget.take(10 * 1024).is_ok());
    }
}
