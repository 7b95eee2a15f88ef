//! Whether a content is what its format says: bounded in size, depth and expansion.

use conflux_common::error::ApiError;
use parking_lot::{Mutex, MutexGuard};

use super::{Format, Place, Value, Wanted, registry};

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
        let place = Place::of(content, offset);
        Self::new(place.line, place.column, message)
    }
}

impl From<SyntaxError> for ApiError {
    fn from(e: SyntaxError) -> Self {
        ApiError::invalid("content", e.to_string())
    }
}

/// Contents above this are read two at a time: a parsed YAML takes up to 170 times its bytes.
const LARGE: usize = 64 << 10;
static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];

/// Waits for a turn where a content is large. Whoever reads several takes one turn for all, of the largest.
pub fn turn(bytes: usize) -> Option<MutexGuard<'static, ()>> {
    (bytes > LARGE).then(|| TURNS[0].try_lock().unwrap_or_else(|| TURNS[1].lock()))
}

/// A content that was read.
#[derive(Debug)]
pub struct Parsed<'t> {
    /// Its format.
    pub format: Format,
    /// What it means.
    pub value: Value,
    text: &'t str,
}

impl Parsed<'_> {
    /// Finds where values stand.
    pub fn locate(&self, wanted: &mut Wanted) {
        if let Some(format) = registry::of(self.format) {
            format.locate(self.text, wanted);
        }
    }
}

/// Reads a content that has values. Takes time and memory in proportion to its size: take a [`turn`] before, and call it off
/// the runtime above 64 KiB.
pub fn parse<'t>(format: Format, content: &'t [u8], limits: &Limits) -> Result<Parsed<'t>, SyntaxError> {
    let text = readable(format, content, limits)?;
    let value = reader(format)?.parse(text, limits)?;
    Ok(Parsed { format, value, text })
}

/// Checks a content; the same cost and the same advice. A content that is too large is refused like any other; callers that
/// answer 413 check the size first.
pub fn check(format: Format, content: &[u8], limits: &Limits) -> Result<(), SyntaxError> {
    if format == Format::Binary {
        return sized(content, limits);
    }
    let text = readable(format, content, limits)?;
    if format == Format::Plaintext {
        return Ok(());
    }
    let _turn = turn(content.len());
    reader(format)?.parse(text, limits).map(drop)
}

fn sized(content: &[u8], limits: &Limits) -> Result<(), SyntaxError> {
    if content.len() > limits.max_bytes {
        let message = format!("{} bytes, more than {}", content.len(), limits.max_bytes);
        return Err(SyntaxError::new(0, 0, message));
    }
    Ok(())
}

fn readable<'t>(format: Format, content: &'t [u8], limits: &Limits) -> Result<&'t str, SyntaxError> {
    sized(content, limits)?;
    reader(format)?;
    std::str::from_utf8(content).map_err(|e| SyntaxError::at(content, e.valid_up_to(), "not UTF-8"))
}

fn reader(format: Format) -> Result<&'static dyn super::ConfigFormat, SyntaxError> {
    let missing = || SyntaxError::new(0, 0, format!("this service was built without {}", format.name()));
    registry::of(format).ok_or_else(missing)
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
        for format in Format::ALL.into_iter().filter(|f| *f != Format::Binary) {
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
