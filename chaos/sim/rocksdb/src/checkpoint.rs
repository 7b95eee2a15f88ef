//! Checkpoints: all rows of one moment in one file.

use std::{fs, io, path::Path, sync::Arc};

use crate::{DB, Error, image::Rows};

/// What `CURRENT` says in a checkpoint.
pub(crate) const MARK: &str = "checkpoint\n";
const ROWS: &str = "000001.sst";

/// Takes checkpoints of one database.
pub struct Checkpoint<'a>(&'a DB);

impl<'a> Checkpoint<'a> {
    /// Of this database.
    pub fn new(db: &'a DB) -> Result<Self, Error> {
        Ok(Self(db))
    }

    /// Into a directory that is not there yet.
    pub fn create_checkpoint(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let bytes = self.0.with(|image| write(&image.names, &image.rows));
        let path = path.as_ref();
        let made = || -> io::Result<()> {
            fs::create_dir(path)?;
            fs::write(path.join(ROWS), &bytes)?;
            fs::write(path.join("CURRENT"), MARK)
        };
        made().map_err(|e| Error::new(format!("checkpoint {}: {e}", path.display())))
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend((part.len() as u64).to_be_bytes());
    bytes.extend(part);
}

fn write(names: &[String], families: &[Rows]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, rows) in names.iter().zip(families) {
        put(&mut bytes, name.as_bytes());
        bytes.extend((rows.len() as u64).to_be_bytes());
        for (key, value) in rows {
            put(&mut bytes, key);
            put(&mut bytes, value);
        }
    }
    bytes
}

/// Reads the rows of a checkpoint back, by the name of their column family.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, Rows)>, Error> {
    let damaged = || Error::new(format!("the checkpoint {} is damaged", path.display()));
    let bytes = fs::read(path.join(ROWS)).map_err(Error::new)?;
    let (mut rest, mut families) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let name = String::from_utf8(part(&mut rest).ok_or_else(damaged)?.to_vec()).map_err(|_| damaged())?;
        let mut rows = Rows::new();
        for _ in 0..number(&mut rest).ok_or_else(damaged)? {
            let key: Arc<[u8]> = part(&mut rest).ok_or_else(damaged)?.into();
            rows.insert(key, part(&mut rest).ok_or_else(damaged)?.into());
        }
        families.push((name, rows));
    }
    Ok(families)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_be_bytes(*head))
}

fn part<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let bytes = usize::try_from(number(rest)?).ok()?;
    let (head, tail) = rest.split_at_checked(bytes)?;
    *rest = tail;
    Some(head)
}
