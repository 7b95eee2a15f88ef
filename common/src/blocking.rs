//! Work that blocks a thread: on tokio's threads for it. In the simulation of `chaos/sim`, which has one thread and one order
//! of things, it is a task like any other.

#[cfg(not(feature = "simulation"))]
pub use tokio::task::spawn_blocking;

/// As tokio's: the work is done whether or not the handle is awaited.
#[cfg(feature = "simulation")]
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(async move { work() })
}
