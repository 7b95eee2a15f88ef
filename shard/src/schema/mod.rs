//! Schemas: what a content must be, beyond its syntax.
//!
//! A schema is a JSON Schema (2020-12, or the draft that its `$schema` names: 7 and older) or, for flat formats, the shorthand of
//! `shorthand`. It is compiled when it is set, so that a wrong one is refused then; contents are checked before they are proposed,
//! never in apply: another version of a library may judge otherwise.

mod bounds;
mod cache;
mod document;
mod instance;
mod shorthand;
mod texts;

use std::sync::Arc;

use conflux_common::error::{ApiError, Code};
use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
};

use self::instance::Model;
use crate::format::{self, Format, Limits, Parsed, Place, Shape, SyntaxError, Value, Wanted, push_step, shortened};

/// Bytes of a schema.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Violations that are told of.
pub const MAX_VIOLATIONS: usize = 100;

/// Steps that a check may take: so many, and so many for each value. A step is one look at one value.
const STEPS: usize = 1 << 19;
const STEPS_EACH: usize = 256;
/// Errors that a check may meet; of a format that holds texts, where each number is one until it is read as such.
const ERRORS: usize = 2_000;
const ERRORS_OF_TEXTS: usize = 20_000;
/// Rounds in which texts are read as what the schema asks for.
const ROUNDS: usize = 8;
/// Characters of a message.
const MAX_MESSAGE: usize = 300;

/// What is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", place.line, place.column)]
pub struct SchemaError {
    /// Where in its text.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl SchemaError {
    fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }
}

impl From<SyntaxError> for SchemaError {
    fn from(e: SyntaxError) -> Self {
        Self::new(Place { line: e.line, column: e.column }, e.message)
    }
}

impl From<SchemaError> for ApiError {
    fn from(e: SchemaError) -> Self {
        ApiError::invalid("schema", e.to_string())
    }
}

/// What in a content is against its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// A JSON pointer to the value; empty: the whole content.
    pub path: String,
    /// Where it stands in the text, or what it is in.
    pub place: Place,
    /// What is wrong with it.
    pub message: String,
}

/// A compiled schema.
pub struct Schema {
    validator: Validator<Model>,
}

/// The compiled schema of this text. Takes time in proportion to its size: call it off the runtime.
pub fn compile(text: &str) -> Result<Arc<Schema>, SchemaError> {
    cache::compiled(text)
}

impl Schema {
    fn compile(text: &str) -> Result<Self, SchemaError> {
        if text.len() > MAX_SCHEMA_BYTES {
            let message = format!("{} bytes, more than {MAX_SCHEMA_BYTES}", text.len());
            return Err(SchemaError::new(Place::default(), message));
        }
        let validator = if is_json_schema(text) {
            document::compile(text)?
        } else {
            let made = shorthand::to_json_schema(text)?;
            // Only a pattern can be wrong here.
            document::build(&made).map_err(|(_, message)| SchemaError::new(Place::default(), message))?
        };
        Ok(Self { validator })
    }

    /// Everything in the content that is against it, at most [`MAX_VIOLATIONS`], by place.
    pub fn check(&self, parsed: &Parsed<'_>) -> Vec<Violation> {
        let texts = matches!(shape(parsed.format), Shape::StructuredTexts | Shape::FlatTexts);
        let steps = STEPS + STEPS_EACH * count(&parsed.value);
        let errors = if texts { ERRORS_OF_TEXTS } else { ERRORS };
        let (mut found, enough) = instance::bounded(steps, errors, || {
            if texts { self.read_and_check(parsed.value.clone()) } else { self.violations(&parsed.value) }
        });
        if !enough {
            let message = "the check was ended: it takes too many steps, or there are too many errors; perhaps the schema is too much";
            found.insert(0, Violation { path: String::new(), place: Place::default(), message: message.into() });
        }
        locate(parsed, found)
    }

    /// For formats that hold texts only.
    fn read_and_check(&self, mut value: Value) -> Vec<Violation> {
        for _ in 0..ROUNDS {
            let errors: Vec<ValidationError<'static>> =
                self.validator.iter_errors(&value).map(ValidationError::to_owned).collect();
            if !texts::read_all_as_asked(&mut value, &errors) {
                break;
            }
        }
        self.violations(&value)
    }

    fn violations(&self, value: &Value) -> Vec<Violation> {
        let mut found = Vec::new();
        for error in self.validator.iter_errors(value) {
            if found.len() > MAX_VIOLATIONS {
                break;
            }
            told(&error, &mut found);
        }
        found
    }
}

/// Whether the text is a JSON Schema and not the shorthand, of which no line begins so.
fn is_json_schema(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('{') || matches!(text, "true" | "false")
}

fn shape(format: Format) -> Shape {
    format::of(format).map_or(Shape::Bytes, |f| f.shape())
}

