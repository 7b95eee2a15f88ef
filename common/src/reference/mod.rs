//! References from one config to another: `{{ conflux:app/env/name#/json/pointer }}` (DESIGN section 6).
//!
//! The service stores and serves them as they were written; a client resolves them with its reader's own rights. This module is the part
//! of that without I/O: [`scan`] finds references in a content, [`Expansion`] puts texts in their place and says which it still needs.
//! What does not begin with `{{`, blanks and `conflux:` is no reference and stays byte for byte; what does and is none is an error with its
//! place, since a client that was handed it would take it for a value.

mod expand;
mod scan;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

pub use expand::{Expansion, Limits, Quote, Step, Text, Wanted};
pub use scan::{Piece, scan};

use crate::ids::{AppName, ConfigName, EnvName, InvalidName};

/// Bytes from `{{` to `}}`, both included.
pub const MAX_LENGTH: usize = 1024;

/// What a reference names, within the tenant of the config that it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The application.
    pub app: AppName,
    /// Its environment.
    pub env: EnvName,
    /// The config.
    pub name: ConfigName,
    /// A JSON pointer (RFC 6901) to one value of it; none: the whole content.
    pub pointer: Option<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.app, self.env, self.name)?;
        match &self.pointer {
            Some(pointer) => write!(f, "#{pointer}"),
            None => Ok(()),
        }
    }
}

/// `app/env/name`, or `app/env/name#/json/pointer`.
impl FromStr for Reference {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (path, pointer) = match text.split_once('#') {
            Some((path, pointer)) => (path, Some(pointer)),
            None => (text, None),
        };
        let mut parts = path.split('/');
        let (Some(app), Some(env), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(Problem::Path);
        };
        if !pointer.is_none_or(is_pointer) {
            return Err(Problem::Pointer);
        }
        Ok(Self {
            app: AppName::new(app)?,
            env: EnvName::new(env)?,
            name: ConfigName::new(name)?,
            pointer: pointer.map(str::to_owned),
        })
    }
}

/// RFC 6901: nothing or steps that begin with `/`; `~` only as `~0` and `~1`.
fn is_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/')) && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

/// A place in a content. Both count from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    const FIRST: Place = Place { line: 1, column: 1 };

    /// Behind these bytes, which begin here.
    fn after(self, bytes: &[u8]) -> Self {
        let characters = |line: &[u8]| String::from_utf8_lossy(line).chars().count();
        match bytes.iter().rposition(|b| *b == b'\n') {
            None => Self { column: self.column + characters(bytes), ..self },
            Some(last) => {
                let lines = bytes.iter().filter(|b| **b == b'\n').count();
                Self { line: self.line + lines, column: 1 + characters(&bytes[last + 1..]) }
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a content's references cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It begins and does not end.
    #[error(
        "a reference that begins with `{{{{ conflux:` ends with `}}}}` on the same line, within {MAX_LENGTH} bytes"
    )]
    Open,
    /// Something else than three names.
    #[error("a reference is `{{{{ conflux:app/env/name }}}}` or `{{{{ conflux:app/env/name#/json/pointer }}}}`")]
    Path,
    /// One of the names.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// What stands behind `#`.
    #[error("behind `#` stands a JSON pointer: steps that begin with `/`, `~` in them as `~0` and `/` as `~1`")]
    Pointer,
    /// Bytes that are no text.
    #[error("a reference is UTF-8 text")]
    Encoding,
    /// It comes back to itself.
    #[error("a circle of references: {}", circle(.0))]
    Cycle(Vec<Reference>),
    /// References within references.
    #[error("references lead through more than {0} configs")]
    TooDeep(usize),
    /// So many references, those of referenced contents included.
    #[error("more than {0} references to resolve")]
    TooMany(usize),
    /// So many configs.
    #[error("references to more than {0} configs")]
    TooManyConfigs(usize),
    /// So many bytes.
    #[error("what the references put in place has more than {0} bytes")]
    TooLarge(usize),
    /// A text of several lines where the format takes one.
    #[error(
        "{0} has several lines or control characters, and cannot stand inside a value here: refer to one value, as in `#/key`"
    )]
    Lines(Box<Reference>),
}

fn circle(references: &[Reference]) -> String {
    references.iter().map(Reference::to_string).collect::<Vec<_>>().join(" -> ")
}

/// A problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{place}: {problem}", within.as_ref().map_or_else(String::new, |r| format!("in {r}, ")))]
pub struct ReferenceError {
    /// The reference whose text it is in; none: the content that was asked for.
    pub within: Option<Box<Reference>>,
    /// Where in that text.
    pub place: Place,
    /// What it is.
    pub problem: Problem,
}
