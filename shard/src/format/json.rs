//! JSON: RFC 8259, bounded in depth; a name twice in an object is refused, since readers differ in which of them they take.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{ConfigFormat, Format, Limits, Place, Shape, SyntaxError, Value, Wanted, value::Map};

/// RFC 8259.
pub(super) struct Json;

impl ConfigFormat for Json {
    fn format(&self) -> Format {
        Format::Json
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["application/json", "text/json"]
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn shape(&self) -> Shape {
        Shape::Structured
    }

    fn parse(&self, text: &str, limits: &Limits) -> Result<Value, SyntaxError> {
        if let Some(offset) = too_deep(text.as_bytes(), limits.max_depth) {
            let message = format!("more than {} collections within one another", limits.max_depth);
            return Err(SyntaxError::at(text.as_bytes(), offset, message));
        }
        serde_json::from_str::<Value>(text).map_err(|e| {
            let whole = e.to_string();
            // The position is told apart from the message.
            let message = whole.split(" at line ").next().unwrap_or(&whole);
            SyntaxError::new(e.line(), e.column(), message)
        })
    }

    fn locate(&self, text: &str, wanted: &mut Wanted) {
        let mut cursor = Cursor { text, at: 0 };
        cursor.blanks();
        wanted.found(cursor.place());
        cursor.value(Some(wanted));
    }
}

/// Any serde format with the data model of JSON; the text's depth was checked before.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Build)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = sequence.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                let name = super::value::shortened(&name, 64);
                return Err(A::Error::custom(format_args!("the name {name:?} is there twice")));
            }
            let value = members.next_value()?;
            map.insert(name, value);
        }
        Ok(Value::Map(Box::new(map)))
    }
}

/// Walks a text that is known to be JSON.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl Cursor<'_> {
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn place(&self) -> Place {
        Place::of(self.text.as_bytes(), self.at)
    }

    fn blanks(&mut self) {
        while matches!(self.byte(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    /// Steps over the value here; `wanted` is what is sought in it.
    fn value(&mut self, wanted: Option<&mut Wanted>) {
        match (self.byte(), wanted.filter(|w| !w.is_leaf())) {
            (b'{', Some(wanted)) => self.members(|cursor, i| cursor.member(i, wanted)),
            (b'[', Some(wanted)) => self.members(|cursor, i| {
                let mut element = wanted.child(&i.to_string());
                if let Some(element) = &mut element {
                    element.found(cursor.place());
                }
                cursor.value(element);
            }),
            (b'{' | b'[', None) => self.members(|cursor, _| {
                cursor.value(None);
                cursor.blanks();
                if cursor.byte() == b':' {
                    cursor.at += 1;
                    cursor.blanks();
                    cursor.value(None);
                }
            }),
            (b'"', _) => self.string(),
            _ => {
                while !matches!(self.byte(), 0 | b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r') {
                    self.at += 1;
                }
            }
        }
    }

    /// The elements of the collection that begins here.
    fn members(&mut self, mut each: impl FnMut(&mut Self, usize)) {
        self.at += 1;
        for i in 0.. {
            self.blanks();
            if matches!(self.byte(), b']' | b'}' | 0) {
                break;
            }
            each(self, i);
            self.blanks();
            if self.byte() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn member(&mut self, _: usize, wanted: &mut Wanted) {
        let (start, place_of) = (self.at, self.at);
        self.string();
        // An escape makes one name of many spellings.
        let name: String = serde_json::from_str(&self.text[start..self.at]).unwrap_or_default();
        self.blanks();
        self.at += 1;
        self.blanks();
        let mut member = wanted.child(&name);
        if let Some(member) = &mut member {
            member.found(Place::of(self.text.as_bytes(), place_of));
        }
        self.value(member);
    }

    fn string(&mut self) {
        self.at += 1;
        loop {
            match self.byte() {
                b'"' | 0 => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at = (self.at + 1).min(self.text.len());
    }
}

/// Where the nesting first exceeds the bound.
fn too_deep(text: &[u8], max: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (i, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return Some(i);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> SyntaxError {
        Json.parse(text, &Limits::default()).unwrap_err()
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        let e = error("{\n  \"a\": 1,\n  \"b\" 2\n}");
        assert_eq!((e.line, e.column), (3, 7), "{e}");
        assert!(!e.message.contains("at line"), "{e}");
        assert!(error("{\"a\": 1").message.contains("EOF"));
        assert!(error("").line <= 1);
        assert!(Json.parse("{} {}", &Limits::default()).is_err());
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_are_not_depth() {
        let nested = |n| "[".repeat(n) + &"]".repeat(n);
        assert!(Json.parse(&nested(64), &Limits::default()).is_ok());
        assert_eq!(error(&nested(65)).column, 65);
        assert!(error(&nested(100_000)).message.contains("within one another"));
        let text = format!("{{\"a\\\"{}\": 1}}", "[".repeat(100));
        assert!(Json.parse(&text, &Limits::default()).is_ok());
    }

    // A number that no double holds cannot be compared by a schema, and most readers would refuse it.
    #[test]
    fn numbers_are_whole_or_doubles() {
        let numbers = |text| Json.parse(text, &Limits::default());
        let Value::List(read) = numbers("[18446744073709551615, -5, 123456789012345678901234567890, -0.1]").unwrap()
        else {
            panic!("a list")
        };
        assert_eq!(read[0], Value::Number(u64::MAX.into()));
        assert_eq!(read[2], Value::float(123456789012345678901234567890.0));
        assert!(numbers("[1e999]").is_err());
        assert!(Json.parse("[01]", &Limits::default()).is_err());
        assert!(Json.parse("NaN", &Limits::default()).is_err());
    }

    // Two readers would see two configurations, and a schema only one of them.
    #[test]
    fn a_name_twice_is_refused() {
        let e = error("{\"a\": 1,\n \"b\": {\"x\": 1, \"\\u0078\": 2}}");
        assert_eq!(e.line, 2, "{e}");
        assert!(e.message.contains("\"x\" is there twice"), "{e}");
    }

    // A schema violation tells where its value stands, however the name is written.
    #[test]
    fn values_are_found() {
        let text = "{\"a\": [1, {\"b\\u0020c\": \"x,}\"},\n  {\"d\": 5}],\n \"e\": {}}";
        let mut wanted = Wanted::of(["/a/1/d", "/a/0", "/e", "/a/1/nowhere"]);
        let moved = text.replace("[1, {", "[{");
        Json.locate(&moved, &mut wanted);
        let place = |pointer| (wanted.place(pointer).line, wanted.place(pointer).column);
        assert_eq!((place("/a/1/d"), place("/a/0"), place("/e")), ((2, 4), (1, 8), (3, 2)));
        assert_eq!(place("/a/1/nowhere"), (2, 3), "the nearest above");
        let mut wanted = Wanted::of(["/a/1/b c"]);
        Json.locate(text, &mut wanted);
        assert_eq!(wanted.place("/a/1/b c"), Place { line: 1, column: 12 });
    }
}
