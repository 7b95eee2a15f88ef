//! Java properties, as `java.util.Properties` reads them, but in UTF-8 (Java 9 does so too). The value is one map of texts; of a name
//! that is there twice the last counts, as the specification says.

use java_properties::{LineContent, PropertiesIter};

use super::{ConfigFormat, Format, Limits, Place, Shape, SyntaxError, Value, Wanted, value::Map};

/// Java properties.
pub(super) struct Properties;

impl ConfigFormat for Properties {
    fn format(&self) -> Format {
        Format::Properties
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["text/x-java-properties", "text/x-properties", "application/x-java-properties"]
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["properties"]
    }

    fn shape(&self) -> Shape {
        Shape::FlatTexts
    }

    fn parse(&self, text: &str, _: &Limits) -> Result<Value, SyntaxError> {
        let mut map = Map::new();
        walk(text, |_, name, value| {
            map.insert(name, Value::Text(value));
        })?;
        Ok(Value::Map(Box::new(map)))
    }

    fn locate(&self, text: &str, wanted: &mut Wanted) {
        wanted.found(Place { line: 1, column: 1 });
        let mut last = indexmap::IndexMap::new();
        // A text that was read before: it has no error.
        let _ = walk(text, |line, name, _| {
            last.insert(name, line);
        });
        for (name, line) in last {
            if let Some(member) = wanted.child(&name) {
                let indented = natural_line(text, line);
                let column = indented.chars().count() - indented.trim_start().chars().count() + 1;
                member.found(Place { line, column });
            }
        }
    }
}

/// Bytes of a line with those that go on with it: the parser matches it as a whole, which takes microseconds a byte.
const MAX_LINE: usize = 64 << 10;

fn walk(text: &str, mut each: impl FnMut(usize, String, String)) -> Result<(), SyntaxError> {
    if let Some(at) = too_long(text) {
        return Err(SyntaxError::at(text.as_bytes(), at, format!("a line has at most {MAX_LINE} bytes")));
    }
    for line in PropertiesIter::new_with_encoding(text.as_bytes(), encoding_rs::UTF_8) {
        match line {
            Ok(line) => {
                let number = line.line_number();
                if let LineContent::KVPair(name, value) = line.consume_content() {
                    each(number, name, value);
                }
            }
            Err(e) => {
                let number = e.line_number().unwrap_or(0);
                let line = natural_line(text, number);
                // The parser looks for escapes in comments too: `# C:\users` is none.
                if line.trim_start().starts_with(['#', '!']) {
                    continue;
                }
                let column = line.find('\\').map_or(1, |at| line[..at].chars().count() + 1);
                return Err(SyntaxError::new(number, column, e.to_string()));
            }
        }
    }
    Ok(())
}

/// Where a line begins that is too long; none: nowhere. Of a line that is, no more is looked at than it may have.
fn too_long(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let window = &bytes[at..bytes.len().min(start + MAX_LINE + 1)];
        let Some(found) = window.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
            return (bytes.len() - start > MAX_LINE).then_some(start);
        };
        let words = &window[..found];
        let goes_on = words.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1;
        at += found + 1;
        // `\r\n` ends one line.
        if window[found] == b'\r' && bytes.get(at) == Some(&b'\n') {
            at += 1;
        }
        if at - start > MAX_LINE {
            return Some(start);
        }
        if !goes_on {
            start = at;
        }
    }
    None
}

/// The line of this number, from 1; lines end with `\n`, `\r` or both.
fn natural_line(text: &str, number: usize) -> &str {
    let mut rest = text;
    for _ in 1..number {
        let Some(end) = rest.find(['\n', '\r']) else { return "" };
        rest = &rest[end + if rest[end..].starts_with("\r\n") { 2 } else { 1 }..];
    }
    rest.split(['\n', '\r']).next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Shown;

    const WHOLE: Shown = Shown { values: 1_000, characters: 10_000 };

    fn parse(text: &str) -> Result<Value, SyntaxError> {
        Properties.parse(text, &Limits::default())
    }

    #[test]
    fn names_and_values_are_those_of_java() {
        let text = "# C:\\users\n! c\na=1\nb : 2\nc 3\nd\\ e=x\\u00e4\\\n   y\nempty\na.b=ä\na=last\n";
        let expected = serde_json::json!({"a": "last", "b": "2", "c": "3", "d e": "xäy", "empty": "", "a.b": "ä"});
        assert_eq!(parse(text).unwrap().to_json(&mut WHOLE.clone()), expected);
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        let e = parse("a=1\r\n# \\u\r\nb=\\u12x4\r\n").unwrap_err();
        assert_eq!((e.line, e.column), (3, 3), "{e}");
    }

    // One line of a mebibyte would keep the parser for seconds.
    #[test]
    fn lines_are_bounded() {
        let long = |n: usize| format!("a={}\nb=1\n", "x".repeat(n));
        assert!(parse(&long(60_000)).is_ok());
        assert_eq!(parse(&format!("c=1\n{}", long(70_000))).unwrap_err().line, 2);
        assert!(parse(&"a=\\\r\n".repeat(20_000)).is_err());
        assert!(parse(&"a\\\\=1\n".repeat(20_000)).is_ok());
    }

    // A schema violation tells where its value stands.
    #[test]
    fn values_are_found() {
        let mut wanted = Wanted::of(["/a", "/b.c"]);
        Properties.locate("a=1\nx=\\\n  y\n  b.c=2\na=3\n", &mut wanted);
        assert_eq!((wanted.place("/a").line, wanted.place("/b.c")), (5, Place { line: 4, column: 3 }));
    }
}
