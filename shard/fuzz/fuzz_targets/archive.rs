#![no_main]

use conflux_shard_fuzz::archive::{Opened, bounds};
use sha2::{Digest, Sha256};

// What is read of any bytes is within the bounds and what its manifest says; all else is refused.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(opened) = Opened::open(bytes.to_vec().into()) else { return };
    let unpacked = opened.unpacked();
    assert!(unpacked <= bounds::UNPACKED);
    let Ok(archive) = opened.read() else { return };
    assert_eq!(archive.contents.len(), archive.manifest.configs.len());
    let mut sum = 0;
    for (entry, content) in archive.manifest.configs.iter().zip(&archive.contents) {
        assert_eq!(entry.file.is_some(), content.is_some());
        for part in [&entry.app, &entry.env, &entry.name] {
            assert!(!part.is_empty() && !part.contains(['/', '\\', '\0']) && part != ".." && part != ".");
        }
        if let Some(content) = content {
            sum += content.len() as u64;
            assert_eq!(hex::encode(Sha256::digest(content)), entry.sha256);
        }
    }
    assert!(sum <= unpacked);
});
