//! The one model that every format with values is read to: that of JSON, with maps in the order of the text.

use indexmap::IndexMap;
use serde_json::Number;

/// The members of a map, in the order of the text, each name once.
pub type Map = IndexMap<String, Value>;

/// What a content means.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number of 64 bits, with or without a sign, or a finite double. Numbers beyond them are doubles; infinities
    /// and NaN are texts (`.inf`, `-.inf`, `.nan`), since no schema could compare them.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map. Boxed: most values are none.
    Map(Box<Map>),
}

impl Value {
    /// A double, or its name where it is not finite.
    pub fn float(number: f64) -> Value {
        match Number::from_f64(number) {
            Some(number) => Value::Number(number),
            None if number.is_nan() => Value::Text(".nan".into()),
            None if number > 0.0 => Value::Text(".inf".into()),
            None => Value::Text("-.inf".into()),
        }
    }

    /// The value at a JSON pointer (RFC 6901).
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        steps(pointer).try_fold(self, |value, step| match value {
            Value::Map(map) => map.get(&step),
            Value::List(list) => list.get(index(&step)?),
            _ => None,
        })
    }

    /// The same, to change it.
    pub fn at_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        steps(pointer).try_fold(self, |value, step| match value {
            Value::Map(map) => map.get_mut(&step),
            Value::List(list) => list.get_mut(index(&step)?),
            _ => None,
        })
    }

    /// Whether it holds more than `max` collections within one another. The recursion ends at the bound.
    #[cfg(feature = "toml")]
    pub(super) fn deeper_than(&self, max: usize) -> bool {
        match self {
            Value::Map(map) => max == 0 || map.values().any(|inner| inner.deeper_than(max - 1)),
            Value::List(list) => max == 0 || list.iter().any(|inner| inner.deeper_than(max - 1)),
            _ => false,
        }
    }

    /// As JSON, for messages and answers: as much as there is room for, and `..` for the rest.
    pub fn to_json(&self, room: &mut Shown) -> serde_json::Value {
        room.values = room.values.saturating_sub(1);
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::Text(text) => room.text(text).into(),
            Value::List(list) => {
                let mut shown = Vec::new();
                for inner in list {
                    if room.values == 0 {
                        shown.push("..".into());
                        break;
                    }
                    shown.push(inner.to_json(room));
                }
                shown.into()
            }
            Value::Map(map) => {
                let mut shown = serde_json::Map::new();
                for (name, inner) in map.iter() {
                    if room.values == 0 {
                        shown.insert("..".into(), serde_json::Value::Null);
                        break;
                    }
                    shown.insert(room.text(name), inner.to_json(room));
                }
                shown.into()
            }
        }
    }
}

/// How much of values is shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// So many values.
    pub values: usize,
    /// So many characters of texts and names.
    pub characters: usize,
}

impl Shown {
    fn text(&mut self, text: &str) -> String {
        let shown = shortened(text, self.characters);
        self.characters -= shown.chars().count().min(self.characters);
        shown
    }
}

/// The text, or its beginning and `..`.
pub fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

/// The unescaped steps of a pointer; none for the root.
pub fn steps(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// A pointer's next step, escaped.
pub fn push_step(pointer: &mut String, step: &str) {
    pointer.push('/');
    for c in step.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

fn index(step: &str) -> Option<usize> {
    let canonical = step == "0" || !step.starts_with(['0', '+']);
    step.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Value {
        let list = Value::List(vec![Value::Null, Value::Text("x".into())]);
        Value::Map(Box::new(Map::from([("a/b~".to_owned(), list)])))
    }

    #[test]
    fn pointers_find_their_value() {
        let mut pointer = String::new();
        push_step(&mut pointer, "a/b~");
        push_step(&mut pointer, "1");
        assert_eq!(pointer, "/a~1b~0/1");
        assert_eq!(sample().at(&pointer), Some(&Value::Text("x".into())));
        assert_eq!(sample().at(""), Some(&sample()));
        for none in ["/a", "/a~1b~0/01", "/a~1b~0/+1", "/a~1b~0/2", "/a~1b~0/1/x"] {
            assert_eq!(sample().at(none), None, "{none}");
        }
    }

    // JSON has no infinity: a schema of numbers must not let one pass.
    #[test]
    fn numbers_that_are_none_are_texts() {
        assert_eq!(Value::float(f64::NEG_INFINITY), Value::Text("-.inf".into()));
        assert_eq!(Value::float(f64::NAN), Value::Text(".nan".into()));
        assert!(matches!(Value::float(0.5), Value::Number(_)));
    }

    // What is shown in an error must not be as long as what is wrong.
    #[test]
    fn what_is_shown_is_bounded() {
        let long = Value::List(vec![Value::Text("y".repeat(10_000)); 1_000]);
        assert!(long.to_json(&mut Shown { values: 10, characters: 100 }).to_string().len() < 300);
    }
}
