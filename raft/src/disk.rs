//! The data directory of a replica: what lies where, its format version, free space and the reserve.
//!
//! ```text
//! format            the version of all that follows; written first
//! floor             what the log is known to have had on disk (log_store/floor.rs)
//! log/              RocksDB: the Raft log
//! state/current     the number of the generation in use
//! state/<n>/        RocksDB: the state; installing a snapshot makes the next generation
//! snapshots/<name>/ the newest snapshot: a RocksDB checkpoint, its files linked and not copied
//! snapshots/in-*    being received or built; removed at the next start
//! restored          where the state is from, until its member has begun with it (backup/restore.rs)
//! reserve           room that is given back when the disk is nearly full
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    backup::{Origin, RESTORING},
    error::OpenError,
};

/// The version of the directory that this binary reads and writes.
const FORMAT: u32 = 1;
/// The reserve's size in bytes; on a small disk one percent of it.
const RESERVE_BYTES: u64 = 64 << 20;

/// A data directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
    /// A test's disk has no more than this free.
    #[cfg(test)]
    pub(crate) at_most_free: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

/// What was found in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: the databases must be made, then [`DataDir::complete`] called.
    Empty,
    /// A complete directory of this format.
    Complete,
}

/// Free room of a file system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Free {
    /// The free part, 0 to 1.
    pub fraction: f64,
    /// The same in bytes.
    pub bytes: u64,
}

impl Free {
    /// Under 10 % the leader refuses what grows the state (DESIGN section 3), unless the rest is still large: the log
    /// that is kept, a snapshot being taken and one being received fit into it many times.
    pub fn is_low(&self) -> bool {
        const LOW_FRACTION: f64 = 0.10;
        const PLENTY_BYTES: u64 = 8 << 30;
        self.fraction < LOW_FRACTION && self.bytes < PLENTY_BYTES
    }
}

