//! The end of a zip and its central directory, read before anything else: how many entries there are, under which names.
//!
//! The `zip` crate keeps entries by name, so that a second one of the same name would silently take the first one's place; and
//! it looks for another end where the last one does not fit. What is read here has one reading only, or is refused.
//! Layout: APPNOTE.TXT 6.3.10, sections 4.3.12 and 4.3.16.

use std::collections::BTreeSet;

use super::{ArchiveError, bounds};

const END: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: usize = 22;
const HEADER: [u8; 4] = *b"PK\x01\x02";
const HEADER_BYTES: usize = 46;
/// A comment may be so long.
const MAX_COMMENT: usize = 0xffff;

/// Where the directory begins, and how many entries it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directory {
    pub start: usize,
    pub entries: usize,
}

/// Reads it; refuses what has too many entries, two of one name, or anything between the directory and the end.
pub(super) fn read(bytes: &[u8]) -> Result<Directory, ArchiveError> {
    let end = end(bytes)?;
    let field = |at: usize| number(bytes, end + at, 2);
    let (disk, entries_here, entries) = (field(4), field(8), field(10));
    let (size, start) = (number(bytes, end + 12, 4), number(bytes, end + 16, 4));
    if disk != 0 || field(6) != 0 || entries_here != entries || entries == 0xffff || start == 0xffff_ffff {
        return Err(ArchiveError::NoZip("archives in several parts and zip64 are not read".into()));
    }
    if entries > bounds::ENTRIES {
        return Err(ArchiveError::TooLarge { what: "entries", found: entries as u64, max: bounds::ENTRIES as u64 });
    }
    if start.checked_add(size) != Some(end) {
        return Err(ArchiveError::NoZip("its directory does not end where the archive's end begins".into()));
    }
    names(bytes, start, end, entries)?;
    Ok(Directory { start, entries })
}

/// The end's place: the only one whose comment reaches exactly to the end of the bytes.
fn end(bytes: &[u8]) -> Result<usize, ArchiveError> {
    let missing = || ArchiveError::NoZip("it has no end of a central directory".into());
    let last = bytes.len().checked_sub(END_BYTES).ok_or_else(missing)?;
    let first = last.saturating_sub(MAX_COMMENT);
    let fits =
        |at: &usize| bytes[*at..].starts_with(&END) && *at + END_BYTES + number(bytes, *at + 20, 2) == bytes.len();
    let mut ends = (first..=last).filter(fits);
    let end = ends.next_back().ok_or_else(missing)?;
    match ends.next_back() {
        None => Ok(end),
        Some(_) => Err(ArchiveError::NoZip("it has two ends".into())),
    }
}

/// Walks the headers: there must be as many as the end says, with different names, and nothing behind them.
fn names(bytes: &[u8], start: usize, end: usize, entries: usize) -> Result<(), ArchiveError> {
    let broken = || ArchiveError::NoZip("its directory is broken".into());
    let mut seen = BTreeSet::new();
    let mut at = start;
    for _ in 0..entries {
        let header = bytes.get(at..at + HEADER_BYTES).filter(|h| at + HEADER_BYTES <= end && h.starts_with(&HEADER));
        if header.is_none() {
            return Err(broken());
        }
        let name_at = at + HEADER_BYTES;
        let name_end = name_at + number(bytes, at + 28, 2);
        let name = bytes.get(name_at..name_end).filter(|_| name_end <= end).ok_or_else(broken)?;
        if !seen.insert(name) {
            return Err(ArchiveError::entry(&String::from_utf8_lossy(name), "there are two entries of this name"));
        }
        at = name_end + number(bytes, at + 30, 2) + number(bytes, at + 32, 2);
    }
    if at == end { Ok(()) } else { Err(broken()) }
}

/// Little endian; the caller has checked that it is there.
fn number(bytes: &[u8], at: usize, width: usize) -> usize {
    let part = bytes.get(at..at + width).unwrap_or_default();
    part.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}
