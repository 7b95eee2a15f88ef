//! ReadIndex rounds that readers share: whoever asks while a round is under way waits for the next one, together with all others
//! who do. A round that began after the question is as good as one of its own, and openraft is asked once for all of them.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    app::App,
    confirm::{Unconfirmed, WITHIN, confirm},
    replica::Member,
    types::LogId,
};

type Outcome = Result<LogId, Unconfirmed>;

/// Who waits for which round.
#[derive(Default)]
pub(crate) struct Barrier(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// A task makes rounds until nobody waits.
    running: bool,
    next: Vec<oneshot::Sender<Outcome>>,
}

impl Barrier {
    /// Whether this reader has to start the rounds, and where its outcome will come.
    fn join(&self) -> (bool, oneshot::Receiver<Outcome>) {
        let (tell, outcome) = oneshot::channel();
        let mut waiting = self.0.lock();
        waiting.next.push(tell);
        let starts = !waiting.running;
        waiting.running = true;
        (starts, outcome)
    }

    /// Those of the next round; none: the rounds end.
    fn begin(&self) -> Option<Vec<oneshot::Sender<Outcome>>> {
        let mut waiting = self.0.lock();
        let next = std::mem::take(&mut waiting.next);
        waiting.running = !next.is_empty();
        waiting.running.then_some(next)
    }
}

/// One ReadIndex round that begins after this call: after it, everything up to the answered log id was committed, and nothing above
/// it was before.
pub(crate) async fn read_index<A: App>(member: &Arc<Member<A>>, within: Duration) -> Outcome {
    let (starts, outcome) = member.barrier.join();
    if starts {
        // A task of its own: a reader that gives up must not take the others' round along.
        tokio::spawn(rounds(member.clone()));
    }
    match tokio::time::timeout(within, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Unconfirmed::Stopped("the round was given up".into())),
        Err(_) => Err(Unconfirmed::NoQuorum),
    }
}

/// Dropped where the rounds break off: those who wait are told at once, and the next reader begins new ones.
struct BrokeOff<'a>(&'a Barrier);

impl Drop for BrokeOff<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() = Waiting::default();
    }
}

async fn rounds<A: App>(member: Arc<Member<A>>) {
    let broke_off = BrokeOff(&member.barrier);
    while let Some(readers) = member.barrier.begin() {
        let outcome = confirm(&member, WITHIN).await;
        for reader in readers {
            // Who has gone needs no answer.
            let _ = reader.send(outcome.clone());
        }
    }
    // They ended as they should; new ones may have begun already.
    std::mem::forget(broke_off);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule that makes a read linearizable: no question is answered by a round that began before it.
    #[test]
    fn who_asks_during_a_round_waits_for_the_next() {
        let barrier = Barrier::default();
        let (starts, mut first) = barrier.join();
        assert!(starts);
        let round = barrier.begin().unwrap();
        let (starts, mut second) = barrier.join();
        assert!(!starts, "one task makes the rounds");
        assert_eq!(round.len(), 1);
        round.into_iter().for_each(|reader| assert!(reader.send(Err(Unconfirmed::NoQuorum)).is_ok()));
        assert!(first.try_recv().is_ok());
        assert!(second.try_recv().is_err(), "its round has not begun");
        assert_eq!(barrier.begin().unwrap().len(), 1);
        assert!(barrier.begin().is_none());
        assert!(barrier.join().0, "rounds that have ended are begun again");
    }

    #[test]
    fn rounds_that_broke_off_keep_nobody_waiting() {
        let barrier = Barrier::default();
        let (_, mut waiting) = barrier.join();
        drop(BrokeOff(&barrier));
        assert!(matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(barrier.join().0);
    }
}
