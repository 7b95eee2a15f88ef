//! A disk for each member: a loop-mounted ext4 that can lose its power, be filled and be damaged.
//!
//! It takes root, and is done in a mount namespace of this program: nobody else sees the mounts, and they are gone when the
//! last process of the run is.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Of each disk; its file is sparse.
const BYTES: u64 = 1 << 30;
/// No write reaches the disk by itself: what was not synced is lost with the power.
const OPTIONS: &str = "loop,commit=600,noauto_da_alloc,nodiscard";

/// `FS_IOC_SHUTDOWN` with `FS_SHUTDOWN_FLAGS_NOLOGFLUSH` (linux/fs.h): from now on nothing reaches the disk.
mod ioctl {
    nix::ioctl_read!(shutdown, b'X', 125, u32);
    pub const NO_LOG_FLUSH: u32 = 2;
}

/// What a member keeps, for bit flips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    Log,
    State,
    Snapshot,
}

/// See the module.
pub struct Disks {
    images: PathBuf,
    /// Where the disk of a member is mounted.
    mounted: BTreeMap<String, PathBuf>,
}

/// Makes this program's mounts its own. Before there are threads.
pub fn prepare() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "not root");
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making mounts private")?;
    for (program, package) in [("mkfs.ext4", "e2fsprogs"), ("mount", "mount")] {
        let found = Command::new(program).arg("-V").output();
        ensure!(found.is_ok(), "{program} is missing (package {package})");
    }
    ensure!(Path::new("/dev/loop-control").exists(), "no loop devices (/dev/loop-control)");
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let done = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    ensure!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

impl Disks {
    /// Their files lie in this directory.
    pub fn new(images: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&images)?;
        Ok(Self { images, mounted: BTreeMap::new() })
    }

    fn image(&self, member: &str) -> PathBuf {
        self.images.join(format!("{member}.ext4"))
    }

    /// Makes a new disk and mounts it here.
    pub fn add(&mut self, member: &str, at: &Path) -> Result<()> {
        let image = self.image(member);
        File::create(&image)?.set_len(BYTES)?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1", &image.display().to_string()])?;
        std::fs::create_dir_all(at)?;
        self.mounted.insert(member.to_owned(), at.to_owned());
        self.mount(member)?;
        // A member refuses a directory that holds what is not its own.
        let _ = std::fs::remove_dir(at.join("lost+found"));
        Ok(())
    }

    fn mount(&self, member: &str) -> Result<()> {
        let at = self.mounted.get(member).context("a disk")?.display().to_string();
        run("mount", &["-t", "ext4", "-o", OPTIONS, &self.image(member).display().to_string(), &at])
    }

    /// The power of all disks goes. What was not synced is lost; what is written from now on fails.
    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl is there")]
    pub fn lose_power(&self) -> Result<()> {
        let roots: Vec<File> = self.mounted.values().map(File::open).collect::<io::Result<_>>()?;
        for root in &roots {
            let mut how = ioctl::NO_LOG_FLUSH;
            // SAFETY: the request reads one u32, which lives on this frame, and the descriptor is open.
            unsafe { ioctl::shutdown(root.as_raw_fd(), &raw mut how) }.context("FS_IOC_SHUTDOWN")?;
        }
        Ok(())
    }

    /// The power is back: each is mounted anew, by its journal. No process may use them.
    pub fn regain_power(&self) -> Result<()> {
        for (member, at) in &self.mounted {
            umount2(at, MntFlags::empty()).with_context(|| format!("unmounting the disk of {member}"))?;
            self.mount(member)?;
        }
        Ok(())
    }

    /// Takes a member's disk away for good.
    pub fn remove(&mut self, member: &str) {
        if let Some(at) = self.mounted.remove(member) {
            let _ = umount2(&at, MntFlags::MNT_DETACH);
            let _ = std::fs::remove_file(self.image(member));
        }
    }

    /// Leaves so many bytes of the disk.
    pub fn fill(&self, member: &str, leave: u64) -> Result<u64> {
        let at = self.mounted.get(member).context("a disk")?;
        let free = free(at)?;
        let bytes = free.saturating_sub(leave);
        let file = File::create(at.join("ballast"))?;
        // The file system needs some room for its own notes of it.
        let mut taken = bytes.max(1);
        while let Err(why) = nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, i64::try_from(taken)?)
        {
            taken = taken.checked_sub(64 << 10).with_context(|| format!("filling the disk of {member}: {why}"))?;
            file.set_len(0)?;
        }
        Ok(taken)
    }

    /// Gives it back.
    pub fn empty(&self, member: &str) {
        if let Some(at) = self.mounted.get(member) {
            let _ = std::fs::remove_file(at.join("ballast"));
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for at in self.mounted.values() {
            let _ = umount2(at, MntFlags::MNT_DETACH);
        }
    }
}

fn free(at: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(at)?;
    Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// Everything in a directory goes; the directory stays, since a disk may be mounted on it.
pub fn wipe(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => std::fs::remove_dir_all(path)?,
            false => std::fs::remove_file(path)?,
        }
    }
    Ok(())
}

/// Flips bits of one file of a member that does not run; says which.
pub fn flip(data_dir: &Path, kept: Kept, bits: u32, pick: u64) -> Result<String> {
    let below = data_dir.join(match kept {
        Kept::Log => "log",
        Kept::State => "state",
        Kept::Snapshot => "snapshots",
    });
    flip_below(&below, data_dir, bits, pick)
}

/// Flips bits of one file of a directory; says which.
pub fn flip_any(directory: &Path, bits: u32, pick: u64) -> Result<String> {
    flip_below(directory, directory, bits, pick)
}

fn flip_below(below: &Path, seen_from: &Path, bits: u32, pick: u64) -> Result<String> {
    let mut files = Vec::new();
    gather(below, &mut files)?;
    files.sort();
    if files.is_empty() {
        bail!("{} holds no file to damage", below.display());
    }
    let mut rng = StdRng::seed_from_u64(pick);
    let path = &files[rng.random_range(0..files.len())];
    let file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    for _ in 0..bits {
        let (at, mut byte) = (rng.random_range(0..length), [0]);
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << rng.random_range(0..8);
        file.write_all_at(&byte, at)?;
    }
    file.sync_all()?;
    Ok(format!("{bits} bits of {} ({length} bytes)", path.strip_prefix(seen_from).unwrap_or(path).display()))
}

/// Files that hold data; what RocksDB tells people is none.
fn gather(below: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(below)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, files)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let told = name.starts_with("LOG") || name.starts_with("OPTIONS") || name == "LOCK" || name == "IDENTITY";
        if !told && path.metadata()?.len() > 0 {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said to be damaged must be, and nothing else.
    #[test]
    fn flipped_bits_are_where_they_are_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("log")).unwrap();
        std::fs::write(dir.path().join("log/000004.log"), [0u8; 64]).unwrap();
        std::fs::write(dir.path().join("log/LOG"), [0u8; 64]).unwrap();
        let said = flip(dir.path(), Kept::Log, 1, 7).unwrap();
        assert!(said.contains("log/000004.log"), "{said}");
        let bytes = std::fs::read(dir.path().join("log/000004.log")).unwrap();
        assert_eq!(bytes.iter().map(|b| b.count_ones()).sum::<u32>(), 1);
        assert!(flip(dir.path(), Kept::Snapshot, 1, 7).is_err());
    }
}
