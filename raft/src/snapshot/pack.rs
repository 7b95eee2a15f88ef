//! A checkpoint as one stream: `CFXSNAP1`, the number of files, each file with name, length and bytes, then SHA-256 over
//! all of that. Numbers are big endian.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// The first bytes; the last one is the version.
pub(super) const MAGIC: &[u8; 8] = b"CFXSNAP1";
/// A name has at most so many bytes.
pub(super) const MAX_NAME: usize = 64;
/// A stream has at most so many files.
pub(super) const MAX_FILES: u32 = 1 << 20;

/// Whether a file of this name belongs to a checkpoint. Nothing else is sent, and nothing else is taken.
pub(crate) fn is_part(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let numbered = ["sst", "blob", "log"]
        .iter()
        .any(|kind| name.strip_suffix(kind).and_then(|rest| rest.strip_suffix('.')).is_some_and(digits));
    let prefixed = ["MANIFEST-", "OPTIONS-"].iter().any(|prefix| name.strip_prefix(prefix).is_some_and(digits));
    name.len() <= MAX_NAME && (name == "CURRENT" || numbered || prefixed)
}

/// Reads a checkpoint file by file.
pub(crate) struct Packer {
    files: VecDeque<(PathBuf, String, u64)>,
    open: Option<(File, u64)>,
    ready: BytesMut,
    content: Sha256,
    whole: Sha256,
    size: u64,
    trailer_written: bool,
    sum: Option<[u8; 32]>,
}

impl Packer {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for found in fs::read_dir(dir)? {
            let found = found?;
            let name = found.file_name().to_string_lossy().into_owned();
            if is_part(&name) {
                files.push((found.path(), name, found.metadata()?.len()));
            }
        }
        files.sort_by(|a, b| a.1.cmp(&b.1));
        let heads: u64 = files.iter().map(|(_, name, bytes)| 2 + name.len() as u64 + 8 + bytes).sum();
        let mut ready = BytesMut::new();
        ready.put_slice(MAGIC);
        ready.put_u32(files.len() as u32);
        let mut content = Sha256::new();
        content.update(&ready);
        Ok(Self {
            files: files.into(),
            open: None,
            ready,
            content,
            whole: Sha256::new(),
            size: 12 + heads + 32,
            trailer_written: false,
            sum: None,
        })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// SHA-256 over the whole stream, once it has ended.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
        self.sum
    }

    /// The next bytes, exactly `max` of them unless it is the end.
    pub(crate) fn next_chunk(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        while self.ready.len() < max && self.fill(max)? {}
        if self.ready.is_empty() {
            self.sum.get_or_insert_with(|| self.whole.clone().finalize().into());
            return Ok(None);
        }
        let chunk = self.ready.split_to(max.min(self.ready.len())).freeze();
        self.whole.update(&chunk);
        Ok(Some(chunk))
    }

    /// Adds something to what is ready; false: there is nothing more.
    fn fill(&mut self, max: usize) -> io::Result<bool> {
        let before = self.ready.len();
        if let Some((file, left)) = &mut self.open {
            let want = (max - before).min(usize::try_from(*left).unwrap_or(usize::MAX));
            self.ready.resize(before + want, 0);
            // A file that became shorter ends this with an error: checkpoints do not change.
            file.read_exact(&mut self.ready[before..])?;
            *left -= want as u64;
            if *left == 0 {
                self.open = None;
            }
        } else if let Some((path, name, bytes)) = self.files.pop_front() {
            self.ready.put_u16(name.len() as u16);
            self.ready.put_slice(name.as_bytes());
            self.ready.put_u64(bytes);
            if bytes > 0 {
                self.open = Some((File::open(path)?, bytes));
            }
        } else if !self.trailer_written {
            self.trailer_written = true;
            let sum = self.content.clone().finalize();
            self.ready.put_slice(&sum);
            return Ok(true);
        } else {
            return Ok(false);
        }
        self.content.update(&self.ready[before..]);
        Ok(true)
    }
}
