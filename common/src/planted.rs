//! Known bugs that can be planted in a process, to prove that the chaos harness finds them. Nothing of it is in a release build.
//!
//! `CONFLUX_PLANTED` names the one that the process has. `conflux-chaos gate` runs a federation with each of them.

/// The environment variable with the name.
pub const VARIABLE: &str = "CONFLUX_PLANTED";

/// Whether this process has the bug of this name.
#[cfg(debug_assertions)]
#[inline]
pub fn has(bug: &str) -> bool {
    sown::has(bug)
}

/// No process of a release build has any.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn has(_bug: &str) -> bool {
    false
}

// A release build in which a bug could be planted does not compile: only what says no at compile time passes here.
#[cfg(not(debug_assertions))]
const _: () = assert!(!has("unchecked_epoch"), "a bug can be planted in a release build");

#[cfg(debug_assertions)]
mod sown {
    use std::sync::LazyLock;

    static BUG: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(super::VARIABLE).ok());

    pub(super) fn has(bug: &str) -> bool {
        BUG.as_deref() == Some(bug)
    }
}

#[cfg(test)]
mod tests {
    /// Who plants nothing has none.
    #[test]
    fn nothing_is_planted_by_itself() {
        assert!(!super::has("unchecked_epoch"));
    }
}
