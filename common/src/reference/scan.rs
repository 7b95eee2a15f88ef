//! References in a text.

use super::{MAX_LENGTH, Place, Problem, Reference, ReferenceError};

const OPEN: &[u8] = b"{{";
const CLOSE: &[u8] = b"}}";
const SCHEME: &[u8] = b"conflux:";

/// A part of a content. All parts one behind the other are the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Stays as it is.
    Plain(&'t [u8]),
    /// A reference.
    Reference {
        /// What it names.
        reference: Reference,
        /// As it is written, braces included.
        written: &'t [u8],
    },
}

/// The parts of a content, one after the other; after an error there are none. Takes time in proportion to the content.
pub fn scan(content: &[u8]) -> impl Iterator<Item = Result<Piece<'_>, ReferenceError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= content.len() {
            return None;
        }
        let begin = at;
        let (start, target) = match next(content, begin) {
            None => {
                at = content.len();
                return Some(Ok(Piece::Plain(&content[begin..])));
            }
            Some((start, _)) if start > begin => {
                at = start;
                return Some(Ok(Piece::Plain(&content[begin..start])));
            }
            Some(found) => found,
        };
        match read(content, start, target) {
            Ok((reference, end)) => {
                at = end;
                Some(Ok(Piece::Reference { reference, written: &content[start..end] }))
            }
            Err(problem) => {
                at = content.len();
                Some(Err(ReferenceError { within: None, place: Place::FIRST.after(&content[..start]), problem }))
            }
        }
    })
}

/// Where the next reference begins, and where what it names does.
fn next(content: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    while let Some(found) = find(&content[at..], OPEN) {
        let start = at + found;
        let inner = &content[start + OPEN.len()..];
        let blanks = inner.iter().take_while(|b| is_blank(**b)).count();
        if inner[blanks..].starts_with(SCHEME) {
            return Some((start, start + OPEN.len() + blanks + SCHEME.len()));
        }
        // What was passed over holds no brace but the two, and the second may open with the next.
        at = start + 1 + blanks;
    }
    None
}

/// The reference and where it ends.
fn read(content: &[u8], start: usize, target: usize) -> Result<(Reference, usize), Problem> {
    let within = content.get(target..content.len().min(start + MAX_LENGTH)).unwrap_or_default();
    let line = within.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    let length = find(line, CLOSE).ok_or(Problem::Open)?;
    let text = std::str::from_utf8(&line[..length]).map_err(|_| Problem::Encoding)?;
    let reference = text.trim_end_matches([' ', '\t']).parse()?;
    Ok((reference, target + length + CLOSE.len()))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}
