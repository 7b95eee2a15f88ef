//! Why settings cannot be used, for the operator who has to change them.

use std::{fmt, io, path::PathBuf};

use super::Problem;

/// Why a process cannot start with its settings. The text is for the operator who has to change them.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is missing or may not be read.
    #[error("cannot read the settings {}: {source}", file.display())]
    Unreadable {
        /// As given.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not TOML.
    #[error("{}:{line}: this is not TOML: {message}", file.display())]
    Syntax {
        /// As given.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A variable or a flag does not fit anywhere.
    #[error("{from}: {message}")]
    Misplaced {
        /// Which.
        from: Origin,
        /// Why.
        message: String,
    },
    /// A field is unknown, missing or of the wrong kind.
    #[error("{from}: {path}: {message}")]
    Field {
        /// Where its value comes from.
        from: Origin,
        /// `raft.heartbeat_ms`, or `.` for the whole.
        path: String,
        /// Why.
        message: String,
    },
    /// Each field is readable, but together they make no sense. Every problem is listed.
    #[error("{}: {}", file.display(), list(problems))]
    Invalid {
        /// As given.
        file: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file, and the line if it is known.
    File(PathBuf, Option<usize>),
    /// The variable of this name.
    Environment(String),
    /// The flag with this path.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(file, Some(line)) => write!(f, "{}:{line}", file.display()),
            Origin::File(file, None) => write!(f, "{}", file.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag(path) => write!(f, "flag {path}"),
        }
    }
}
