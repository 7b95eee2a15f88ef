//! The durable floor: what the log is known to have had on disk.
//!
//! RocksDB ends the replay of its write-ahead log at the first record that is not whole, since a power cut leaves one.
//! Damage to records that had been synced looks the same, and a replica that forgot what it acknowledged can vote twice
//! or lose a committed entry. So the highest synced index and vote are kept in a file of their own, and a log that ends
//! below them refuses to start.
//!
//! The file is written at most 200 ms after the last sync, or once a second under load: what was acknowledged within
//! that time is not covered. It is lowered, and synced, before the log is truncated.
//!
//! Two slots are written in turn, each with a checksum: a torn write leaves the other.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{
    codec,
    error::OpenError,
    types::{LogId, Vote},
};

const MAGIC: u64 = u64::from_be_bytes(*b"CFXFLOOR");
const SLOT_BYTES: u64 = 4096;
const FIELDS: usize = 6;
const RECORD_BYTES: usize = FIELDS * 8 + 32;

/// What the log must hold at least.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Floor {
    /// The index after the highest one that was synced; 0: none.
    pub(crate) next_index: u64,
    /// The highest vote that was synced.
    pub(crate) vote: Option<Vote>,
}

/// The file. One writer.
pub(crate) struct FloorFile {
    file: File,
    sequence: u64,
    floor: Floor,
}

impl FloorFile {
    /// Makes the file of an empty log.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(2 * SLOT_BYTES)?;
        let mut made = Self { file, sequence: 0, floor: Floor::default() };
        made.write(Floor::default())?;
        made.file.sync_all()?;
        Ok(made)
    }

    /// Opens it and reads the newer whole slot.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { what: format!("opening {}", path.display()), source };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        let newest = [0, SLOT_BYTES].into_iter().filter_map(|at| read_slot(&file, at)).max_by_key(|slot| slot.0);
        let Some((sequence, floor)) = newest else {
            return Err(OpenError::Refused(format!(
                "{} is damaged, so that it is not known whether the log is whole: remove this member's data directory \
                 and let the group admit it anew",
                path.display()
            )));
        };
        Ok(Self { file, sequence, floor })
    }

    /// A disk on which every write fails.
    #[cfg(test)]
    pub(super) fn open_unwritable(path: &Path) -> Self {
        Self { file: File::open(path).unwrap(), sequence: 0, floor: Floor::default() }
    }

    pub(crate) fn floor(&self) -> Floor {
        self.floor
    }

    /// Writes and syncs it.
    pub(crate) fn write(&mut self, floor: Floor) -> io::Result<()> {
        let sequence = self.sequence + 1;
        self.file.write_all_at(&encode(sequence, &floor), (sequence % 2) * SLOT_BYTES)?;
        self.file.sync_data()?;
        self.sequence = sequence;
        self.floor = floor;
        Ok(())
    }
}

impl Floor {
    /// Refuses a log that ends below.
    pub(crate) fn check(&self, last: Option<&LogId>, vote: Option<&Vote>) -> Result<(), OpenError> {
        let next = last.map_or(0, |id| id.index() + 1);
        if next < self.next_index {
            return Err(OpenError::Refused(format!(
                "the log ends at index {}, but index {} had been written to disk: it was damaged. Do not restart this \
                 member with it: remove its data directory and let the group admit it anew",
                next.saturating_sub(1),
                self.next_index - 1
            )));
        }
        if self.vote.is_some() && vote.partial_cmp(&self.vote.as_ref()) == Some(std::cmp::Ordering::Less) {
            return Err(OpenError::Refused(
                "the log has lost a vote that this member gave: it was damaged. Do not restart this member with it: \
                 remove its data directory and let the group admit it anew"
                    .into(),
            ));
        }
        Ok(())
    }
}

pub(super) fn encode(sequence: u64, floor: &Floor) -> [u8; RECORD_BYTES] {
    let vote = floor.vote.as_ref().map(codec::vote_to_proto).unwrap_or_default();
    let flags = u64::from(floor.vote.is_some()) | u64::from(vote.committed) << 1;
    let mut record = [0; RECORD_BYTES];
    let fields: [u64; FIELDS] = [MAGIC, sequence, floor.next_index, vote.term, vote.node, flags];
    for (at, field) in record.chunks_exact_mut(8).zip(fields) {
        at.copy_from_slice(&field.to_be_bytes());
    }
    let sum = Sha256::digest(&record[..FIELDS * 8]);
    record[FIELDS * 8..].copy_from_slice(&sum);
    record
}

pub(super) fn read_slot(file: &File, at: u64) -> Option<(u64, Floor)> {
    let mut record = [0; RECORD_BYTES];
    file.read_exact_at(&mut record, at).ok()?;
    let (fields, sum) = record.split_at(FIELDS * 8);
    if Sha256::digest(fields)[..] != *sum {
        return None;
    }
    let mut numbers = [0u64; FIELDS];
    for (number, bytes) in numbers.iter_mut().zip(fields.chunks_exact(8)) {
        *number = u64::from_be_bytes(bytes.try_into().ok()?);
    }
    let [magic, sequence, next_index, term, node, flags] = numbers;
    if magic != MAGIC {
        return None;
    }
    let vote = if flags & 2 == 2 { Vote::new_committed(term, node) } else { Vote::new(term, node) };
    Some((sequence, Floor { next_index, vote: (flags & 1 == 1).then_some(vote) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(next_index: u64) -> Floor {
        Floor { next_index, vote: Some(Vote::new_committed(3, 1)) }
    }

    // A power cut in the middle of a write must leave the floor as it was, not lose it.
    #[test]
    fn a_torn_write_leaves_the_earlier_floor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor");
        let mut file = FloorFile::create(&path).unwrap();
        file.write(floor(10)).unwrap();
        file.write(floor(20)).unwrap();
        assert_eq!(FloorFile::open(&path).unwrap().floor(), floor(20));
        file.file.write_all_at(&[0xff; 20], (file.sequence % 2) * SLOT_BYTES + 10).unwrap();
        assert_eq!(FloorFile::open(&path).unwrap().floor(), floor(10));
    }

    // Without any floor the log cannot be trusted; the operator must be told what to do.
    #[test]
    fn a_destroyed_floor_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor");
        FloorFile::create(&path).unwrap();
        std::fs::write(&path, [0; 8192]).unwrap();
        assert!(matches!(FloorFile::open(&path), Err(OpenError::Refused(text)) if text.contains("admit it anew")));
    }

    // A vote that is gone could be given a second time.
    #[test]
    fn a_lost_vote_refuses() {
        let id = codec::log_id_from_proto(&conflux_proto::log::LogId { term: 3, node: 1, index: 9 });
        assert!(floor(10).check(Some(&id), Some(&Vote::new_committed(3, 1))).is_ok());
        assert!(floor(10).check(Some(&id), Some(&Vote::new(4, 2))).is_ok());
        assert!(floor(10).check(Some(&id), Some(&Vote::new(3, 1))).is_err());
        assert!(floor(10).check(Some(&id), None).is_err());
        assert!(floor(11).check(Some(&id), Some(&Vote::new(4, 2))).is_err());
    }
}