fn count(value: &Value) -> usize {
    match value {
        Value::List(list) => 1 + list.iter().map(count).sum::<usize>(),
        Value::Map(map) => 1 + map.values().map(count).sum::<usize>(),
        Value::Text(text) => 1 + text.len() / 64,
        _ => 1,
    }
}

/// An error as violations: each member that may not be there is one of its own.
fn told(error: &ValidationError<'_>, found: &mut Vec<Violation>) {
    let path = error.instance_path().as_str().to_owned();
    let mut tell = |path: String, message: String| {
        found.push(Violation { path, place: Place::default(), message: shortened(&message, MAX_MESSAGE) })
    };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected.iter().take(MAX_VIOLATIONS) {
                let mut path = path.clone();
                push_step(&mut path, name);
                tell(path, "the schema has no such member".into());
            }
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let closest = context.iter().filter(|branch| !is_other_type(branch, &path)).flatten();
            match closest.max_by_key(|inner| inner.instance_path().as_str().len()) {
                Some(inner) => tell(path, format!("{error}; the closest: {}: {inner}", inner.instance_path().as_str())),
                None => tell(path, error.to_string()),
            }
        }
        ValidationErrorKind::FalseSchema => tell(path, "the schema allows nothing here".into()),
        _ => tell(path, error.to_string()),
    }
}

/// Whether the branch is for another type of value altogether.
fn is_other_type(branch: &[ValidationError<'static>], path: &str) -> bool {
    branch.iter().any(|e| {
        let of_type =
            matches!(e.kind(), ValidationErrorKind::Type { kind: TypeKind::Single(_) | TypeKind::Multiple(_) });
        of_type && e.instance_path().as_str() == path
    })
}

/// The first of them, by place.
fn locate(parsed: &Parsed<'_>, mut found: Vec<Violation>) -> Vec<Violation> {
    found.truncate(MAX_VIOLATIONS);
    if found.is_empty() {
        return found;
    }
    let mut wanted = Wanted::of(found.iter().map(|v| v.path.as_str()));
    parsed.locate(&mut wanted);
    for violation in &mut found {
        violation.place = wanted.place(&violation.path);
    }
    found.sort_by_key(|v| v.place);
    found
}

/// The violations of a content; one where its syntax is wrong. An empty schema is none. Takes time and memory in proportion to
/// its size, and a large content waits for its turn: call it off the runtime.
pub fn violations(format: Format, content: &[u8], schema: &str) -> Result<Vec<Violation>, SchemaError> {
    let syntax = |e: SyntaxError| {
        let place = Place { line: e.line, column: e.column };
        Ok(vec![Violation { path: String::new(), place, message: e.message }])
    };
    let limits = Limits::default();
    if schema.trim().is_empty() {
        return format::check(format, content, &limits).map_or_else(syntax, |()| Ok(Vec::new()));
    }
    let schema = compile(schema)?;
    if shape(format) == Shape::Bytes {
        let message =
            format!("{} has no values that a schema could check: name another format, or no schema", format.name());
        return Ok(vec![Violation { path: String::new(), place: Place::default(), message }]);
    }
    let _turn = format::turn(content.len());
    match format::parse(format, content, &limits) {
        Ok(parsed) => Ok(schema.check(&parsed)),
        Err(e) => syntax(e),
    }
}

/// Checks the syntax of a content and, where there is a schema (not empty), that it is what the schema asks for. The error has
/// every violation, its field the JSON pointer. Blocks: see [`violations`].
pub fn check_content(format: Format, content: &[u8], schema: &str) -> Result<(), ApiError> {
    if schema.trim().is_empty() {
        return Ok(format::check(format, content, &Limits::default())?);
    }
    let found = violations(format, content, schema)?;
    refusal(&found).map_or(Ok(()), Err)
}

/// INVALID_ARGUMENT with every violation; none where there is none.
pub fn refusal(found: &[Violation]) -> Option<ApiError> {
    let field = |v: &Violation| if v.path.is_empty() { "content".to_owned() } else { v.path.clone() };
    let described = |v: &Violation| match v.place.line {
        0 => v.message.clone(),
        line => format!("line {line}, column {}: {}", v.place.column, v.message),
    };
    let first = found.first()?;
    let more = match found.len() {
        1 => String::new(),
        n => format!(" (and {} more, see details)", n - 1),
    };
    let message = format!("the content does not fit: {}: {}{more}", field(first), described(first));
    let error = ApiError::new(Code::InvalidArgument, message);
    Some(found.iter().fold(error, |error, v| error.with_detail(field(v), described(v))))
}

/// Refuses a schema that does not compile, with its place at the field `schema`. An empty one is none.
pub fn check_schema(schema: &str) -> Result<(), ApiError> {
    if !schema.trim().is_empty() {
        compile(schema)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
