//! What is different between two contents: as text, and by value for formats that have values.

mod text;
mod values;

pub use text::{TextDiff, text};
pub use values::{Change, Kind, MAX_CHANGES, Values, values};

use crate::format::{self, Format, Limits, Parsed, Shape};

/// A content to compare.
#[derive(Debug, Clone, Copy)]
pub struct Side<'c> {
    /// How it is called in the text's head, as `version 3`.
    pub name: &'c str,
    /// Its format.
    pub format: Format,
    /// The bytes.
    pub content: &'c [u8],
}

/// What is different.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// Line by line; none where one side is no text.
    pub text: Option<TextDiff>,
    /// By value; none where one side has no values, or is not what its format says.
    pub values: Option<Values>,
}

/// Compares two contents of at most 1 MiB. The formats may differ. Takes time and memory in proportion to their size: call it off
/// the runtime.
pub fn diff(from: Side<'_>, to: Side<'_>) -> Difference {
    let _turn = format::turn(from.content.len().max(to.content.len()));
    let by_value = || Some(values(&read(from)?.value, &read(to)?.value));
    let texts = std::str::from_utf8(from.content).ok().zip(std::str::from_utf8(to.content).ok());
    Difference { text: texts.map(|(a, b)| text((from.name, a), (to.name, b))), values: by_value() }
}

/// None where it has no values.
fn read(side: Side<'_>) -> Option<Parsed<'_>> {
    match format::of(side.format)?.shape() {
        Shape::Text | Shape::Bytes => None,
        _ => format::parse(side.format, side.content, &Limits::default()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(format: Format, content: &[u8]) -> Side<'_> {
        Side { name: "x", format, content }
    }

    // A move to another format must show what it means, not that every line is another.
    #[test]
    fn formats_with_values_are_compared_by_value() {
        let same = diff(side(Format::Json, b"{\"a\": [1, \"x\"]}"), side(Format::Yaml, b"# new\na:\n  - 1\n  - x\n"));
        assert_eq!(same.values.unwrap().changes, []);
        assert!(same.text.unwrap().text.contains("+# new"));
    }

    #[test]
    fn what_has_no_values_or_no_text_is_left_out() {
        let plain = diff(side(Format::Plaintext, b"a"), side(Format::Plaintext, b"b"));
        assert!(plain.values.is_none() && plain.text.is_some());
        let bytes = diff(side(Format::Binary, b"\xff"), side(Format::Json, b"1"));
        assert!(bytes.values.is_none() && bytes.text.is_none());
        let broken = diff(side(Format::Json, b"{"), side(Format::Json, b"{}"));
        assert!(broken.values.is_none() && broken.text.is_some());
    }
}
