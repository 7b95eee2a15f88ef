//! Where something happens: which host's runtime runs now, and by how much its clock is wrong.

use std::cell::RefCell;

use tokio::runtime::{Handle, Id};

struct Host {
    name: String,
    /// Of its present runtime; none while it is down.
    runtime: Option<Id>,
    clock_error_ms: i64,
}

thread_local! {
    static HOSTS: RefCell<Vec<Host>> = const { RefCell::new(Vec::new()) };
}

/// The caller runs on this host.
pub fn enter(name: &str) {
    let runtime = Handle::try_current().ok().map(|handle| handle.id());
    HOSTS.with_borrow_mut(|hosts| match hosts.iter_mut().find(|host| host.name == name) {
        Some(host) => host.runtime = runtime,
        None => hosts.push(Host { name: name.to_owned(), runtime, clock_error_ms: 0 }),
    });
}

/// The wall clock of this host is so far ahead (below zero: behind).
pub fn set_clock_error(name: &str, ms: i64) {
    HOSTS.with_borrow_mut(|hosts| {
        if let Some(host) = hosts.iter_mut().find(|host| host.name == name) {
            host.clock_error_ms = ms;
        }
    });
}

fn present<R>(of: impl FnOnce(&Host) -> R) -> Option<R> {
    let runtime = Handle::try_current().ok()?.id();
    // Asked by libc's clock while a thread ends, or while a host is entered: then nobody is anywhere.
    HOSTS
        .try_with(|hosts| {
            let hosts = hosts.try_borrow().ok()?;
            hosts.iter().find(|host| host.runtime == Some(runtime)).map(of)
        })
        .ok()
        .flatten()
}

/// The name of the present host; none: the simulation itself.
pub fn name() -> Option<String> {
    present(|host| host.name.clone())
}

/// By how much the wall clock of the present host is wrong.
pub fn clock_error_ms() -> i64 {
    present(|host| host.clock_error_ms).unwrap_or(0)
}
