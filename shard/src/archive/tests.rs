//! What an archive brings through, and what is refused of archives that nobody here made.

use std::io::{Cursor, Write};

use bytes::Bytes;
use conflux_common::error::ApiError;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

fn entry(name: &str, content: Option<&[u8]>) -> Entry {
    Entry {
        app: "shop".into(),
        env: "prod".into(),
        name: name.into(),
        file: content.map(|_| Entry::file_of("shop", "prod", name)),
        format: "plaintext".into(),
        description: "what it is".into(),
        tags: vec!["web".into()],
        schema: String::new(),
        retention: Kept { max_versions: 3, max_age_days: 0 },
        version: 7,
        sha256: content.map(|c| hex::encode(Sha256::digest(c))).unwrap_or_default(),
        released: content.is_some(),
        rules: Vec::new(),
    }
}

fn manifest(configs: Vec<Entry>) -> Manifest {
    Manifest { format_version: FORMAT, app: Some("shop".into()), env: None, revision: "1.9".into(), configs }
}

fn opened(bytes: impl Into<Bytes>) -> Result<Archive, ArchiveError> {
    Opened::open(bytes.into())?.read()
}

/// A zip of these entries, with the manifest of `configs`.
fn zipped(configs: Vec<Entry>, entries: &[(&str, &[u8])]) -> Vec<u8> {
    zipped_with(configs, entries, SimpleFileOptions::default())
}

