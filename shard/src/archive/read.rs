//! Reading an archive that anybody may have made: nothing in it is believed before it was checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read},
};

use bytes::Bytes;
use conflux_common::ids::{AppName, ConfigName, EnvName};
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive, read::ZipFile};

use super::{ArchiveError, Entry, FORMAT, MANIFEST, Manifest, bounds, directory};
use crate::machine::limits::MAX_CONTENT_BYTES;

/// The kind of a file in its Unix mode, and those kinds that are read.
const KIND: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

/// What an archive holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The content of each config of the manifest, in its order; none: it has no version.
    pub contents: Vec<Option<Bytes>>,
}

/// An archive whose directory is in order: what it will take is known before it is unpacked.
pub struct Opened {
    zip: ZipArchive<Cursor<Bytes>>,
    unpacked: u64,
}

impl Opened {
    /// Checks bounds, names and kinds of all entries by the directory.
    pub fn open(bytes: Bytes) -> Result<Self, ArchiveError> {
        if bytes.len() > bounds::ARCHIVE {
            let (found, max) = (bytes.len() as u64, bounds::ARCHIVE as u64);
            return Err(ArchiveError::TooLarge { what: "bytes of the archive", found, max });
        }
        let directory = directory::read(&bytes)?;
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| ArchiveError::NoZip(e.to_string()))?;
        let same = zip.len() == directory.entries
            && zip.offset() == 0
            && zip.central_directory_start() == directory.start as u64;
        if !same {
            return Err(ArchiveError::NoZip("its directory can be read in two ways".into()));
        }
        let mut opened = Self { zip, unpacked: 0 };
        opened.check_entries()?;
        match opened.zip.has_overlapping_files() {
            Ok(false) => Ok(opened),
            Ok(true) => Err(ArchiveError::NoZip("two entries share the same bytes".into())),
            Err(e) => Err(ArchiveError::NoZip(e.to_string())),
        }
    }

    /// Bytes that its entries say they unpack to: no more of them is read.
    pub fn unpacked(&self) -> u64 {
        self.unpacked
    }

    fn check_entries(&mut self) -> Result<(), ArchiveError> {
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_raw(index).map_err(|e| ArchiveError::NoZip(e.to_string()))?;
            check_entry(&entry)?;
            // Each is at most what 64 bits hold; a sum of 2,000 of them may not be.
            self.unpacked = self.unpacked.saturating_add(entry.size());
        }
        if self.unpacked > bounds::UNPACKED {
            let (found, max) = (self.unpacked, bounds::UNPACKED);
            return Err(ArchiveError::TooLarge { what: "bytes of all entries, unpacked", found, max });
        }
        Ok(())
    }

    /// Unpacks it, and checks that manifest and contents agree.
    pub fn read(mut self) -> Result<Archive, ArchiveError> {
        let manifest = self.unpack(MANIFEST, bounds::MANIFEST)?;
        let manifest: Manifest =
            conflux_common::body::json(&manifest).map_err(|e| ArchiveError::Manifest(e.message))?;
        check_manifest(&manifest)?;
        let mut named = BTreeSet::from([MANIFEST.to_owned()]);
        let mut contents = Vec::with_capacity(manifest.configs.len());
        for entry in &manifest.configs {
            contents.push(match &entry.file {
                None => None,
                Some(file) => {
                    if !named.insert(file.clone()) {
                        return Err(ArchiveError::entry(file, "the manifest names it twice"));
                    }
                    let content = self.unpack(file, MAX_CONTENT_BYTES as u64)?;
                    check_hash(entry, file, &content)?;
                    Some(content)
                }
            });
        }
        let stranger = self.zip.file_names().find(|name| !name.ends_with('/') && !named.contains(*name));
        if let Some(name) = stranger {
            return Err(ArchiveError::entry(
                name,
                "no config of the manifest names it: a file would be left out silently",
            ));
        }
        Ok(Archive { manifest, contents })
    }

    fn unpack(&mut self, name: &str, max: u64) -> Result<Bytes, ArchiveError> {
        let missing = |_| ArchiveError::entry(name, "it is not in the archive");
        let index = self.zip.index_for_name(name).ok_or(()).map_err(missing)?;
        let entry = self.zip.by_index(index).map_err(|e| ArchiveError::entry(name, e.to_string()))?;
        let declared = entry.size();
        if declared > max {
            return Err(ArchiveError::entry(name, format!("{declared} bytes, more than {max}")));
        }
        // One byte more than it says shows that it lies. The crate checks the CRC at the end.
        let mut content = Vec::with_capacity(declared as usize);
        let broken = |e: std::io::Error| ArchiveError::entry(name, format!("it cannot be unpacked: {e}"));
        entry.take(declared + 1).read_to_end(&mut content).map_err(broken)?;
        if content.len() as u64 != declared {
            return Err(ArchiveError::entry(name, "it unpacks to another size than it says"));
        }
        Ok(content.into())
    }
}

