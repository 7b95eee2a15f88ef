//! One readable log of all members: follows their log files, also while others start and stop the members.

use std::{
    io::{IsTerminal, Read, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

use crate::output::plain;

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Of one file in one look: a flood must not use up the memory.
const READ_AT_ONCE: u64 = 1 << 20;

/// Characters of an event that are shown; the file has the rest.
const MAX_SHOWN: usize = 400;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Show {
    /// Nothing
    None,
    /// Warnings and errors
    Warnings,
    /// All of info and above
    Info,
}

/// Follows the files from their present end.
pub struct Follower {
    files: Vec<Followed>,
    show: Show,
    colours: bool,
}

struct Followed {
    name: String,
    path: PathBuf,
    at: u64,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Follower {
    pub fn new(files: impl IntoIterator<Item = (String, PathBuf)>, show: Show) -> Self {
        let followed = |(name, path): (String, PathBuf)| {
            let at = std::fs::metadata(&path).map_or(0, |m| m.len());
            Followed { name, path, at, rest: Vec::new() }
        };
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { files: files.into_iter().map(followed).collect(), show, colours }
    }

    /// Until it is dropped.
    pub async fn run(mut self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            for line in self.files.iter_mut().flat_map(Followed::news).collect::<Vec<_>>() {
                if let Some(text) = show(&line.0, &line.1, self.show, self.colours) {
                    // A closed terminal is no reason to stop the federation.
                    let _ = crate::output::line(&text);
                }
            }
        }
    }
}

impl Followed {
    fn news(&mut self) -> Vec<(String, String)> {
        let mut new = Vec::new();
        if self.read(&mut new).is_err() {
            return Vec::new();
        }
        self.rest.extend(new);
        let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(|line| (self.name.clone(), line.to_owned())).collect()
    }

    fn read(&mut self, into: &mut Vec<u8>) -> std::io::Result<()> {
        let mut file = std::fs::File::open(&self.path)?;
        if file.metadata()?.len() < self.at {
            // It was put aside and begun anew.
            (self.at, self.rest) = (0, Vec::new());
        }
        file.seek(SeekFrom::Start(self.at))?;
        self.at += file.take(READ_AT_ONCE).read_to_end(into)? as u64;
        Ok(())
    }
}

/// The last lines that a member wrote from this position on, for people.
pub fn tail(name: &str, path: &std::path::Path, from: u64, lines: usize) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
    let start = from.max(text.len().saturating_sub(64 << 10));
    let text = String::from_utf8_lossy(&text[start..]).into_owned();
    let all: Vec<String> = text.lines().filter_map(|line| show(name, line, Show::Info, false)).collect();
    all[all.len().saturating_sub(lines)..].to_vec()
}

/// One line for people, if it is to be shown. What is no JSON was written by a panic or a library: always shown.
fn show(name: &str, line: &str, show: Show, colours: bool) -> Option<String> {
    if show == Show::None || line.trim().is_empty() {
        return None;
    }
    let Ok(Value::Object(event)) = serde_json::from_str::<Value>(line) else {
        return Some(format!("[{name}] {}", plain(line)));
    };
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    let level = text("level");
    // openraft warns of every heartbeat that is late; our own lines say what came of it.
    let library = text("target").starts_with("openraft");
    let wanted = match show {
        Show::Info => matches!(level, "ERROR" | "WARN" | "INFO"),
        _ => level == "ERROR" || (level == "WARN" && !library),
    };
    if !wanted {
        return None;
    }
    let nested = event.get("fields").and_then(Value::as_object);
    let fields = nested.unwrap_or(&event);
    let message = fields.get("message").and_then(Value::as_str).unwrap_or_default();
    // A backtrace is in the file, for those who want it.
    let known = [
        "backtrace",
        "message",
        "timestamp",
        "level",
        "target",
        "fields",
        "span",
        "spans",
        "cluster",
        "group",
        "member",
    ];
    let others = fields.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    let others: Vec<String> = others
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            value => format!("{key}={value}"),
        })
        .collect();
    // 2026-11-21T06:00:00.123456Z: people look at the time of day.
    let time = text("timestamp").split_once('T').map_or("", |(_, time)| time.get(..12).unwrap_or(time));
    let (on, off) = match (colours, level) {
        (true, "ERROR") => ("\x1b[31m", "\x1b[0m"),
        (true, "WARN") => ("\x1b[33m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
        _ => ("", ""),
    };
    let mut rest = plain(format!("{message} {}", others.join(" ")).trim());
    if rest.chars().count() > MAX_SHOWN {
        rest = rest.chars().take(MAX_SHOWN).chain(" ..".chars()).collect();
    }
    Some(format!("{time} {on}{level:<5}{off} [{name}] {rest}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const WARNING: &str = r#"{"timestamp":"2026-11-21T06:00:00.123456Z","level":"WARN","fields":{"message":"slow","ms":7},"target":"conflux_raft"}"#;

    /// The log must be short enough to be read, and a panic must never be hidden.
    #[test]
    fn warnings_and_what_is_no_json_are_shown() {
        assert_eq!(show("a", WARNING, Show::Warnings, false).unwrap(), "06:00:00.123 WARN  [a] slow ms=7");
        assert_eq!(show("a", &WARNING.replace("WARN", "INFO"), Show::Warnings, false), None);
        assert!(show("a", &WARNING.replace("WARN", "INFO"), Show::Info, false).is_some());
        assert_eq!(show("a", "thread 'main' panicked", Show::Warnings, false).unwrap(), "[a] thread 'main' panicked");
    }

    /// A line that is written in two parts is one line; a file that begins anew is read from its beginning.
    #[test]
    fn lines_come_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut follower = Follower::new([("x".to_owned(), path.clone())], Show::Info);
        let mut append = |text: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            follower.files[0].news().into_iter().map(|(_, line)| line).collect::<Vec<_>>()
        };
        assert!(append("fir").is_empty());
        assert_eq!(append("st\nsecond\n"), ["first", "second"]);
        std::fs::write(&path, "").unwrap();
        assert_eq!(append("a\n"), ["a"]);
    }
}
