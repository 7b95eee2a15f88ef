//! The stream of changes, served by any member from its own state.
//!
//! The history in the state database is the queue: a stream holds nothing but its position and a few frames on their
//! way. It marks the changes as seen before it looks, so that none is missed, and a slow reader is cut off.

use std::time::Duration;

use conflux_common::error::{ApiError, Code, Hint};
use conflux_proto::{
    internal::{ChangesRequest, ChangesResponse},
    status::to_status,
};
use futures::{Stream, StreamExt, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::follow::Follower;
use crate::service::Service;

/// Frames on their way to one reader.
const QUEUE: usize = 16;
/// A reader that takes no frame for so long is cut off.
const SLOW: Duration = Duration::from_secs(10);
/// Between two marks of progress.
const PROGRESS: Duration = Duration::from_secs(1);
/// Progress is claimed, and a stream begun, only if a quorum confirmed this state so recently.
const FRESH: Duration = Duration::from_secs(3);

type Frame = Result<ChangesResponse, Status>;

/// The stream that answers this request. `slot` is held as long as it lives.
pub fn stream(
    service: Service,
    request: &ChangesRequest,
    slot: OwnedSemaphorePermit,
    request_id: String,
) -> Result<impl Stream<Item = Frame> + Send + 'static, ApiError> {
    // A member that is alone, or new and empty, would tell of a federation without tenants.
    if service.node.freshness().age > FRESH {
        let why = "this member has not heard from a quorum of placement lately";
        return Err(ApiError::elsewhere(Hint::TryOther, why));
    }
    let follower = Follower::new(request);
    let (frames, receiver) = mpsc::channel(QUEUE);
    let feeding = tokio::spawn(async move {
        let _slot = slot;
        feed(service, follower, frames).await
    });
    // Behind what is on its way: why there is no more.
    let end = stream::once(feeding).map(move |ended| {
        let why = ended.unwrap_or_else(|e| ApiError::new(Code::Internal, format!("the stream broke: {e}")));
        Err(to_status(&why, &request_id))
    });
    Ok(ReceiverStream::new(receiver).chain(end))
}

/// Sends until the reader is gone or cut off, or the member stops; says why.
async fn feed(service: Service, mut follower: Follower, frames: mpsc::Sender<Frame>) -> ApiError {
    let mut news = service.node.app().last_change();
    let mut tick = interval(PROGRESS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut spoken = Instant::now();
    loop {
        news.borrow_and_update();
        let next = match service.read(|view| follower.next(view)) {
            Ok(next) => next,
            Err(error) => return error,
        };
        for frame in next {
            match timeout(SLOW, frames.send(Ok(frame))).await {
                Ok(Ok(())) => spoken = Instant::now(),
                Ok(Err(_)) => return gone(),
                Err(_) => return too_slow(),
            }
        }
        let Some(seq) = follower.caught_up_to() else { continue };
        tokio::select! {
            () = service.stopping.cancelled() => {
                return ApiError::elsewhere(Hint::TryOther, "this member of placement is stopping");
            }
            () = frames.closed() => return gone(),
            changed = news.changed() => if changed.is_err() { return gone() },
            _ = tick.tick() => {
                if spoken.elapsed() < PROGRESS / 2 || service.node.freshness().age > FRESH {
                    continue;
                }
                // Ahead of changes that are not sent yet nothing may be claimed: the mark carries what was delivered.
                let mark = ChangesResponse { seq, progress: true, ..Default::default() };
                match timeout(SLOW, frames.send(Ok(mark))).await {
                    Ok(Ok(())) => spoken = Instant::now(),
                    Ok(Err(_)) => return gone(),
                    Err(_) => return too_slow(),
                }
            }
        }
    }
}

/// Nobody reads this.
fn gone() -> ApiError {
    ApiError::new(Code::Unavailable, "the reader has gone")
}

fn too_slow() -> ApiError {
    metrics::counter!("conflux_placement_streams_cut_total").increment(1);
    let why = "the reader is too slow: resume after the last sequence that it has";
    ApiError::new(Code::ResourceExhausted, why).retry_after(Duration::from_secs(1))
}