impl DataDir {
    /// Without looking at it.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            #[cfg(test)]
            at_most_free: std::sync::Arc::new(u64::MAX.into()),
        }
    }

    /// Refuses what is no complete data directory. Changes nothing.
    pub(crate) fn require(root: &Path) -> Result<(), OpenError> {
        let dir = Self::at(root);
        let text = fs::read_to_string(dir.format()).map_err(|e| io_error("reading", &dir.format(), e))?;
        check_format(root, &text)?;
        let missing = [dir.log().join("CURRENT"), dir.floor(), dir.current_pointer()].into_iter().find(|p| !p.exists());
        match missing {
            Some(missing) => Err(OpenError::Refused(format!("{} is missing", missing.display()))),
            None => Ok(()),
        }
    }

    /// Looks at the directory, making it if it is not there. Refuses a newer format, and one of which a part is missing.
    pub(crate) fn open(root: &Path) -> Result<(Self, Found), OpenError> {
        let dir = Self::at(root);
        fs::create_dir_all(root).map_err(|e| io_error("making", root, e))?;
        match fs::read_to_string(dir.format()) {
            Ok(text) if text.trim() == creating() => {
                // The last start died before anything could be stored.
                dir.begin()?;
                Ok((dir, Found::Empty))
            }
            Ok(text) => {
                check_format(root, &text)?;
                dir.check_parts()?;
                Ok((dir, Found::Complete))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                dir.check_unused()?;
                dir.begin()?;
                Ok((dir, Found::Empty))
            }
            Err(e) => Err(io_error("reading", &dir.format(), e)),
        }
    }

    fn begin(&self) -> Result<(), OpenError> {
        write_atomically(&self.format(), creating().as_bytes()).map_err(|e| io_error("writing", &self.format(), e))?;
        for part in [self.log(), self.state(), self.snapshots()] {
            remove_dir(&part).map_err(|e| io_error("clearing", &part, e))?;
            fs::create_dir(&part).map_err(|e| io_error("making", &part, e))?;
        }
        sync_dir(&self.root).map_err(|e| io_error("syncing", &self.root, e))
    }

    /// The databases are made and on disk.
    pub(crate) fn complete(&self) -> Result<(), OpenError> {
        let text = format!("conflux raft {FORMAT}\n");
        write_atomically(&self.format(), text.as_bytes()).map_err(|e| io_error("writing", &self.format(), e))
    }

    fn check_unused(&self) -> Result<(), OpenError> {
        for part in [self.log(), self.state(), self.floor()] {
            if part.exists() {
                return Err(OpenError::Refused(format!(
                    "{} is there, but {} is not: this directory was not made by Conflux, or the file was lost. Give an \
                     empty directory, or restore the file",
                    part.display(),
                    self.format().display()
                )));
            }
        }
        Ok(())
    }

    fn check_parts(&self) -> Result<(), OpenError> {
        let parts = [self.log().join("CURRENT"), self.floor(), self.current_pointer()];
        if let Some(missing) = parts.iter().find(|part| !part.exists()) {
            return Err(OpenError::Refused(format!(
                "{} is missing from a data directory that was in use: do not start this member with a part of its \
                 data. Remove {} and let the group admit it anew",
                missing.display(),
                self.root.display()
            )));
        }
        fs::create_dir_all(self.snapshots()).map_err(|e| io_error("making", &self.snapshots(), e))
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn floor(&self) -> PathBuf {
        self.root.join("floor")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(crate) fn generation(&self, number: u64) -> PathBuf {
        self.state().join(number.to_string())
    }

    pub(crate) fn current_pointer(&self) -> PathBuf {
        self.state().join("current")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    /// Where a restored state is from, until its member has begun with it.
    pub(crate) fn origin_file(&self) -> PathBuf {
        self.root.join("restored")
    }

    /// Where the state is from, if it was restored and nothing has happened since.
    pub(crate) fn origin(&self) -> Result<Option<Origin>, OpenError> {
        let path = self.origin_file();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("reading", &path, e)),
        };
        let damaged = |e| OpenError::Refused(format!("{} is damaged: {e}; restore again", path.display()));
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    pub(crate) fn write_origin(&self, origin: &Origin) -> io::Result<()> {
        write_atomically(&self.origin_file(), &serde_json::to_vec_pretty(origin)?)
    }

    pub(crate) fn remove_origin(&self) -> io::Result<()> {
        match fs::remove_file(self.origin_file()) {
            Ok(()) => sync_dir(&self.root),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// What is free of the file system for this process.
    pub fn free(&self) -> io::Result<Free> {
        if cfg!(feature = "simulation") {
            return Ok(Free { fraction: 0.5, bytes: 1 << 40 });
        }
        let stat = nix::sys::statvfs::statvfs(&self.root)?;
        // Of what an ordinary process can ever use: blocks kept for root count as neither.
        let used = stat.blocks().saturating_sub(stat.blocks_free());
        let usable = used + stat.blocks_available();
        let fraction = if usable == 0 { 0.0 } else { stat.blocks_available() as f64 / usable as f64 };
        let bytes = stat.blocks_available() as u64 * stat.fragment_size() as u64;
        #[cfg(test)]
        let bytes = bytes.min(self.at_most_free.load(std::sync::atomic::Ordering::Relaxed));
        Ok(Free { fraction, bytes })
    }

    /// Takes the reserve: 64 MiB, or one percent of a smaller file system. Nothing happens if it is there.
    pub fn take_reserve(&self) -> io::Result<()> {
        if cfg!(feature = "simulation") {
            return Ok(());
        }
        let stat = nix::sys::statvfs::statvfs(&self.root)?;
        let total = stat.blocks() as u64 * stat.fragment_size() as u64;
        let bytes = RESERVE_BYTES.min(total / 100);
        if fs::metadata(self.reserve()).is_ok_and(|found| found.len() >= bytes) {
            return Ok(());
        }
        let file = File::create(self.reserve())?;
        nix::fcntl::posix_fallocate(&file, 0, bytes as i64)?;
        file.sync_all()
    }

    /// Gives the reserve back, so that deletes and compaction have room.
    pub fn release_reserve(&self) -> io::Result<()> {
        match fs::remove_file(self.reserve()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

fn creating() -> &'static str {
    "conflux raft, being made"
}

fn check_format(root: &Path, text: &str) -> Result<(), OpenError> {
    let version = text.trim().strip_prefix("conflux raft ").and_then(|n| n.parse::<u32>().ok());
    if text.trim() == RESTORING {
        return Err(OpenError::Refused(format!(
            "{} is a part of a restore that did not end: remove it and restore again",
            root.display()
        )));
    }
    match version {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => Err(OpenError::Refused(format!(
            "{} has format {newer}, this binary knows {FORMAT}: start the newer binary that wrote it",
            root.display()
        ))),
        _ => Err(OpenError::Refused(format!("{}: the file `format` is damaged: {text:?}", root.display()))),
    }
}

pub(crate) fn io_error(what: &str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { what: format!("{what} {}", path.display()), source }
}

/// Makes names in this directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a small file so that it is there as a whole or not at all.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Removes a directory and all in it, if it is there.
pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(root: &Path) -> DataDir {
        let (dir, found) = DataDir::open(root).unwrap();
        assert_eq!(found, Found::Empty);
        fs::write(dir.log().join("CURRENT"), "").unwrap();
        fs::write(dir.floor(), "").unwrap();
        fs::write(dir.current_pointer(), "1").unwrap();
        dir.complete().unwrap();
        dir
    }

    fn refusal(root: &Path) -> String {
        match DataDir::open(root) {
            Err(OpenError::Refused(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    // An older binary would misread what a newer one wrote.
    #[test]
    fn a_newer_format_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = complete(temp.path());
        assert_eq!(DataDir::open(temp.path()).unwrap().1, Found::Complete);
        fs::write(dir.format(), "conflux raft 2\n").unwrap();
        assert!(refusal(temp.path()).contains("start the newer binary"));
        fs::write(dir.format(), "x").unwrap();
        assert!(refusal(temp.path()).contains("damaged"));
    }

    // A member that lost its log would forget its votes; one that lost its state would forget what it applied.
    #[test]
    fn a_missing_part_is_refused() {
        for part in ["log/CURRENT", "floor", "state/current"] {
            let temp = tempfile::tempdir().unwrap();
            complete(temp.path());
            fs::remove_file(temp.path().join(part)).unwrap();
            assert!(refusal(temp.path()).contains("admit it anew"), "{part}");
        }
        let temp = tempfile::tempdir().unwrap();
        let dir = complete(temp.path());
        fs::remove_file(dir.format()).unwrap();
        assert!(refusal(temp.path()).contains("was lost"));
    }

    // A process that dies while it makes the directory must not need an operator.
    #[test]
    fn a_half_made_directory_is_made_again() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, _) = DataDir::open(temp.path()).unwrap();
        fs::write(dir.log().join("junk"), "").unwrap();
        assert_eq!(DataDir::open(temp.path()).unwrap().1, Found::Empty);
        assert!(!dir.log().join("junk").exists());
    }

    // The reserve must be real room, or giving it back helps nobody.
    #[test]
    fn the_reserve_is_allocated_and_given_back() {
        use std::os::unix::fs::MetadataExt;
        let temp = tempfile::tempdir().unwrap();
        let dir = complete(temp.path());
        dir.take_reserve().unwrap();
        let found = fs::metadata(dir.reserve()).unwrap();
        assert!(found.blocks() * 512 >= found.len() && found.len() > 0);
        dir.release_reserve().unwrap();
        dir.release_reserve().unwrap();
        assert!(!dir.reserve().exists());
        let free = dir.free().unwrap();
        assert!(free.fraction > 0.0 && free.fraction <= 1.0 && free.bytes > 0);
    }

    // A tenth of a large disk is plenty; a tenth of a small one is not.
    #[test]
    fn a_disk_is_low_by_its_part_and_by_its_bytes() {
        let gib = 1u64 << 30;
        assert!(!Free { fraction: 0.05, bytes: 50 * gib }.is_low());
        assert!(!Free { fraction: 0.5, bytes: gib }.is_low());
        assert!(Free { fraction: 0.05, bytes: 2 * gib }.is_low());
    }
}
