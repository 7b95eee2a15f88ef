//! Whether a content is what its format says: bounded in size, depth and expansion.

use conflux_common::error::ApiError;
use parking_lot::{Mutex, MutexGuard};

use super::{Format, json, toml, yaml};

/// Bounds of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub max_bytes: usize,
    /// Collections within one another.
    pub max_depth: usize,
    /// Values that the content means once its aliases are followed.
    pub max_nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: crate::machine::limits::MAX_CONTENT_BYTES, max_depth: 64, max_nodes: 1 << 20 }
    }
}

/// What is wrong with a content and where. Lines and columns count from 1; 0: not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl SyntaxError {
    pub(super) fn new(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self { line, column, message: message.into() }
    }

    /// At this byte of the content.
    pub(super) fn at(content: &[u8], offset: usize, message: impl Into<String>) -> Self {
        let before = &content[..offset.min(content.len())];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        Self::new(line, column, message)
    }
}

impl From<SyntaxError> for ApiError {
    fn from(e: SyntaxError) -> Self {
        ApiError::invalid("content", e.to_string())
    }
}

/// Contents above this are checked two at a time: a parsed YAML or TOML takes up to 170 times its bytes.
const LARGE: usize = 64 << 10;
static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];

fn turn(content: &[u8]) -> Option<MutexGuard<'static, ()>> {
    (content.len() > LARGE).then(|| TURNS[0].try_lock().unwrap_or_else(|| TURNS[1].lock()))
}

/// Checks a content. Takes time and memory in proportion to its size, a large one waits for its turn: call it off the runtime
/// above 64 KiB. A content that is too large is refused like any other; callers that answer 413 check the size first.
pub fn check(format: Format, content: &[u8], limits: &Limits) -> Result<(), SyntaxError> {
    if content.len() > limits.max_bytes {
        let message = format!("{} bytes, more than {}", content.len(), limits.max_bytes);
        return Err(SyntaxError::new(0, 0, message));
    }
    if format == Format::Binary {
        return Ok(());
    }
    let text = std::str::from_utf8(content).map_err(|e| SyntaxError::at(content, e.valid_up_to(), "not UTF-8"))?;
    match format {
        Format::Json => json::check(text, limits),
        Format::Yaml | Format::Toml => {
            let _turn = turn(content);
            if format == Format::Yaml { yaml::check(text, limits) } else { toml::check(text, limits) }
        }
        Format::Plaintext | Format::Binary => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(format: Format, content: &[u8]) -> SyntaxError {
        check(format, content, &Limits::default()).unwrap_err()
    }

    // Bytes of another encoding would reach every client of the config.
    #[test]
    fn text_formats_are_utf8_and_binary_is_anything() {
        for format in [Format::Json, Format::Yaml, Format::Toml, Format::Plaintext] {
            let e = error(format, b"a\nb \xff");
            assert_eq!((e.line, e.column, e.message.as_str()), (2, 3, "not UTF-8"), "{format:?}");
        }
        assert!(check(Format::Binary, &[0xff, 0], &Limits::default()).is_ok());
        assert!(check(Format::Plaintext, "any {[ text ä".as_bytes(), &Limits::default()).is_ok());
    }

    #[test]
    fn size_is_bounded() {
        let max = Limits::default().max_bytes;
        assert!(check(Format::Plaintext, &vec![b'a'; max], &Limits::default()).is_ok());
        assert!(error(Format::Binary, &vec![b'a'; max + 1]).message.contains("1048576"));
    }

    // The place travels to the user in the error's one field.
    #[test]
    fn the_error_is_an_invalid_argument_of_the_content() {
        let e = ApiError::from(error(Format::Json, b"{\"a\": }"));
        assert_eq!((e.http_status(), e.details[0].field.as_str()), (400, "content"));
        assert!(e.details[0].description.starts_with("line 1, column 7: "), "{e}");
    }

    // Large contents take turns: they must all get theirs.
    #[test]
    fn large_contents_wait_for_their_turn() {
        let large = (0..10_000).map(|i| format!("k{i}: v\n")).collect::<String>();
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| assert!(check(Format::Yaml, large.as_bytes(), &Limits::default()).is_ok()));
            }
        });
    }
}
