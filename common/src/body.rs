//! Reading JSON bodies, so that an error names the path of the field at fault, and a syntax error its line and column.
//!
//! Bodies are structs with `#[serde(deny_unknown_fields)]`: a misspelt field would otherwise silently have no effect.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::error::Category;

use crate::error::ApiError;

/// Reads a body. The field of the error is `body` for what is no JSON, else the path: `rules[1].version`.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would take the items of a list for the fields of the struct, in order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::invalid("body", "an object is expected, this is a list"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        refused(path, e.inner())
    })?;
    reader.end().map_err(|e| refused(".".into(), &e))?;
    Ok(value)
}

fn refused(path: String, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    if error.classify() != Category::Data {
        let place = format!("no valid JSON at line {}, column {}: {text}", error.line(), error.column());
        return ApiError::invalid("body", place);
    }
    let path = if path == "." { String::new() } else { path };
    // serde reports a missing field at the object that lacks it.
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        return ApiError::invalid(field, "missing");
    }
    let text = text.replacen("unknown field", "no such field", 1);
    ApiError::invalid(if path.is_empty() { "body" } else { &path }, text)
}

/// For fields where `null` means something else than absence:
/// `#[serde(default, deserialize_with = "given")] field: Option<Option<T>>` is none where it is absent, and holds none
/// where it is `null`.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::error::Code;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default, deserialize_with = "given")]
        note: Option<Option<String>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        number: std::num::NonZeroU64,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    fn field_of(body: &str) -> String {
        let error = json::<Outer>(body.as_bytes()).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{body}");
        error.details[0].field.clone()
    }

    /// Truncated JSON must say where it ends, not just that it is wrong.
    #[test]
    fn a_syntax_error_has_line_and_column() {
        let error = json::<Outer>(b"{\n  \"name\": ").unwrap_err();
        assert!(error.message.contains("line 2, column"), "{error}");
        for body in ["", "{", "{} x", r#"{"name": "a"} {}"#, "\u{1}"] {
            assert_eq!(json::<Outer>(body.as_bytes()).unwrap_err().code, Code::InvalidArgument, "{body:?}");
        }
    }

    /// A body means what it says.
    #[test]
    fn bodies_are_read_whole() {
        let body = br#"{"name": "a", "inner": [{"number": 7, "labels": {"x": "y"}}]}"#;
        let read: Outer = json(body).unwrap();
        assert_eq!((read.name.as_str(), read.inner[0].number.get()), ("a", 7));
        assert_eq!(read.inner[0].labels["x"], "y");
    }

    /// A wrong, missing or unknown field is named by its path, however deep.
    #[test]
    fn errors_name_the_path_of_the_field() {
        for (body, path) in [
            ("[1]", "body"),
            ("{}", "name"),
            (r#"{"name": 1}"#, "name"),
            (r#"{"name": "a", "nmae": 1}"#, "nmae"),
            (r#"{"name": "a", "inner": {}}"#, "inner"),
            (r#"{"name": "a", "inner": [3]}"#, "inner[0]"),
            (r#"{"name": "a", "inner": [{"number": 1}, {"number": "1"}]}"#, "inner[1].number"),
            (r#"{"name": "a", "inner": [{"number": 0}]}"#, "inner[0].number"),
            (r#"{"name": "a", "inner": [{}]}"#, "inner[0].number"),
            (r#"{"name": "a", "inner": [{"number": 1, "nubmer": 1}]}"#, "inner[0].nubmer"),
            (r#"{"name": "a", "inner": [{"number": 1, "labels": {"x": 1}}]}"#, "inner[0].labels.x"),
        ] {
            assert_eq!(field_of(body), path, "{body}");
        }
    }

    /// PATCH leaves what is absent, and clears what is null.
    #[test]
    fn null_is_not_absence_where_it_is_asked() {
        let note = |body: &str| json::<Outer>(body.as_bytes()).unwrap().note;
        assert_eq!(note(r#"{"name": "a"}"#), None);
        assert_eq!(note(r#"{"name": "a", "note": null}"#), Some(None));
        assert_eq!(note(r#"{"name": "a", "note": "b"}"#), Some(Some("b".into())));
    }
}
