//! Reading JSON bodies, so that an error names the field at fault, and a syntax error its line and column.

use std::sync::Arc;

use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    labels::Labels,
    release::{MAX_RULES, Percentage, ReleaseRule},
};
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::call::Call;
use crate::shard::Shard;

/// Bytes of a JSON body: a content of 1 MiB in base64, and the rest.
pub const MAX_JSON: usize = 3 << 19;

/// Larger ones are read off the runtime.
const PARSE_INLINE: usize = 64 << 10;

/// A body with its place in the budget of this replica.
pub struct Collected {
    /// The bytes.
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Reads a body of at most `max` bytes within the caller's time.
pub async fn collect(
    shard: &Arc<Shard>,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
    max: usize,
) -> Result<Collected, ApiError> {
    let too_large = || ApiError::too_large(format!("the body has more than {max} bytes"));
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if declared.is_some_and(|length: usize| length > max) {
        return Err(too_large());
    }
    let room = shard.room_for(declared.unwrap_or(max))?;
    let late = |_| ApiError::new(Code::DeadlineExceeded, "the body did not arrive before the deadline");
    match timeout(call.left()?, Limited::new(body, max).collect()).await.map_err(late)? {
        Ok(whole) => Ok(Collected { bytes: whole.to_bytes(), _room: room }),
        Err(e) if e.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Err(_) => Err(ApiError::invalid("body", "it ended early")),
    }
}

/// A JSON object of which each field must be taken: what is left is unknown, and refused.
#[derive(Debug)]
pub struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a body; a large one off the runtime.
    pub async fn read(body: &Collected) -> Result<Self, ApiError> {
        if body.bytes.len() <= PARSE_INLINE {
            return Self::parse(&body.bytes);
        }
        let bytes = body.bytes.clone();
        let task = tokio::task::spawn_blocking(move || Self::parse(&bytes));
        task.await.map_err(|e| ApiError::new(Code::Internal, format!("reading the body failed: {e}")))?
    }

    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|e| {
            ApiError::invalid("body", format!("no valid JSON at line {}, column {}: {e}", e.line(), e.column()))
        })?;
        Self::of(String::new(), value)
    }

    fn of(path: String, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => {
                let field = if path.is_empty() { "body".to_owned() } else { path };
                Err(ApiError::invalid(field, format!("an object is expected, this is {}", kind(&other))))
            }
        }
    }

    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A text; none where it is missing or null.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", &other)),
        }
    }

    /// A text that must be there.
    pub fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.text(name)?.ok_or_else(|| ApiError::invalid(self.at(name), "missing"))
    }

    /// A list of texts; empty where it is missing.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, ApiError> {
        let Some(list) = self.list(name)? else { return Ok(Vec::new()) };
        let text = |(i, value): (usize, Value)| match value {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(&format!("{name}[{i}]"), "a text", &other)),
        };
        list.into_iter().enumerate().map(text).collect()
    }

    fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(name, "a list", &other)),
        }
    }

    fn integer(&mut self, name: &str, min: i64, max: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_i64().filter(|n| (min..=max).contains(n)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, &format!("a whole number from {min} to {max}"), &value)),
        }
    }

    /// `content` as text or `content_base64`; exactly one of them.
    pub fn content(&mut self) -> Result<Bytes, ApiError> {
        let missing = ApiError::invalid(self.at("content"), "missing: send `content` (text) or `content_base64`");
        self.optional_content()?.ok_or(missing)
    }

    /// The same, or neither.
    pub fn optional_content(&mut self) -> Result<Option<Bytes>, ApiError> {
        match (self.text("content")?, self.text("content_base64")?) {
            (Some(text), None) => Ok(Some(Bytes::from(text))),
            (None, Some(encoded)) => STANDARD
                .decode(encoded)
                .map(|bytes| Some(Bytes::from(bytes)))
                .map_err(|e| ApiError::invalid(self.at("content_base64"), format!("no valid base64: {e}"))),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(ApiError::invalid(self.at("content"), "send only one of `content` and `content_base64`"))
            }
        }
    }

    /// `rules`, which must be there.
    pub fn rules(&mut self) -> Result<Vec<ReleaseRule>, ApiError> {
        let Some(list) = self.list("rules")? else { return Err(ApiError::invalid(self.at("rules"), "missing")) };
        if list.len() > MAX_RULES {
            return Err(ApiError::invalid(self.at("rules"), format!("at most {MAX_RULES} rules on a config")));
        }
        let rule = |(i, value)| Self::of(self.at(&format!("rules[{i}]")), value).and_then(rule);
        list.into_iter().enumerate().map(rule).collect()
    }

    fn object(&mut self, name: &str) -> Result<Option<Fields>, ApiError> {
        self.take(name).map(|value| Self::of(self.at(name), value)).transpose()
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> ApiError {
        ApiError::invalid(self.at(name), format!("{expected} is expected, this is {}", kind(found)))
    }

    /// Refuses what was not taken: a misspelt field must not be silently without effect.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(ApiError::invalid(self.at(name), "no such field")),
        }
    }
}

