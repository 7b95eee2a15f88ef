//! Files written whole or not at all, and locks that end with their process.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// For everyone to read.
pub const PUBLIC: u32 = 0o644;
/// For their owner only: private keys and API keys.
pub const PRIVATE: u32 = 0o600;

/// Replaces the file: readers see the old content or the new one, also after a power failure.
pub fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let temporary = folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let put = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(content.as_ref())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    put().with_context(|| format!("cannot write {}", path.display()))
}

/// This user's folder for what may be lost.
pub fn cache_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("conflux")
}

/// Reads a text file, and says which one where that fails.
pub fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Held until it is dropped or the process ends, however it ends.
pub struct Lock {
    _file: Flock<File>,
}

/// Takes the lock, or says `busy` where another process has it.
pub fn lock(path: &Path, busy: &str) -> anyhow::Result<Lock> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Lock { _file: file }),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!("{busy}"),
        Err((_, e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A key that others can read is no secret, and a temporary file left behind would keep a copy of it.
    #[test]
    fn private_files_are_private_and_nothing_is_left_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/key.pem");
        write(&path, "first", PRIVATE).unwrap();
        write(&path, "second", PRIVATE).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    /// Two federations on one directory would write over each other.
    #[test]
    fn a_lock_admits_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = lock(&path, "busy").unwrap();
        assert_eq!(lock(&path, "busy").err().unwrap().to_string(), "busy");
        drop(first);
        assert!(lock(&path, "busy").is_ok());
    }
}