fn zipped_with(configs: Vec<Entry>, entries: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let manifest = serde_json::to_vec(&manifest(configs)).unwrap();
    for (name, content) in [(MANIFEST, manifest.as_slice())].iter().chain(entries) {
        zip.start_file(*name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn one_file() -> Vec<u8> {
    zipped(vec![entry("a", Some(b"x"))], &[("configs/shop/prod/a", b"x")])
}

/// Puts other bytes of the same length in the place of some, wherever they are.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

fn why(bytes: Vec<u8>) -> String {
    opened(bytes).expect_err("it was read").to_string()
}

/// What was exported comes back byte for byte, and two exports of one state are the same file.
#[test]
fn what_is_written_is_read() {
    let blank = vec![b' '; 1 << 20];
    let contents: Vec<Option<Bytes>> =
        vec![Some(Bytes::from_static(b"a: 1\n\xff")), None, Some(blank.into()), Some(Bytes::new())];
    let configs = contents.iter().enumerate().map(|(i, c)| entry(&format!("c{i}"), c.as_deref())).collect();
    let manifest = manifest(configs);
    let bytes = write(&manifest, &contents).unwrap();
    assert_eq!(write(&manifest, &contents).unwrap(), bytes);
    let opened = Opened::open(bytes).unwrap();
    assert!(opened.unpacked() > 1 << 20);
    assert_eq!(opened.read().unwrap(), Archive { manifest, contents });
}

/// Folders, as `zip -r` makes them, are no harm.
#[test]
fn folders_are_passed_over() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_directory("configs", SimpleFileOptions::default()).unwrap();
    zip.start_file(MANIFEST, SimpleFileOptions::default()).unwrap();
    zip.write_all(&serde_json::to_vec(&manifest(vec![])).unwrap()).unwrap();
    assert_eq!(opened(zip.finish().unwrap().into_inner()).unwrap().contents, []);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for bad in ["../a", "a/../b", "/a", "a//b", "./a", "a\\b", "C:\\a", "a/./b", "\u{e4}", "a b", "a\0b", "a/..", ".."]
    {
        let refused = why(zipped(vec![], &[(bad, b"x")]));
        assert!(refused.contains("names are relative") || refused.contains("two names"), "{bad}: {refused}");
    }
}

#[test]
fn links_and_what_is_no_file_are_refused() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink("configs/shop/prod/a", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    assert!(why(zip.finish().unwrap().into_inner()).contains("links and special files"));
}

/// The crate keeps the last entry of a name: whoever looked at the first one saw something else.
#[test]
fn two_entries_of_one_name_are_refused() {
    let twins = zipped(vec![], &[("configs/one", b"x"), ("configs/two", b"y")]);
    let refused = why(replaced(twins, b"configs/two", b"configs/one"));
    assert!(refused.contains("\"configs/one\"") && refused.contains("two entries"), "{refused}");
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let zeros = vec![0; 1 << 20];
    let refused = why(zipped(vec![], &[("configs/a", &zeros)]));
    assert!(refused.contains("200 times"), "{refused}");

    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let names: Vec<String> = (0..bounds::ENTRIES).map(|i| format!("c/{i}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    let refused = why(zipped_with(vec![], &many, stored));
    assert!(refused.contains("entries: 2001, more than 2000"), "{refused}");
    assert!(why(vec![0; bounds::ARCHIVE + 1]).contains("bytes of the archive"));

    // Sixty-five megabytes that pack to one: each entry alone is within its bound.
    let noise: Vec<u8> = (0..1u32 << 18).flat_map(|i| (i / 24).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let names: Vec<String> = (0..65).map(|i| format!("c/{i}")).collect();
    let large: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), noise.as_slice())).collect();
    let refused = opened(zipped(vec![], &large)).unwrap_err();
    assert!(matches!(refused, ArchiveError::TooLarge { what: "bytes of all entries, unpacked", .. }), "{refused}");
    assert_eq!(ApiError::from(refused).http_status(), 413);
}

#[test]
fn manifest_and_files_must_agree() {
    let file: (&str, &[u8]) = ("configs/shop/prod/a", b"x");
    assert_eq!(opened(one_file()).unwrap().contents, [Some(Bytes::from_static(b"x"))]);
    let other = why(zipped(vec![entry("a", Some(b"y"))], &[file]));
    assert!(other.contains("its SHA-256 is") && other.contains("configs/shop/prod/a"), "{other}");
    assert!(why(zipped(vec![entry("a", Some(b"x"))], &[])).contains("it is not in the archive"));
    assert!(why(zipped(vec![], &[file])).contains("no config of the manifest names it"));
    let twice = vec![entry("a", Some(b"x")), entry("a", Some(b"x"))];
    assert!(why(zipped(twice, &[file])).contains("configs[0] is the same config"));
    let shared = vec![entry("a", Some(b"x")), Entry { name: "b".into(), ..entry("a", Some(b"x")) }];
    assert!(why(zipped(shared, &[file])).contains("the manifest names it twice"));
    let unnamed = vec![Entry { env: "..".into(), ..entry("a", None) }];
    assert!(why(zipped(unnamed, &[])).contains("configs[0].env"));
    let nothing = vec![Entry { released: true, ..entry("a", None) }];
    assert!(why(zipped(nothing, &[])).contains("nothing to release"));
    let manifest_itself = vec![Entry { file: Some(MANIFEST.into()), ..entry("a", Some(b"x")) }];
    assert!(why(zipped(manifest_itself, &[])).contains("names it twice"));

    let newer = replaced(one_file_stored(), b"\"format_version\":1", b"\"format_version\":9");
    let refused = opened(newer).unwrap_err().to_string();
    assert!(refused.contains("format_version 9") || refused.contains("cannot be unpacked"), "{refused}");
}

fn one_file_stored() -> Vec<u8> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zipped_with(vec![entry("a", Some(b"x"))], &[("configs/shop/prod/a", b"x")], stored)
}

/// A content that was damaged on its way, and a file that is cut off, must be noticed.
#[test]
fn damage_is_noticed() {
    let damaged = replaced(one_file_stored(), b"what it is", b"what it iz");
    assert!(why(damaged).contains("cannot be unpacked"));
    let whole = one_file();
    for cut in 0..whole.len() {
        assert!(opened(whole[..cut].to_vec()).is_err(), "cut at {cut}");
    }
    // Something before the archive, as self-extracting ones have it, or behind it.
    assert!(opened([b"xx".as_slice(), &whole].concat()).is_err());
    assert!(opened([whole.as_slice(), b"xx"].concat()).is_err());
    // A whole second archive behind the first, or in its comment.
    assert!(opened([whole.as_slice(), &whole].concat()).is_err());
}

#[test]
fn an_export_that_could_not_be_imported_is_refused() {
    let mut writer = Writer::default();
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(1 << 20)
    .collect();
    let full = (0..20).find_map(|i| writer.add(&format!("c/{i}"), &noise).err()).unwrap();
    assert!(matches!(full, ArchiveError::TooLarge { what: "bytes of the archive", .. }), "{full}");
}

proptest! {
    /// Whatever bytes come, they are read or refused; and one flipped byte is never taken for the archive itself.
    #[test]
    fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..10_000, to: u8) {
        let _ = opened(noise);
        let mut whole = one_file();
        let at = at % whole.len();
        whole[at] = to;
        if let Ok(archive) = opened(whole) {
            prop_assert_eq!(archive.contents, vec![Some(Bytes::from_static(b"x"))]);
        }
    }
}
