//! Places at which a test can make a process die at once, as by `kill -9`. Nothing of it is in a release build.
//!
//! `CONFLUX_FAILPOINTS` names a directory. A process that passes the place `move.before_freezing` while a file of that name is in
//! the directory takes the file away and dies. So a test arms a place while the federation runs, without knowing who will
//! pass it; one process dies for one file, and the same place is passed unharmed after a restart.
//!
//! Disks are made ill in the same way, one process at a time: while `disk.log_sync@4711` is in the directory, process 4711
//! waits there as long as the file says (`delay 200`, in milliseconds) or is told that it failed (`fail`).

/// The environment variable with the directory.
pub const VARIABLE: &str = "CONFLUX_FAILPOINTS";

/// The place of this name: dies here if it is armed.
#[inline]
pub fn hit(name: &str) {
    #[cfg(debug_assertions)]
    armed::hit(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// The place of this name, where a disk does its work: slow or an error while a test wants it so. Blocks.
#[inline]
pub fn ail(name: &str) -> std::io::Result<()> {
    #[cfg(debug_assertions)]
    return armed::ail(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        Ok(())
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        io,
        path::{Path, PathBuf},
        sync::LazyLock,
        time::Duration,
    };

    static DIRECTORY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os(super::VARIABLE).map(PathBuf::from));

    pub(super) fn hit(name: &str) {
        if DIRECTORY.as_deref().is_some_and(|directory| take(directory, name)) {
            eprintln!("failpoint {name}: this process dies here");
            std::process::abort();
        }
    }

    pub(super) fn ail(name: &str) -> io::Result<()> {
        DIRECTORY.as_deref().map_or(Ok(()), |directory| suffer(directory, name))
    }

    /// What the file for this process says is done.
    pub(super) fn suffer(directory: &Path, name: &str) -> io::Result<()> {
        let Ok(text) = std::fs::read_to_string(directory.join(format!("{name}@{}", std::process::id()))) else {
            return Ok(());
        };
        match text.trim().strip_prefix("delay ").and_then(|ms| ms.parse().ok()) {
            Some(ms) => std::thread::sleep(Duration::from_millis(ms)),
            None => return Err(io::Error::other(format!("failpoint {name}: a test wants it to fail"))),
        }
        Ok(())
    }

    /// Whether it was armed. Of several who ask at once one is told yes.
    pub(super) fn take(directory: &Path, name: &str) -> bool {
        std::fs::remove_file(directory.join(name)).is_ok()
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    /// One process dies for one file: a restarted one must get past the place, or no move would ever end.
    #[test]
    fn an_armed_place_fires_once() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("move.before_freezing"), "").unwrap();
        assert!(!armed::take(directory.path(), "move.after_freezing"));
        assert!(armed::take(directory.path(), "move.before_freezing"));
        assert!(!armed::take(directory.path(), "move.before_freezing"));
    }

    /// Only the process that is meant, and only while it is meant.
    #[test]
    fn a_disk_fails_while_its_file_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = |pid: u32| directory.path().join(format!("disk.log_sync@{pid}"));
        std::fs::write(file(std::process::id() + 1), "fail").unwrap();
        assert!(armed::suffer(directory.path(), "disk.log_sync").is_ok());
        std::fs::write(file(std::process::id()), "fail").unwrap();
        assert!(armed::suffer(directory.path(), "disk.log_sync").is_err());
        std::fs::write(file(std::process::id()), "delay 1").unwrap();
        assert!(armed::suffer(directory.path(), "disk.log_sync").is_ok());
    }

    /// Without the variable a place is passed.
    #[test]
    fn a_place_that_nobody_armed_is_passed() {
        hit("move.before_freezing");
        ail("disk.log_sync").unwrap();
    }
}
