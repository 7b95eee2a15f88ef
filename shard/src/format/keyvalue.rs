//! `KEY=VALUE` lines: `.env` files, environment files of systemd and Docker, os-release, sysctl.
//!
//! Read here and not by a crate: those for `.env` files put the server's own environment in the place of `${NAME}`. Nothing is
//! replaced here. The value is one map of texts; a key twice is refused.
//!
//! ```text
//! # a comment
//! export KEY = plain text # and a comment
//! KEY2="quoted: \n \t \" \\ \$, over lines too"
//! KEY3='as it is'
//! ```

use super::{ConfigFormat, Format, Limits, Place, Shape, SyntaxError, Value, Wanted, value::Map};

/// `KEY=VALUE` lines.
pub(super) struct KeyValue;

impl ConfigFormat for KeyValue {
    fn format(&self) -> Format {
        Format::KeyValue
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["text/x-env", "application/x-env", "text/x-dotenv"]
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["env"]
    }

    fn shape(&self) -> Shape {
        Shape::FlatTexts
    }

    fn parse(&self, text: &str, _: &Limits) -> Result<Value, SyntaxError> {
        let mut map = Map::new();
        let mut lines = Lines { text, at: 0 };
        while let Some((at, key, value)) = lines.next()? {
            if map.insert(key.to_owned(), Value::Text(value)).is_some() {
                return Err(SyntaxError::at(text.as_bytes(), at, format!("the key {key} is there twice")));
            }
        }
        Ok(Value::Map(Box::new(map)))
    }

    fn locate(&self, text: &str, wanted: &mut Wanted) {
        wanted.found(Place { line: 1, column: 1 });
        let mut lines = Lines { text, at: 0 };
        while let Ok(Some((at, key, _))) = lines.next() {
            if let Some(member) = wanted.child(key) {
                member.found(Place::of(text.as_bytes(), at));
            }
        }
    }
}

struct Lines<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lines<'t> {
    /// The next key with where it stands and its value.
    fn next(&mut self) -> Result<Option<(usize, &'t str, String)>, SyntaxError> {
        loop {
            let rest = &self.text[self.at..];
            if rest.is_empty() {
                return Ok(None);
            }
            let line = rest.split('\n').next().unwrap_or("");
            let trimmed = line.trim_start_matches('\u{feff}').trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                self.at = (self.at + line.len() + 1).min(self.text.len());
                continue;
            }
            return self.pair(line).map(Some);
        }
    }

    fn pair(&mut self, line: &'t str) -> Result<(usize, &'t str, String), SyntaxError> {
        let Some((before, _)) = line.split_once('=') else {
            let indent = line.len() - line.trim_start().len();
            return Err(self.wrong(self.at + indent, "KEY=VALUE is expected"));
        };
        let key = before.trim_start_matches('\u{feff}').trim();
        let key = key.strip_prefix("export ").map_or(key, str::trim_start);
        let at = self.at + (before.trim_end().len() - key.len());
        if key.is_empty()
            || key.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '#'))
        {
            return Err(self.wrong(at, "a key has no blanks, quotes or `#`, and at least one character"));
        }
        self.at += before.len() + 1;
        let value = self.value()?;
        Ok((at, key, value))
    }

    /// The value from here to the end of its line, and steps behind it.
    fn value(&mut self) -> Result<String, SyntaxError> {
        let rest = &self.text[self.at..];
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let (start, rest) = (self.at + blanks, &rest[blanks..]);
        let (value, end) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(start, quote)?,
            _ => {
                let line = rest.split('\n').next().unwrap_or("");
                let comment =
                    if line.starts_with('#') { Some(0) } else { line.find(" #").or_else(|| line.find("\t#")) };
                let value = &line[..comment.unwrap_or(line.len())];
                (value.trim().to_owned(), start + line.len())
            }
        };
        self.at = (end + 1).min(self.text.len());
        Ok(value)
    }

    /// A quoted value, and where its line ends.
    fn quoted(&self, start: usize, quote: char) -> Result<(String, usize), SyntaxError> {
        let mut value = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        let end = loop {
            match chars.next() {
                Some((i, c)) if c == quote => break start + 1 + i + 1,
                Some((_, '\\')) if quote == '"' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, c @ ('"' | '\\' | '$' | '`'))) => value.push(c),
                    // A shell leaves the rest as it is.
                    Some((_, other)) => value.extend(['\\', other]),
                    None => return Err(self.wrong(start, "the quote is not closed")),
                },
                Some((_, c)) => value.push(c),
                None => return Err(self.wrong(start, "the quote is not closed")),
            }
        };
        let behind = self.text[end..].split('\n').next().unwrap_or("");
        if !behind.trim().is_empty() && !behind.trim_start().starts_with('#') {
            return Err(self.wrong(end, "nothing but a comment may follow the quote"));
        }
        Ok((value, end + behind.len()))
    }

    fn wrong(&self, at: usize, message: &str) -> SyntaxError {
        SyntaxError::at(self.text.as_bytes(), at, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Shown;

    const WHOLE: Shown = Shown { values: 1_000, characters: 10_000 };

    fn parse(text: &str) -> Result<Value, SyntaxError> {
        KeyValue.parse(text, &Limits::default())
    }

    #[test]
    fn lines_are_what_shells_and_containers_read() {
        let text = "# c\nA=1\r\nexport B = x y # c\nC=\"a\\n\\\"b\\\" $A \\x\"\nD='as $it \\n is'\nE=\nF=\"-----\nkey\n-----\" # c\nnet.ipv4.ip_forward = 1\nG=a#b\nH=#c";
        let expected = serde_json::json!({"A": "1", "B": "x y", "C": "a\n\"b\" $A \\x", "D": "as $it \\n is", "E": "",
            "F": "-----\nkey\n-----", "net.ipv4.ip_forward": "1", "G": "a#b", "H": ""});
        assert_eq!(parse(text).unwrap().to_json(&mut WHOLE.clone()), expected);
        assert_eq!(parse("").unwrap().to_json(&mut WHOLE.clone()), serde_json::json!({}));
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        for (text, line, column) in [
            ("A=1\n  nonsense\n", 2, 3),
            ("A=1\n=2\n", 2, 1),
            ("A B=2\n", 1, 1),
            ("A=\"x\nB=2\n", 1, 3),
            ("A='x' y\n", 1, 6),
            ("A=1\nB=2\nA=3", 3, 1),
        ] {
            let e = parse(text).unwrap_err();
            assert_eq!((e.line, e.column), (line, column), "{text:?}: {e}");
        }
    }

    // The server's environment holds secrets.
    #[test]
    fn nothing_is_replaced() {
        let read = parse("A=$HOME ${PATH} $(id)\nB=\"$HOME\"\n").unwrap();
        assert_eq!(read.to_json(&mut WHOLE.clone()), serde_json::json!({"A": "$HOME ${PATH} $(id)", "B": "$HOME"}));
    }

    // A schema violation tells where its value stands.
    #[test]
    fn values_are_found() {
        let mut wanted = Wanted::of(["/A", "/B"]);
        KeyValue.locate("A=\"x\ny\"\nexport B=2\n", &mut wanted);
        assert_eq!((wanted.place("/A").line, wanted.place("/B")), (1, Place { line: 3, column: 8 }));
    }
}
