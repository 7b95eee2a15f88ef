//! The threads that serve clients. Each has a runtime of its own, whole connections of clients, and its own connections to the members of
//! groups (`upstream.rs`): a call is read, sent on, answered and written on one thread, and none has to wake another. Threads that woke
//! one another were a seventh of what the gateway spent on a proxied fetch (docs/adr/0008-speed.md).
//!
//! What is not of a client (the mirror, reports, the operators' port) runs on the process' own runtime.

use std::{
    cell::Cell,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

thread_local! {
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of this thread among those that serve clients, from 0; none: it is not one of them.
pub(crate) fn own() -> Option<usize> {
    OWN.get()
}

/// Threads that serve clients until this is dropped. What runs on them then is dropped too.
pub struct Threads(Vec<Thread>);

struct Thread {
    runtime: Handle,
    /// What was given to it and has not ended.
    load: Arc<AtomicUsize>,
    _stop: oneshot::Sender<()>,
}

impl Threads {
    /// One for each processor that this process may use.
    pub fn start() -> io::Result<Self> {
        let processors = std::thread::available_parallelism()?.get();
        Ok(Self((0..processors).map(Thread::start).collect::<io::Result<_>>()?))
    }

    /// How many there are.
    pub fn number(&self) -> usize {
        self.0.len()
    }

    /// Runs `task` on the thread that has the fewest. It stays there, with all that it spawns.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(thread) = self.0.iter().min_by_key(|thread| thread.load.load(Ordering::Relaxed)) else { return };
        let counted = Counted::new(&thread.load);
        thread.runtime.spawn(async move {
            let _counted = counted;
            task.await;
        });
    }
}

impl Thread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel::<()>());
        std::thread::Builder::new().name(format!("clients-{number}")).spawn(move || {
            OWN.set(Some(number));
            // It ends with an error: nothing is sent, the sender is dropped.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), _stop: stop })
    }
}

/// Counts a task for as long as it is there.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn two() -> Threads {
        Threads((0..2).map(Thread::start).collect::<io::Result<_>>().unwrap())
    }

    /// A thread with many connections gets no more while another has few; and what a task spawns stays on its thread.
    #[tokio::test]
    async fn the_least_loaded_gets_the_next_and_keeps_it() {
        let threads = two();
        let (told, mut heard) = mpsc::channel(8);
        let (leave, stay) = tokio::sync::watch::channel(());
        for _ in 0..4 {
            let (told, mut stay) = (told.clone(), stay.clone());
            threads.spawn(async move {
                let here = own();
                let spawned = tokio::spawn(async { own() }).await.unwrap();
                told.send((here, spawned)).await.unwrap();
                let _ = stay.changed().await;
            });
        }
        let mut on = [0, 0];
        for _ in 0..4 {
            let (here, spawned) = heard.recv().await.unwrap();
            assert_eq!(here, spawned);
            on[here.unwrap()] += 1;
        }
        assert_eq!(on, [2, 2]);
        assert_eq!(own(), None, "a test's thread serves nobody");
        leave.send(()).unwrap();
    }

    /// What clients had running ends with the threads, so that nothing outlives a gateway.
    #[tokio::test]
    async fn nothing_outlives_the_threads() {
        let threads = two();
        let (held, mut ended) = mpsc::channel::<()>(1);
        threads.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(threads);
        assert_eq!(ended.recv().await, None);
    }
}
