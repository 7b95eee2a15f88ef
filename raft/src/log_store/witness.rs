//! A witness outside of the disk under test: what this log has said to be durable. Nothing of it is in a release build.
//!
//! `CONFLUX_WITNESS` names a directory. Whatever is acknowledged as synced is noted there before it is acknowledged, and a
//! log that is opened with less than was noted is denounced there: unlike the [floor](super::floor), the witness lies on
//! no disk that loses power, and knows of the last write too.

#[cfg(not(debug_assertions))]
use std::path::Path;
#[cfg(debug_assertions)]
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::floor::Floor;
#[cfg(debug_assertions)]
use super::floor::{encode, read_slot};
use crate::types::{LogId, Vote};

/// The environment variable with the directory.
#[cfg(debug_assertions)]
const VARIABLE: &str = "CONFLUX_WITNESS";

/// See the module; without the variable it notes nothing.
pub(super) struct Witness {
    #[cfg(debug_assertions)]
    file: Option<File>,
}

impl Witness {
    /// Of the log in this directory, which was opened with this end and vote.
    pub(super) fn call(log: &Path, last: Option<&LogId>, vote: Option<&Vote>) -> Self {
        #[cfg(debug_assertions)]
        {
            let directory = std::env::var_os(VARIABLE).map(PathBuf::from);
            Self { file: directory.and_then(|directory| testify(&directory, log, last, vote)) }
        }
        #[cfg(not(debug_assertions))]
        {
            let _ = (log, last, vote);
            Self {}
        }
    }

    /// Nothing is noted.
    #[cfg(test)]
    pub(super) fn absent() -> Self {
        Self {
            #[cfg(debug_assertions)]
            file: None,
        }
    }

    /// This is about to be acknowledged.
    #[inline]
    pub(super) fn note(&self, promised: &Floor) {
        #[cfg(debug_assertions)]
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(&encode(1, promised), 0)
        {
            tracing::error!(%error, "the witness cannot write");
        }
        #[cfg(not(debug_assertions))]
        let _ = promised;
    }
}

/// Compares what is there with what was noted, and goes on noting.
#[cfg(debug_assertions)]
fn testify(directory: &Path, log: &Path, last: Option<&LogId>, vote: Option<&Vote>) -> Option<File> {
    let name = log.display().to_string().replace('/', "_");
    let path = directory.join(&name);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| tracing::error!(%error, path = %path.display(), "no witness")).ok()?;
    if let Some((_, promised)) = read_slot(&file, 0)
        && let Err(broken) = promised.check(last, vote)
    {
        let text = format!(
            "{}: {broken} (promised {promised:?}; found the end {last:?} and the vote {vote:?})",
            log.display()
        );
        let _ = std::fs::write(directory.join(format!("{name}.broken")), text);
    }
    Some(file)
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;
    use crate::codec;

    // The last acknowledged vote is what no floor covers: forgotten, it could be given twice.
    #[test]
    fn a_forgotten_vote_is_denounced() {
        let temp = tempfile::tempdir().unwrap();
        let log = Path::new("/data/shard-a-1/log");
        let id = codec::log_id_from_proto(&conflux_proto::log::LogId { term: 3, node: 1, index: 9 });
        let witness = Witness { file: testify(temp.path(), log, Some(&id), None) };
        witness.note(&Floor { next_index: 10, vote: Some(Vote::new(4, 2)) });
        testify(temp.path(), log, Some(&id), Some(&Vote::new(4, 2)));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
        testify(temp.path(), log, Some(&id), Some(&Vote::new(3, 1)));
        let broken = temp.path().join("_data_shard-a-1_log.broken");
        assert!(std::fs::read_to_string(broken).unwrap().contains("lost a vote"));
    }
}
