//! The worker on a thread of its own.

use std::{
    io, iter,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
};

use super::{FLOOR_IDLE, Job, QUEUE, Worker};

pub(super) struct Runner {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    pub(super) fn start(worker: Worker) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("raft-log-sync".into()).spawn(move || run(worker, &jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// False: it has stopped.
    pub(super) fn submit(&self, job: Job) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.send(job).is_ok())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sync worker has panicked");
        }
    }
}

fn run(mut worker: Worker, jobs: &Receiver<Job>) {
    loop {
        let first = if worker.owes_floor() {
            jobs.recv_timeout(FLOOR_IDLE)
        } else {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match first {
            Ok(first) => worker.serve(iter::once(first).chain(jobs.try_iter().take(QUEUE)).collect()),
            Err(RecvTimeoutError::Timeout) => worker.write_floor(),
            Err(RecvTimeoutError::Disconnected) => return worker.write_floor(),
        }
    }
}
