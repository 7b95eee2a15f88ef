//! The worker as a task of the simulation, on a disk whose syncs take as long as chance says.

use std::{io, time::Duration};

use rand::Rng;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{sleep, timeout},
};

use super::{FLOOR_IDLE, Job, QUEUE, Worker};

/// One sync in so many is a slow one.
const SLOW_ONE_IN: u32 = 50;
const SYNC_MS: std::ops::Range<u64> = 0..6;
const SLOW_SYNC_MS: std::ops::Range<u64> = 20..120;

pub(super) struct Runner(Sender<Job>);

impl Runner {
    #[allow(clippy::unnecessary_wraps)] // as the thread's, which may not start
    pub(super) fn start(worker: Worker) -> io::Result<Self> {
        let (queue, jobs) = channel(QUEUE);
        tokio::spawn(run(worker, jobs));
        Ok(Self(queue))
    }

    /// False: it has stopped, or more waits than a simulation ever has under way.
    pub(super) fn submit(&self, job: Job) -> bool {
        self.0.try_send(job).is_ok()
    }
}

async fn run(mut worker: Worker, mut jobs: Receiver<Job>) {
    loop {
        let first = if worker.owes_floor() { timeout(FLOOR_IDLE, jobs.recv()).await } else { Ok(jobs.recv().await) };
        match first {
            Ok(Some(first)) => {
                // What is written meanwhile is under the next sync, as for a real disk.
                let mut waiting = vec![first];
                while let Ok(next) = jobs.try_recv() {
                    waiting.push(next);
                }
                sleep(sync_time()).await;
                worker.serve(waiting);
            }
            Ok(None) => return worker.write_floor(),
            Err(_) => worker.write_floor(),
        }
    }
}

fn sync_time() -> Duration {
    let mut random = rand::rng();
    let range = if random.random_ratio(1, SLOW_ONE_IN) { SLOW_SYNC_MS } else { SYNC_MS };
    Duration::from_millis(random.random_range(range))
}
