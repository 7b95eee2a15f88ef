//! Formats that hold texts only: a text is read as the type that the schema asks for where it stands.
//!
//! The schema itself says what it asks for: the first check is made with all texts, and where it says "not an integer" of a text
//! that is one, the text becomes one. What then comes up (a bound, a branch that now applies) is seen by the next check.

use jsonschema::{
    JsonType, ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Number;

use crate::format::Value;

/// Reads as asked for what these errors speak of. Answers whether anything was read otherwise than before.
pub(super) fn read_all_as_asked(value: &mut Value, errors: &[ValidationError<'_>]) -> bool {
    let mut changed = false;
    for error in errors {
        changed |= read_as_asked(value, error);
    }
    changed
}

/// The same for one of them.
fn read_as_asked(value: &mut Value, error: &ValidationError<'_>) -> bool {
    let pointer = error.instance_path().as_str();
    let mut change = |read: &dyn Fn(&Value) -> Option<Value>| match value.at_mut(pointer) {
        Some(there) => match read(there) {
            Some(other) => {
                *there = other;
                true
            }
            None => false,
        },
        None => false,
    };
    match error.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Single(asked) } => change(&|there| as_type(there, *asked)),
        ValidationErrorKind::Type { kind: TypeKind::Multiple(asked) } => {
            change(&|there| asked.iter().find_map(|asked| as_type(there, asked)))
        }
        ValidationErrorKind::Enum { options } => {
            change(&|there| options.as_array()?.iter().find_map(|option| as_option(there, option)))
        }
        ValidationErrorKind::Constant { expected_value } => change(&|there| as_option(there, expected_value)),
        // The branches tell where they failed from the root of the value, as the error itself does.
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            // Each branch asks for something else: the first of which anything can be had.
            context.iter().any(|branch| read_all_as_asked(value, branch))
        }
        _ => false,
    }
}

fn as_type(there: &Value, asked: JsonType) -> Option<Value> {
    match (there, asked) {
        (Value::Text(text), JsonType::Integer) => {
            let number = text.trim();
            let whole = number.parse::<i64>().map(Number::from).or_else(|_| number.parse::<u64>().map(Number::from));
            whole.ok().filter(|_| !number.starts_with('+')).map(Value::Number)
        }
        (Value::Text(text), JsonType::Number) => serde_json::from_str::<Number>(text.trim()).ok().map(Value::Number),
        (Value::Text(text), JsonType::Boolean) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(Value::Bool(true)),
            "false" | "no" | "off" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        (Value::Text(text), JsonType::Null) if text.is_empty() => Some(Value::Null),
        (Value::Text(text), JsonType::Object) if text.is_empty() => Some(Value::Map(Box::default())),
        // A key without a value is a flag that is set.
        (Value::Null, JsonType::Boolean) => Some(Value::Bool(true)),
        (Value::Null, JsonType::String) => Some(Value::Text(String::new())),
        // What is there once may be the only one of several.
        (Value::Text(_) | Value::Map(_), JsonType::Array) => Some(Value::List(vec![there.clone()])),
        _ => None,
    }
}

/// The text as the number or truth value that is written like it.
fn as_option(there: &Value, option: &serde_json::Value) -> Option<Value> {
    let Value::Text(text) = there else { return None };
    match option {
        serde_json::Value::Number(number) if number.to_string() == text.trim() => Some(Value::Number(number.clone())),
        serde_json::Value::Bool(flag) => as_type(there, JsonType::Boolean).filter(|read| *read == Value::Bool(*flag)),
        _ => None,
    }
}
