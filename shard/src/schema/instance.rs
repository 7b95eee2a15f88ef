//! The value model as `jsonschema` walks it, with a count of the steps: a schema and a content of a few kilobytes can together ask for
//! more of them than there is time in a year. Once the steps are used up every collection looks empty, so that the walk ends soon.

use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt::Write};

use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object},
};
use serde_json::Number;

use crate::format::{Map, Shown, Value};

/// What is left of the bounds of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Left {
    steps: usize,
    errors: usize,
}

thread_local! {
    // A check runs on one thread from its beginning to its end; `jsonschema` has no place for a state of ours.
    static LEFT: Cell<Left> = const { Cell::new(Left { steps: 0, errors: 0 }) };
}

/// What a message shows of a value.
const SHOWN: Shown = Shown { values: 16, characters: 200 };

/// Runs a check with so many steps and errors. Answers whether they were enough.
pub(super) fn bounded<T>(steps: usize, errors: usize, check: impl FnOnce() -> T) -> (T, bool) {
    LEFT.set(Left { steps, errors });
    let answer = check();
    let left = LEFT.replace(Left::default());
    (answer, left.steps > 0 && left.errors > 0)
}

/// Takes steps; false once they are used up.
fn take(steps: usize) -> bool {
    let mut left = LEFT.get();
    left.steps = left.steps.saturating_sub(steps);
    LEFT.set(left);
    left.steps > 0 && left.errors > 0
}

/// The value model, for `jsonschema`.
pub(super) struct Model;

impl Json for Model {
    type Node<'a> = &'a Value;
    type PreparedKey = String;
    type StringBuffer = Value;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(&Value) -> T) -> T {
        *buffer = Value::Text(string.to_owned());
        f(buffer)
    }
}

impl<'a> Node<'a, Model> for &'a Value {
    type Object = Members<'a>;
    type Array = Elements<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        let Value::Map(map) = self else { return None };
        Some(Members(take(1).then_some(map)))
    }

    fn as_array(&self) -> Option<Elements<'a>> {
        let Value::List(list) = self else { return None };
        Some(Elements(if take(1) { list } else { &[] }))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let Value::Text(text) = self else { return None };
        Some(Cow::Borrowed(if take(1 + text.len() / 16) { text } else { "" }))
    }

    fn as_number(&self) -> Option<&'a Number> {
        take(1);
        if let Value::Number(number) = self { Some(number) } else { None }
    }

    fn as_boolean(&self) -> Option<bool> {
        take(1);
        if let Value::Bool(flag) = self { Some(*flag) } else { None }
    }

    fn is_null(&self) -> bool {
        take(1);
        matches!(self, Value::Null)
    }

    fn json_type(&self) -> JsonType {
        take(1);
        match self {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::Text(_) => JsonType::String,
            Value::List(_) => JsonType::Array,
            Value::Map(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        equal(self, expected)
    }

    /// Only for messages: a short form. All comparisons are our own.
    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        take(100);
        let mut left = LEFT.get();
        left.errors = left.errors.saturating_sub(1);
        LEFT.set(left);
        Cow::Owned(self.to_json(&mut { SHOWN }))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Value>(self) as usize))
    }
}

/// Numbers are compared by what they are, not by how they are written.
fn equal(value: &Value, expected: &serde_json::Value) -> bool {
    use serde_json::Value as Expected;
    if !take(1) {
        return false;
    }
    match (value, expected) {
        (Value::Null, Expected::Null) => true,
        (Value::Bool(a), Expected::Bool(b)) => a == b,
        (Value::Number(a), Expected::Number(b)) => canonical(a) == canonical(b),
        (Value::Text(a), Expected::String(b)) => a == b,
        (Value::List(a), Expected::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Map(a), Expected::Object(b)) => {
            a.len() == b.len() && b.iter().all(|(name, b)| a.get(name).is_some_and(|a| equal(a, b)))
        }
        _ => false,
    }
}

/// A whole number without point and exponent, however it was written.
fn canonical(number: &Number) -> String {
    match number.as_f64() {
        // Below 2^53 a double holds each whole number.
        Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() < 9e15 => format!("{double:.0}"),
        _ => number.to_string(),
    }
}

