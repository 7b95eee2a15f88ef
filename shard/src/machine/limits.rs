//! What a tenant may have. Part of what apply does: a change needs a new replicated level.

/// Applications and environments of a tenant together. The quotas that an operator sets are in `common::quotas`.
pub const MAX_SCOPES: u64 = 10_000;
/// Bytes of a content: the server's ceiling; a tenant's quota is lower by default.
pub const MAX_CONTENT_BYTES: usize = 1 << 20;
/// Bytes of a config's release rules as they are stored: they travel twice in each event.
pub const MAX_RULES_BYTES: usize = 64 << 10;
/// Bytes of a schema: it is in its config's row.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Drafts of a config.
pub const MAX_DRAFTS: usize = 100;
/// Changes of a changeset.
pub const MAX_CHANGES: usize = 100;
/// Minutes until a version may become the default by itself: a year.
pub const MAX_PROMOTION_MINUTES: u32 = 366 * 24 * 60;
/// Characters of a description.
pub const MAX_DESCRIPTION: usize = 1_024;
/// Tags of a config.
pub const MAX_TAGS: usize = 32;
/// Bytes of a tag.
pub const MAX_TAG_BYTES: usize = 64;
/// Answers of a tenant remembered under a key.
pub const MAX_IDEMPOTENCY_RECORDS: u64 = 1_000_000;
/// Bytes of an idempotency key.
pub const MAX_KEY_BYTES: usize = 255;
/// How long an answer is remembered at most: a client's key.
pub const MAX_KEY_TTL_MS: u64 = 24 * 60 * 60 * 1000;
/// Where the command names no time: a gateway's key.
pub const DEFAULT_KEY_TTL_MS: u64 = 5 * 60 * 1000;
/// Events that a tenant keeps at least.
pub const RETAINED_EVENTS: u64 = 10_000;
/// Audit records that a tenant keeps at least.
pub const RETAINED_AUDIT: u64 = 100_000;
/// Characters of an audit record's summary and of its target: a changeset's are many.
pub const MAX_AUDIT_TEXT: usize = 16 << 10;
/// Versions that one Prune gives up.
pub const VERSIONS_PER_PRUNE: usize = 1_000;
/// Versions that a retention may ask to keep, and days.
pub const MAX_RETENTION: u32 = 1_000_000;
/// Rows that one entry deletes where it names no number.
pub const DEFAULT_SWEEP_ROWS: u32 = 2_000;
/// Rows that one entry deletes at most.
pub const MAX_SWEEP_ROWS: u32 = 10_000;
/// Bytes of rows that a sweep reads in one entry.
pub const MAX_SWEEP_BYTES: usize = 16 << 20;
/// Versions that the deletion of a config deletes in its own entry; `Expire` deletes the rest.
pub const VERSIONS_PER_DELETE: usize = 1_000;
