//! What apply does only from which replicated level on (DESIGN section 3): the leader raises it once every member can.

/// The highest that this release can apply.
pub(super) const HIGHEST: u32 = 2;

/// Configs have copies of the versions that they serve (`served.rs`).
pub(super) const COPIES: u32 = 2;

/// A tenant's row says up to when answers have been forgotten (`expire.rs`).
pub(super) const FORGOTTEN_MARK: u32 = 2;