fn check_entry<R: Read>(entry: &ZipFile<'_, R>) -> Result<(), ArchiveError> {
    let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
    let refuse = |why: &str| Err(ArchiveError::entry(&name, why));
    if !is_safe(entry.name_raw()) {
        return refuse("names are relative, of letters, digits and . _ : @ + - with / between, without . or ..");
    }
    // An extra field may give it another name than the directory shows.
    if entry.name().as_bytes() != entry.name_raw() {
        return refuse("it has two names");
    }
    let kind = entry.unix_mode().map_or(0, |mode| mode & KIND);
    match kind {
        0 | FILE => {}
        FOLDER if entry.is_dir() => {}
        _ => return refuse("links and special files are not read"),
    }
    if entry.encrypted() {
        return refuse("encrypted entries are not read");
    }
    if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        return refuse("only stored and deflated entries are read");
    }
    if entry.size() > bounds::RATIO_FROM && entry.size() / bounds::RATIO > entry.compressed_size() {
        return refuse("it unpacks to more than 200 times its size");
    }
    if entry.is_dir() && entry.size() > 0 {
        return refuse("a folder with content");
    }
    Ok(())
}

/// Nothing that any system could take for another place: no root, drive, backslash, `.` or `..`, and one spelling only.
fn is_safe(name: &[u8]) -> bool {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._:@+-".contains(b);
    !name.is_empty()
        && name
            .split(|b| *b == b'/')
            .all(|part| !part.is_empty() && part != b"." && part != b".." && part.iter().all(plain))
}

fn check_manifest(manifest: &Manifest) -> Result<(), ArchiveError> {
    if manifest.format_version != FORMAT {
        let why =
            format!("format_version {} is not read by this version, which reads {FORMAT}", manifest.format_version);
        return Err(ArchiveError::Manifest(why));
    }
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (i, entry) in manifest.configs.iter().enumerate() {
        let wrong = |field: &str, why: String| ArchiveError::Manifest(format!("configs[{i}].{field}: {why}"));
        AppName::new(entry.app.as_str()).map_err(|e| wrong("app", e.to_string()))?;
        EnvName::new(entry.env.as_str()).map_err(|e| wrong("env", e.to_string()))?;
        ConfigName::new(entry.name.as_str()).map_err(|e| wrong("name", e.to_string()))?;
        if let Some(first) = places.insert(entry.place(), i) {
            return Err(wrong("name", format!("configs[{first}] is the same config {}", entry.place())));
        }
        if entry.released && entry.file.is_none() {
            return Err(wrong("released", "without a file there is nothing to release".into()));
        }
    }
    Ok(())
}

fn check_hash(entry: &Entry, file: &str, content: &[u8]) -> Result<(), ArchiveError> {
    let found = hex::encode(Sha256::digest(content));
    if found == entry.sha256 {
        return Ok(());
    }
    let why = format!("its SHA-256 is {found}, the manifest says {:?}", entry.sha256);
    Err(ArchiveError::entry(file, why))
}
