//! A JSON Schema as it is sent: read, bounded, compiled; every error with its place in the text.

use std::sync::Arc;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use parking_lot::Mutex;
use serde_json::Value;

use super::{SchemaError, bounds, instance::Model};
use crate::format::{self, Format, Limits, Wanted, push_step};

/// Bytes that all compiled patterns of a schema may take together, and each at least and at most.
const PATTERN_BYTES: usize = 8 << 20;
const ONE_PATTERN: std::ops::RangeInclusive<usize> = (16 << 10)..=(1 << 20);
/// Patterns of a schema.
const MAX_PATTERNS: usize = 256;

/// Compiles a JSON Schema: of the draft that its `$schema` names, else 2020-12.
pub(super) fn compile(text: &str) -> Result<Validator<Model>, SchemaError> {
    // Our own reader knows of names that are there twice, and of depth.
    format::parse(Format::Json, text.as_bytes(), &Limits { max_depth: 64, ..Limits::default() })?;
    let document: Value = serde_json::from_str(text)
        .map_err(|e| SchemaError::new(format::Place { line: e.line(), column: e.column() }, e.to_string()))?;
    build(&document).map_err(|(pointer, message)| located(text, &pointer, message))
}

/// Compiles a document; an error has the pointer into it.
pub(super) fn build(document: &Value) -> Result<Validator<Model>, (String, String)> {
    let patterns = bounds::check(document).map_err(|e| (e.pointer, e.message))?;
    if patterns > MAX_PATTERNS {
        return Err((String::new(), format!("{patterns} patterns, more than {MAX_PATTERNS}")));
    }
    let size = (PATTERN_BYTES / patterns.max(1)).clamp(*ONE_PATTERN.start(), *ONE_PATTERN.end());
    let offline = Offline::default();
    let options = jsonschema::options_for::<Model>()
        .with_retriever(offline.clone())
        .with_pattern_options(PatternOptions::regex().size_limit(size).dfa_size_limit(256 << 10));
    options.build(document).map_err(|e| {
        let message = e.to_string();
        let missing = message.strip_prefix("Resource '").and_then(|rest| rest.split('\'').next()).map(str::to_owned);
        match offline.asked.lock().take().or(missing) {
            Some(uri) => {
                let pointer = reference(document, &uri).unwrap_or_default();
                let cure = "put it below `$defs` with its `$id`";
                (pointer, format!("{uri} is not in this schema, and nothing is ever fetched: {cure}"))
            }
            None => (e.instance_path().as_str().to_owned(), message),
        }
    })
}

fn located(text: &str, pointer: &str, message: String) -> SchemaError {
    let mut wanted = Wanted::of([pointer]);
    if let Some(json) = format::of(Format::Json) {
        json.locate(text, &mut wanted);
    }
    let message = format::shortened(&message, 300);
    let message = if pointer.is_empty() { message } else { format!("at {pointer}: {message}") };
    SchemaError::new(wanted.place(pointer), message)
}

/// Where the document refers to this, or to something that ends like it.
fn reference(document: &Value, uri: &str) -> Option<String> {
    fn seek(node: &Value, uri: &str, pointer: &mut String) -> bool {
        let length = pointer.len();
        let members: Vec<(String, &Value)> = match node {
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
            Value::Array(list) => list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
            _ => return false,
        };
        members.into_iter().any(|(name, value)| {
            push_step(pointer, &name);
            let means = |text: &str| {
                let base = text.split('#').next().unwrap_or("");
                !base.is_empty() && uri.ends_with(base.trim_start_matches(['.', '/']))
            };
            let here = matches!(name.as_str(), "$ref" | "$schema" | "$dynamicRef" | "$recursiveRef");
            if (here && value.as_str().is_some_and(means)) || seek(value, uri, pointer) {
                return true;
            }
            pointer.truncate(length);
            false
        })
    }
    let mut pointer = String::new();
    seek(document, uri, &mut pointer).then_some(pointer)
}

/// Refuses to fetch anything, and remembers what was asked for.
#[derive(Clone, Default)]
struct Offline {
    asked: Arc<Mutex<Option<String>>>,
}

impl Retrieve for Offline {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.lock().get_or_insert_with(|| uri.as_str().to_owned());
        Err("nothing is fetched".into())
    }
}
