//! What an archive may be. An export is refused by the same bounds, so that what was exported can be imported.

/// Bytes of the archive itself.
pub const ARCHIVE: usize = 8 << 20;
/// Entries, the manifest and folders among them.
pub const ENTRIES: usize = 2_000;
/// Bytes of all entries together, unpacked.
pub const UNPACKED: u64 = 64 << 20;
/// Bytes of the manifest.
pub const MANIFEST: u64 = 8 << 20;
/// An entry above [`RATIO_FROM`] bytes may unpack to so many times its packed size.
pub const RATIO: u64 = 200;
/// Below this no ratio harms anybody.
pub const RATIO_FROM: u64 = 64 << 10;
