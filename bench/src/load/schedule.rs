//! When the requests of an open loop are due. Whatever the answers do, a request is sent when it is due or as soon after it as its
//! turn comes, and its latency is counted from when it was due: a server that stalls is charged for all that should have come meanwhile.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The pacer sleeps no less: waking costs processor time that the servers need.
const SHORTEST_SLEEP: Duration = Duration::from_micros(200);

/// A steady rate for some time.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Requests per second.
    pub rate: f64,
    /// How long.
    pub window: Duration,
}

impl Schedule {
    /// How long after the start the request of this turn is due; none: the window is over.
    pub fn due(&self, turn: u64) -> Option<Duration> {
        let due = Duration::from_secs_f64(turn as f64 / self.rate);
        (due < self.window).then_some(due)
    }

    /// Tells so many workers in turn when a request of theirs is due, each when its time has come. The timer of the runtime has
    /// milliseconds only; this is a thread of its own, which sleeps as finely as the kernel lets it.
    pub fn pace(self, start: Instant, workers: usize) -> Vec<UnboundedReceiver<Instant>> {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
        // It ends with the window.
        std::thread::spawn(move || self.run(start, &senders));
        receivers
    }

    fn run(self, start: Instant, workers: &[UnboundedSender<Instant>]) {
        let mut turn = 0;
        while let Some(due) = self.due(turn) {
            let (due, now) = (start + due, Instant::now());
            if due > now {
                std::thread::sleep((due - now).max(SHORTEST_SLEEP));
                continue;
            }
            // A worker that is gone has failed, and says so itself.
            let _ = workers[turn as usize % workers.len()].send(due);
            turn += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_the_rate_until_the_window_ends() {
        let schedule = Schedule { rate: 250.0, window: Duration::from_secs(2) };
        assert_eq!(schedule.due(0), Some(Duration::ZERO));
        assert_eq!(schedule.due(1), Some(Duration::from_millis(4)));
        assert_eq!((0..).map_while(|turn| schedule.due(turn)).count(), 500);
    }

    #[tokio::test]
    async fn who_is_late_is_told_when_it_should_have_been() {
        // The start is in the past: everything is due at once, each at its own time, and no worker is left out.
        let (schedule, past) =
            (Schedule { rate: 100.0, window: Duration::from_millis(100) }, Duration::from_millis(100));
        let start = Instant::now().checked_sub(past).unwrap();
        let mut workers = schedule.pace(start, 3);
        let mut all = Vec::new();
        for worker in &mut workers {
            while let Some(due) = worker.recv().await {
                all.push((due - start).as_millis());
            }
        }
        all.sort_unstable();
        assert_eq!(all, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    }
}