fn rule(mut fields: Fields) -> Result<ReleaseRule, ApiError> {
    let missing = ApiError::invalid(fields.at("version"), "missing: the number of a version");
    let version = fields.integer("version", 1, i64::MAX)?.ok_or(missing)?;
    let priority = fields.integer("priority", i64::from(i32::MIN), i64::from(i32::MAX))?.unwrap_or(0);
    let labels = fields.object("labels")?.map(labels).transpose()?.unwrap_or_default();
    let percentage = fields.object("percentage")?.map(percentage).transpose()?;
    fields.finish()?;
    // Both were bounded above.
    Ok(ReleaseRule {
        labels,
        version: version.unsigned_abs(),
        priority: i32::try_from(priority).unwrap_or(0),
        percentage,
    })
}

fn labels(mut fields: Fields) -> Result<Labels, ApiError> {
    let names: Vec<String> = fields.map.keys().cloned().collect();
    let pairs = names.into_iter().map(|name| {
        let value = fields.required(&name)?;
        Ok((name, value))
    });
    let pairs: Vec<(String, String)> = pairs.collect::<Result<_, ApiError>>()?;
    // `labels` below its path in the body.
    let prefix = fields.path.clone();
    Labels::new(pairs).map_err(|e| match e.details.first() {
        Some(d) => ApiError::invalid(d.field.replacen("labels", &prefix, 1), d.description.clone()),
        None => e,
    })
}

fn percentage(mut fields: Fields) -> Result<Percentage, ApiError> {
    let missing = ApiError::invalid(fields.at("basis_points"), "missing: hundredths of a percent");
    let basis_points = fields.integer("basis_points", 0, 10_000)?.ok_or(missing)?;
    let sticky_label = fields.required("sticky_label")?;
    fields.finish()?;
    Ok(Percentage { basis_points: u32::try_from(basis_points).unwrap_or(0), sticky_label })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(error: ApiError) -> String {
        assert_eq!(error.code, Code::InvalidArgument);
        error.details[0].field.clone()
    }

    /// Truncated JSON must say where it ends, not just that it is wrong.
    #[test]
    fn a_syntax_error_has_line_and_column() {
        let error = Fields::parse(b"{\n  \"app\": ").unwrap_err();
        assert!(error.message.contains("line 2, column"), "{error}");
        assert_eq!(field_of(Fields::parse(b"[1]").unwrap_err()), "body");
    }

    /// A wrong or unknown field is named by its path, however deep.
    #[test]
    fn errors_name_the_path_of_the_field() {
        let rules = |body: &str| Fields::parse(body.as_bytes()).unwrap().rules();
        let cases = [
            (r#"{"rules": [{"version": 1}, {"version": "1"}]}"#, "rules[1].version"),
            (r#"{"rules": [{"version": 1, "priorty": 1}]}"#, "rules[0].priorty"),
            (r#"{"rules": [{"version": 1, "labels": {"a": 1}}]}"#, "rules[0].labels.a"),
            (r#"{"rules": [{"version": 1, "labels": {"a b": "1"}}]}"#, "rules[0].labels"),
            (r#"{"rules": [{"version": 0}]}"#, "rules[0].version"),
            (
                r#"{"rules": [{"version": 1, "percentage": {"basis_points": 10001}}]}"#,
                "rules[0].percentage.basis_points",
            ),
            (r#"{"rules": [3]}"#, "rules[0]"),
            (r#"{"rules": {}}"#, "rules"),
            (r#"{}"#, "rules"),
        ];
        for (body, path) in cases {
            assert_eq!(field_of(rules(body).unwrap_err()), path, "{body}");
        }
    }

    /// A rule means what it says.
    #[test]
    fn rules_are_read_whole() {
        let body = br#"{"rules": [{"version": 2, "priority": -1, "labels": {"Region": "eu"},
            "percentage": {"basis_points": 500, "sticky_label": "client"}}]}"#;
        let mut fields = Fields::parse(body).unwrap();
        let rules = fields.rules().unwrap();
        fields.finish().unwrap();
        assert_eq!((rules[0].version, rules[0].priority), (2, -1));
        assert_eq!(rules[0].labels.get("region"), Some("eu"));
        assert_eq!(rules[0].percentage.as_ref().unwrap().basis_points, 500);
    }

    /// Text and base64 give the same bytes; both or none is a mistake that must not be guessed away.
    #[test]
    fn a_content_is_text_or_base64() {
        let content = |body: &str| Fields::parse(body.as_bytes()).unwrap().content();
        assert_eq!(content(r#"{"content": "a: 1"}"#).unwrap(), content(r#"{"content_base64": "YTogMQ=="}"#).unwrap());
        assert_eq!(field_of(content(r#"{"content_base64": "%"}"#).unwrap_err()), "content_base64");
        assert!(content("{}").is_err());
        assert!(content(r#"{"content": "a", "content_base64": "YQ=="}"#).is_err());
    }

    /// A misspelt field would otherwise have no effect without anyone noticing.
    #[test]
    fn unknown_fields_are_refused() {
        let mut fields = Fields::parse(br#"{"app": "a", "evn": "b"}"#).unwrap();
        fields.required("app").unwrap();
        assert_eq!(field_of(fields.finish().unwrap_err()), "evn");
    }
}
