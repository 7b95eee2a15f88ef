//! Reads settings: a TOML file, then the environment, then flags; each wins over the one before.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    Validate,
    error::{Origin, SettingsError},
    given::Given,
};

/// Reads settings of any shape: `file` < environment < `overrides`. Defaults are the type's own.
///
/// * Environment: `<prefix>__RAFT__HEARTBEAT_MS=200` sets `raft.heartbeat_ms`.
/// * Overrides: `("raft.heartbeat_ms", "200")`, as flags give them. A number addresses an element of a list that is there:
///   `founders.0.raft_address`.
/// * A value of these two is TOML (`200`, `true`, `["a", "b"]`), else, or where a text is wanted, text.
///
/// Nothing is validated beyond its kind; see [`load_valid`].
pub fn load<T: DeserializeOwned>(
    file: &Path,
    env_prefix: &str,
    overrides: &[(String, String)],
) -> Result<T, SettingsError> {
    load_with(file, env_prefix, std::env::vars_os().filter_map(unicode), overrides)
}

/// [`load`], then everything that [`Validate`] finds, at once.
pub fn load_valid<T: DeserializeOwned + Validate>(
    file: &Path,
    env_prefix: &str,
    overrides: &[(String, String)],
) -> Result<T, SettingsError> {
    let settings: T = load(file, env_prefix, overrides)?;
    let problems = settings.problems();
    if problems.is_empty() {
        return Ok(settings);
    }
    Err(SettingsError::Invalid { file: file.to_owned(), problems })
}

/// What is not Unicode cannot be one of ours.
fn unicode((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// [`load`] with the environment given.
pub(super) fn load_with<T: DeserializeOwned>(
    file: &Path,
    env_prefix: &str,
    environment: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<T, SettingsError> {
    let text =
        fs::read_to_string(file).map_err(|source| SettingsError::Unreadable { file: file.to_owned(), source })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Syntax {
        file: file.to_owned(),
        line: error.span().map_or(1, |span| line(&text, span.start)),
        message: error.message().to_owned(),
    })?;
    let mut given: Vec<Given> = environment.filter_map(|pair| Given::from_environment(env_prefix, pair)).collect();
    // The order of the environment is not the operator's; a whole comes before its parts.
    given.sort_by(|a, b| a.path.cmp(&b.path));
    given.extend(overrides.iter().map(Given::from_flag));
    let mut whole = Value::Table(table);
    for value in &given {
        value.put(&mut whole, value.parsed())?;
    }
    decode(whole, &given, file, &text)
}

/// Decodes; where a text is wanted and a variable or flag looked like a number, its text is taken.
fn decode<T: DeserializeOwned>(mut whole: Value, given: &[Given], file: &Path, text: &str) -> Result<T, SettingsError> {
    let mut retold: Vec<String> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(whole.clone()) {
            Ok(settings) => return Ok(settings),
            Err(error) => error,
        };
        let path = dotted(error.path());
        let source = given.iter().rev().find(|value| covers(&value.path, &path));
        if let Some(value) = source.filter(|value| value.path.join(".") == path && !retold.contains(&path))
            && !matches!(value.parsed(), Value::String(_))
        {
            value.put(&mut whole, value.literal())?;
            // Only if that helps; else the first complaint is the useful one.
            let again = serde_path_to_error::deserialize::<_, T>(whole.clone());
            if again.as_ref().err().is_none_or(|again| dotted(again.path()) != path) {
                retold.push(path);
                continue;
            }
        }
        let from = match source {
            Some(value) => value.from.clone(),
            None => Origin::File(file.to_owned(), line_of(text, &path)),
        };
        return Err(SettingsError::Field { from, path, message: error.inner().message().trim().to_owned() });
    }
}

/// Whether the value at `outer` holds the field at `path`.
fn covers(outer: &[String], path: &str) -> bool {
    let outer = outer.join(".");
    path == outer || path.strip_prefix(&outer).is_some_and(|rest| rest.starts_with('.'))
}

/// serde's path with dots only: `founders.0.member`.
fn dotted(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let parts: Vec<String> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        })
        .collect();
    if parts.is_empty() { ".".into() } else { parts.join(".") }
}

/// The line of the field, or of the nearest whole that the file has.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut parts = path.split('.');
    let (key, value) = root.get_ref().get_key_value(parts.next()?)?;
    let mut at = value;
    found = found.or(Some(key.span().start));
    for part in parts {
        let next = match at.get_ref() {
            DeValue::Table(table) => table.get_key_value(part).map(|(key, value)| (key.span().start, value)),
            DeValue::Array(list) => {
                part.parse::<usize>().ok().and_then(|index| list.get(index)).map(|value| (value.span().start, value))
            }
            _ => None,
        };
        let Some((start, value)) = next else { break };
        found = Some(start);
        at = value;
    }
    found.map(|start| line(text, start))
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
