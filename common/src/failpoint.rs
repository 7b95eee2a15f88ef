//! Places at which a test can make a process die at once, as by `kill -9`. Nothing of it is in a release build.
//!
//! `CONFLUX_FAILPOINTS` names a directory. A process that passes the place `move.before_freezing` while a file of that name is in
//! the directory takes the file away and dies. So a test arms a place while the federation runs, without knowing who will
//! pass it; one process dies for one file, and the same place is passed unharmed after a restart.

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

#[cfg(debug_assertions)]
mod armed {
    use std::{
        path::{Path, PathBuf},
        sync::LazyLock,
    };

    static DIRECTORY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os(super::VARIABLE).map(PathBuf::from));

    pub(super) fn hit(name: &str) {
        if DIRECTORY.as_deref().is_some_and(|directory| take(directory, name)) {
            eprintln!("failpoint {name}: this process dies here");
            std::process::abort();
        }
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

    /// Without the variable a place is passed.
    #[test]
    fn a_place_that_nobody_armed_is_passed() {
        hit("move.before_freezing");
    }
}
