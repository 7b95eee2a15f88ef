//! Making an archive: the same configs give the same bytes.

use std::io::{Cursor, Write};

use bytes::Bytes;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{ArchiveError, MANIFEST, Manifest, bounds};

/// Takes contents one by one, so that they need not be in memory together.
pub struct Writer {
    zip: ZipWriter<Cursor<Vec<u8>>>,
    packed: u64,
    unpacked: u64,
    entries: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { zip: ZipWriter::new(Cursor::new(Vec::new())), packed: 0, unpacked: 0, entries: 0 }
    }
}

impl Writer {
    /// Adds a file. Refused where the archive would become larger than an import takes.
    pub fn add(&mut self, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
        self.entries += 1;
        self.unpacked += content.len() as u64;
        within("entries", self.entries as u64, bounds::ENTRIES as u64)?;
        within("bytes of all entries, unpacked", self.unpacked, bounds::UNPACKED)?;
        let mut one = packed(content, CompressionMethod::Deflated)?;
        let size = one.by_index_raw(0).map_err(failed)?.compressed_size();
        // What packs too well would look like a bomb to the reader.
        if content.len() as u64 > bounds::RATIO_FROM && content.len() as u64 / bounds::RATIO > size {
            one = packed(content, CompressionMethod::Stored)?;
        }
        let entry = one.by_index_raw(0).map_err(failed)?;
        self.packed += entry.compressed_size();
        within("bytes of the archive", self.packed, bounds::ARCHIVE as u64)?;
        self.zip.raw_copy_file_rename(entry, name).map_err(failed)
    }

    /// The archive with its manifest.
    pub fn finish(mut self, manifest: &Manifest) -> Result<Bytes, ArchiveError> {
        let text = serde_json::to_vec_pretty(manifest).map_err(|e| ArchiveError::Manifest(e.to_string()))?;
        within("bytes of the manifest", text.len() as u64, bounds::MANIFEST)?;
        self.add(MANIFEST, &text)?;
        let bytes = self.zip.finish().map_err(failed)?.into_inner();
        within("bytes of the archive", bytes.len() as u64, bounds::ARCHIVE as u64)?;
        Ok(bytes.into())
    }
}

/// An archive of these contents, in the order of the manifest.
pub fn write(manifest: &Manifest, contents: &[Option<Bytes>]) -> Result<Bytes, ArchiveError> {
    let mut writer = Writer::default();
    for (entry, content) in manifest.configs.iter().zip(contents) {
        if let (Some(file), Some(content)) = (&entry.file, content) {
            writer.add(file, content)?;
        }
    }
    writer.finish(manifest)
}

/// An archive of one entry: only then is it known how well it packs.
fn packed(content: &[u8], method: CompressionMethod) -> Result<ZipArchive<Cursor<Vec<u8>>>, ArchiveError> {
    // No time: two exports of one state are the same bytes.
    let options = SimpleFileOptions::default()
        .compression_method(method)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("x", options).map_err(failed)?;
    zip.write_all(content).map_err(|e| failed(e.into()))?;
    zip.finish_into_readable().map_err(failed)
}

fn within(what: &'static str, found: u64, max: u64) -> Result<(), ArchiveError> {
    if found > max { Err(ArchiveError::TooLarge { what, found, max }) } else { Ok(()) }
}

fn failed(error: ZipError) -> ArchiveError {
    ArchiveError::NoZip(error.to_string())
}
