//! A checkpoint from its stream. What arrives is not trusted: names are those of a checkpoint only, lengths are bounded
//! by what arrives, and nothing counts before the sum was compared.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::{Buf, BytesMut};
use sha2::{Digest, Sha256};

use super::{
    invalid,
    pack::{MAGIC, MAX_FILES, MAX_NAME, is_part},
};
use crate::disk::sync_dir;

/// Writes the files of a stream as they arrive.
pub(crate) struct Unpacker {
    dir: PathBuf,
    waiting: BytesMut,
    at: At,
    left: u32,
    content: Sha256,
    whole: Sha256,
}

enum At {
    Start,
    Name,
    Body { file: File, left: u64 },
    Sum,
    End,
}

impl Unpacker {
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        fs::create_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            waiting: BytesMut::new(),
            at: At::Start,
            left: 0,
            content: Sha256::new(),
            whole: Sha256::new(),
        })
    }

    /// Takes the next bytes. Of these, only a part of a head stays in memory.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.whole.update(bytes);
        self.waiting.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// One part of the stream; false: more bytes are needed.
    fn step(&mut self) -> io::Result<bool> {
        match &mut self.at {
            At::Start => self.start(),
            At::Name => self.name(),
            At::Body { file, left } => {
                let take = self.waiting.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let bytes = self.waiting.split_to(take);
                self.content.update(&bytes);
                file.write_all(&bytes)?;
                *left -= take as u64;
                if *left > 0 {
                    return Ok(false);
                }
                file.sync_all()?;
                self.at = self.after_file();
                Ok(true)
            }
            At::Sum => {
                if self.waiting.len() < 32 {
                    return Ok(false);
                }
                let sum = self.waiting.split_to(32);
                if self.content.clone().finalize()[..] != sum[..] {
                    return Err(invalid("the snapshot was damaged on its way: its sum is another"));
                }
                self.at = At::End;
                Ok(true)
            }
            At::End if self.waiting.is_empty() => Ok(false),
            At::End => Err(invalid("bytes follow the end of the snapshot")),
        }
    }

    fn start(&mut self) -> io::Result<bool> {
        if self.waiting.len() < 12 {
            return Ok(false);
        }
        let mut head = self.waiting.split_to(12);
        self.content.update(&head);
        if head[..8] != MAGIC[..] {
            return Err(invalid("not a snapshot, or one of a newer format: update this binary"));
        }
        head.advance(8);
        self.left = head.get_u32();
        if self.left > MAX_FILES {
            return Err(invalid("the snapshot claims too many files"));
        }
        self.at = if self.left == 0 { At::Sum } else { At::Name };
        Ok(true)
    }

    fn name(&mut self) -> io::Result<bool> {
        let Some(length) = self.waiting.get(..2) else { return Ok(false) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length > MAX_NAME {
            return Err(invalid("the snapshot holds a file name that is too long"));
        }
        if self.waiting.len() < 2 + length + 8 {
            return Ok(false);
        }
        let mut head = self.waiting.split_to(2 + length + 8);
        self.content.update(&head);
        head.advance(2);
        let name = head.split_to(length);
        let name = std::str::from_utf8(&name).map_err(invalid)?;
        if !is_part(name) {
            return Err(invalid(format!("the snapshot holds a file that is none of a checkpoint: {name:?}")));
        }
        let left = head.get_u64();
        // `create_new`: a name that comes twice is an error.
        let file = OpenOptions::new().write(true).create_new(true).open(self.dir.join(name))?;
        self.left -= 1;
        self.at = At::Body { file, left };
        Ok(true)
    }

    fn after_file(&self) -> At {
        if self.left == 0 { At::Sum } else { At::Name }
    }

    /// All has arrived, has the right sums, and is on disk.
    pub(crate) fn finish(self, sha256: Option<[u8; 32]>) -> io::Result<()> {
        if !matches!(self.at, At::End) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the snapshot ended early"));
        }
        if sha256.is_some_and(|sum| self.whole.finalize()[..] != sum) {
            return Err(invalid("the snapshot was damaged on its way: its sum is another"));
        }
        sync_dir(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::pack::Packer;

    fn packed(dir: &Path, chunk: usize) -> (Vec<u8>, [u8; 32]) {
        let mut packer = Packer::open(dir).unwrap();
        let mut all = Vec::new();
        while let Some(bytes) = packer.next_chunk(chunk).unwrap() {
            assert!(bytes.len() <= chunk);
            all.extend_from_slice(&bytes);
        }
        assert_eq!(all.len() as u64, packer.size());
        (all, packer.sha256().unwrap())
    }

    fn checkpoint() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let big: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        for (name, bytes) in [("000012.sst", &big[..]), ("CURRENT", b"MANIFEST-000005\n"), ("000009.log", b"")] {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        fs::write(dir.path().join("LOG"), b"not sent").unwrap();
        dir
    }

    fn unpack(into: &Path, bytes: &[u8], chunk: usize, sum: Option<[u8; 32]>) -> io::Result<()> {
        let mut unpacker = Unpacker::create(into)?;
        for part in bytes.chunks(chunk) {
            unpacker.write(part)?;
        }
        unpacker.finish(sum)
    }

    // Whatever the sizes of the chunks, a follower must get the very files of the leader.
    #[test]
    fn files_arrive_as_they_were() {
        let from = checkpoint();
        for chunk in [1, 7, 4096, 1 << 20] {
            let (bytes, sum) = packed(from.path(), chunk.max(512));
            let to = tempfile::tempdir().unwrap();
            let into = to.path().join("in");
            unpack(&into, &bytes, chunk, Some(sum)).unwrap();
            for name in ["000012.sst", "CURRENT", "000009.log"] {
                assert_eq!(fs::read(into.join(name)).unwrap(), fs::read(from.path().join(name)).unwrap(), "{name}");
            }
            assert!(!into.join("LOG").exists());
        }
    }

    // A flipped or lost byte anywhere must not become a state.
    #[test]
    fn damage_is_refused() {
        let from = checkpoint();
        let (bytes, sum) = packed(from.path(), 1 << 20);
        for at in [3, 11, 13, 40, 200_000, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let to = tempfile::tempdir().unwrap();
            assert!(unpack(&to.path().join("in"), &damaged, 4096, None).is_err(), "{at}");
        }
        let to = tempfile::tempdir().unwrap();
        assert!(unpack(&to.path().join("a"), &bytes[..bytes.len() - 1], 4096, None).is_err());
        assert!(unpack(&to.path().join("b"), &bytes, 4096, Some([0; 32])).is_err());
        let longer = [&bytes[..], b"x"].concat();
        assert!(unpack(&to.path().join("c"), &longer, 4096, None).is_err());
        assert!(unpack(&to.path().join("d"), &bytes, 4096, Some(sum)).is_ok());
    }

    // A member that was taken over must not be able to write outside its directory.
    #[test]
    fn names_cannot_leave_the_directory() {
        for name in
            ["../000001.sst", "/etc/passwd", "a/000001.sst", "000001.sst/..", "", "LOCK", "1.ssst", ".sst", "CURRENT\0"]
        {
            assert!(!is_part(name), "{name:?}");
            let mut bytes = [&MAGIC[..], &[0, 0, 0, 1]].concat();
            bytes.extend_from_slice(&(name.len() as u16).to_be_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&0u64.to_be_bytes());
            let to = tempfile::tempdir().unwrap();
            assert!(unpack(&to.path().join("in"), &bytes, 4096, None).is_err(), "{name:?}");
        }
    }
}
