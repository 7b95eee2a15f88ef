//! Refused attempts as lines of JSON in a file, which is turned when it is full.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use conflux_common::settings::{Problems, Validate};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Attempt, AuditSink};

/// Attempts that wait for the disk; further ones are counted, not kept.
const QUEUE: usize = 4096;

/// Where refused attempts are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Absolute. Older ones are beside it: `<file>.1`, `<file>.2`, ..
    pub file: PathBuf,
    /// Bytes after which a new file begins.
    #[serde(default = "file_bytes")]
    pub max_bytes: u64,
    /// How many older ones are kept.
    #[serde(default = "older_files")]
    pub older_files: u32,
}

fn file_bytes() -> u64 {
    64 << 20
}

fn older_files() -> u32 {
    4
}

impl Validate for Settings {
    fn validate(&self, problems: &mut Problems) {
        problems.absolute("file", &self.file);
        problems.require(self.max_bytes >= 4096, "max_bytes", "at least 4096");
        problems.require(self.older_files <= 100, "older_files", "at most 100");
    }
}

/// The sink. What it was given is on disk when it has been dropped.
pub struct JsonLines {
    queue: Option<SyncSender<Attempt>>,
    dropped: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl JsonLines {
    /// Opens the file and starts the thread that writes it.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let turning = Turning::open(settings)?;
        let (queue, waiting) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        let writer = std::thread::Builder::new()
            .name("refused-attempts".into())
            .spawn(move || write_all(turning, &waiting, &counted))?;
        Ok(Self { queue: Some(queue), dropped, writer: Mutex::new(Some(writer)) })
    }
}

impl AuditSink for JsonLines {
    fn record(&self, attempt: Attempt) {
        let taken = self.queue.as_ref().is_some_and(|queue| queue.try_send(attempt).is_ok());
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("conflux_gateway_refused_not_recorded_total").increment(1);
        }
    }
}

impl Drop for JsonLines {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

/// A line that says how many attempts are missing before it.
#[derive(Serialize)]
struct Missing {
    not_recorded: u64,
}

fn write_all(mut file: Turning, waiting: &Receiver<Attempt>, dropped: &AtomicU64) {
    let mut ailing = false;
    while let Ok(first) = waiting.recv() {
        let mut write = |attempt: &Attempt| -> io::Result<()> {
            let missing = dropped.swap(0, Ordering::Relaxed);
            if missing > 0 {
                file.line(&Missing { not_recorded: missing })?;
            }
            file.line(attempt)
        };
        let mut done = write(&first);
        // At most a queue's worth before the disk has it.
        for attempt in waiting.try_iter().take(QUEUE) {
            done = done.and(write(&attempt));
        }
        match done.and_then(|()| file.out.flush()) {
            Ok(()) => ailing = false,
            Err(error) => {
                metrics::counter!("conflux_gateway_refused_not_recorded_total").increment(1);
                if !ailing {
                    tracing::error!(file = %file.settings.file.display(), %error, "refused attempts cannot be recorded");
                }
                ailing = true;
            }
        }
    }
}

/// A file of bounded size.
struct Turning {
    settings: Settings,
    out: BufWriter<File>,
    bytes: u64,
}

impl Turning {
    fn open(settings: Settings) -> io::Result<Self> {
        if let Some(folder) = settings.file.parent() {
            fs::create_dir_all(folder)?;
        }
        let (out, bytes) = append(&settings.file)?;
        Ok(Self { settings, out, bytes })
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.settings.max_bytes {
            self.turn()?;
        }
        self.out.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// The oldest goes, each other one gets the next number, and a new file begins.
    fn turn(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let file = &self.settings.file;
        let older = |n: u32| PathBuf::from(format!("{}.{n}", file.display()));
        let ok_if_missing = |done: io::Result<()>| match done {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
        if self.settings.older_files == 0 {
            ok_if_missing(fs::remove_file(file))?;
        }
        for n in (1..=self.settings.older_files).rev() {
            let from = if n == 1 { file.clone() } else { older(n - 1) };
            ok_if_missing(fs::rename(from, older(n)))?;
        }
        (self.out, self.bytes) = append(file)?;
        Ok(())
    }
}

/// Only the process's own user may read who was refused what.
fn append(file: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    let bytes = file.metadata()?.len();
    Ok((BufWriter::new(file), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(n: usize) -> Attempt {
        Attempt {
            time: "2026-01-01T00:00:00Z".into(),
            request_id: format!("r-{n}"),
            principal: "key:a".into(),
            tenant: "acme".into(),
            method: "PUT".into(),
            path: "/api/v1/\"quoted\"\n".into(),
            status: 403,
            code: "PERMISSION_DENIED",
            client: None,
        }
    }

    fn lines(file: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Each attempt is one line that a program can read, also when the process starts again.
    #[test]
    fn attempts_are_lines_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub/refused.jsonl");
        for run in 0..2 {
            let sink = JsonLines::open(Settings { file: file.clone(), max_bytes: 1 << 20, older_files: 1 }).unwrap();
            (0..10).for_each(|n| sink.record(attempt(run * 10 + n)));
        }
        let lines = lines(&file);
        assert_eq!((lines.len(), &lines[19]["request_id"]), (20, &serde_json::json!("r-19")));
        assert_eq!(lines[0]["path"], "/api/v1/\"quoted\"\n");
    }

    /// Whoever sends refused requests must not fill the disk.
    #[test]
    fn the_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("refused.jsonl");
        let mut turning = Turning::open(Settings { file: file.clone(), max_bytes: 4096, older_files: 2 }).unwrap();
        for n in 0..200 {
            turning.line(&attempt(n)).unwrap();
        }
        turning.out.flush().unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["refused.jsonl", "refused.jsonl.1", "refused.jsonl.2"]);
        for name in &names {
            assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= 4096);
        }
        assert_eq!(lines(&file).last().unwrap()["request_id"], "r-199");
    }

    /// A disk that does not keep up must not hold up requests; what is lost is told.
    #[test]
    fn what_finds_no_room_is_counted() {
        let (queue, waiting) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let sink = JsonLines { queue: Some(queue), dropped: dropped.clone(), writer: Mutex::new(None) };
        (0..5).for_each(|n| sink.record(attempt(n)));
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
        drop(sink);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("refused.jsonl");
        let settings = Settings { file: file.clone(), max_bytes: 1 << 20, older_files: 0 };
        write_all(Turning::open(settings).unwrap(), &waiting, &dropped);
        let lines = lines(&file);
        assert_eq!((lines[0]["not_recorded"].as_u64(), &lines[1]["request_id"]), (Some(4), &serde_json::json!("r-0")));
    }
}