/// The members of a map.
pub(super) struct Members<'a>(Option<&'a Map>);

impl<'a> Object<'a, Model> for Members<'a> {
    type Node = &'a Value;
    type MemberName = &'a str;
    type MembersIter = MembersIter<'a>;

    fn len(&self) -> usize {
        self.0.map_or(0, Map::len)
    }

    fn get(&self, key: &String) -> Option<&'a Value> {
        self.0.filter(|_| take(1))?.get(key)
    }

    fn members(&self) -> MembersIter<'a> {
        MembersIter(self.0.map(Map::iter))
    }
}

/// Steps through the members of a map.
pub(super) struct MembersIter<'a>(Option<indexmap::map::Iter<'a, String, Value>>);

impl<'a> Iterator for MembersIter<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.0.as_mut()?.next()?;
        take(1 + name.len() / 16).then_some((name.as_str(), value))
    }
}

/// The elements of a list.
pub(super) struct Elements<'a>(&'a [Value]);

impl<'a> Array<'a, Model> for Elements<'a> {
    type Node = &'a Value;
    type ElementsIter = ElementsIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> ElementsIter<'a> {
        ElementsIter(self.0.iter())
    }

    fn is_unique(&self) -> bool {
        let mut seen = HashSet::new();
        self.0.iter().all(|element| {
            let mut key = String::new();
            spell(element, &mut key);
            take(1 + key.len() / 16) && seen.insert(key)
        })
    }
}

/// Steps through the elements of a list.
pub(super) struct ElementsIter<'a>(std::slice::Iter<'a, Value>);

impl<'a> Iterator for ElementsIter<'a> {
    type Item = &'a Value;

    fn next(&mut self) -> Option<&'a Value> {
        let element = self.0.next()?;
        take(1).then_some(element)
    }
}

/// One spelling for equal values.
fn spell(value: &Value, out: &mut String) {
    // Writing to a String does not fail.
    let _ = match value {
        Value::Null => out.write_str("null"),
        Value::Bool(flag) => write!(out, "{flag}"),
        Value::Number(number) => out.write_str(&canonical(number)),
        Value::Text(text) => write!(out, "{text:?}"),
        Value::List(list) => {
            out.push('[');
            for inner in list {
                spell(inner, out);
                out.push(',');
            }
            out.write_char(']')
        }
        Value::Map(map) => {
            let mut sorted: Vec<_> = map.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, inner) in sorted {
                let _ = write!(out, "{name:?}:");
                spell(inner, out);
                out.push(',');
            }
            out.write_char('}')
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn equal_is_what_json_schema_means() {
        let equals = |a: &str, b: serde_json::Value| bounded(1_000, 10, || equal(&value(a), &b)).0;
        assert!(equals("1.0", serde_json::json!(1)));
        assert!(equals("{\"a\": [1, null], \"b\": \"x\"}", serde_json::json!({"b": "x", "a": [1, null]})));
        assert!(!equals("true", serde_json::json!(1)));
        assert!(!equals("[1]", serde_json::json!([1, 2])));
        assert!(!equals("18446744073709551615", serde_json::json!(18446744073709551614u64)));
    }

    #[test]
    fn unique_is_by_value() {
        let unique = |text: &str| bounded(1_000, 10, || (&value(text)).as_array().unwrap().is_unique()).0;
        assert!(unique("[1, \"1\", [1], {\"a\": 1}]"));
        assert!(!unique("[1, 1.0]"));
        assert!(!unique("[{\"a\": 1, \"b\": 2}, {\"b\": 2, \"a\": 1}]"));
    }

    // What ends a walk that would not end by itself.
    #[test]
    fn used_up_steps_show_nothing_more() {
        let list = value("[[1, 2], [3]]");
        let (seen, enough) = bounded(3, 10, || (&list).as_array().unwrap().elements().count());
        assert!(!enough);
        assert!(seen < 2);
        assert!(bounded(10, 10, || (&list).as_array().unwrap().elements().count()) == (2, true));
    }
}
