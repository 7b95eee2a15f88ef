//! References of a fetched content, resolved with the caller's own credential.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use conflux_common::reference::{Expansion, Limits, Quote, Reference, Step, Text, Wanted};
use conflux_shard::format::{self, Format, Value, push_step};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    config::ConfigPath,
    get::{Asker, Fetched},
};
use crate::failure::Failure;

/// Fetches at a time.
const AT_ONCE: usize = 8;

/// A content with its references resolved.
pub struct Resolved {
    pub content: Vec<u8>,
    /// `app/env/name` -> the version that was put in place.
    pub versions: BTreeMap<String, Option<u64>>,
}

/// Fetches what the content refers to and puts it in place.
pub async fn resolve(asker: &Asker, at: &ConfigPath, fetched: &Fetched) -> anyhow::Result<Resolved> {
    let format = format_of(&at.name, fetched)?;
    let text = Text { bytes: fetched.content.clone(), quote: quote_in(format) };
    let mut expansion = Expansion::new(text, Limits::default());
    let mut referenced: BTreeMap<String, Fetched> = BTreeMap::new();
    let content = loop {
        match expansion.step().map_err(|e| refused(at, &e))? {
            Step::Done(content) => break content,
            Step::Fetch(wanted) => {
                fetch(asker, at, &wanted, &mut referenced).await?;
                for wanted in wanted {
                    let name = path_of(&wanted.reference).to_string();
                    let fetched = referenced.get(&name).context("a config that was fetched")?;
                    let text = text_of(&wanted.reference, fetched).map_err(|why| refused(at, &told(&wanted, &why)))?;
                    expansion.give(wanted.reference, text);
                }
            }
        }
    };
    if !referenced.is_empty() {
        stays_what_it_was(format, &fetched.content, &content, &expansion).map_err(|why| refused(at, &why))?;
    }
    Ok(Resolved { content, versions: referenced.into_iter().map(|(name, f)| (name, f.version())).collect() })
}

/// Fetches the configs that are wanted and not there yet, each once.
async fn fetch(
    asker: &Asker,
    at: &ConfigPath,
    wanted: &[Wanted],
    referenced: &mut BTreeMap<String, Fetched>,
) -> anyhow::Result<()> {
    let mut missing: BTreeMap<String, &Wanted> = BTreeMap::new();
    for wanted in wanted {
        let name = path_of(&wanted.reference).to_string();
        if !referenced.contains_key(&name) {
            missing.entry(name).or_insert(wanted);
        }
    }
    let fetches = missing.into_iter().map(|(name, wanted)| async move {
        let fetched = asker.fetch(&path_of(&wanted.reference)).await;
        // The service's own refusal stays what the exit code is made of.
        Ok::<_, anyhow::Error>((
            name,
            fetched.with_context(|| format!("{at}: {}", told(wanted, "it cannot be fetched")))?,
        ))
    });
    let fetched: Vec<(String, Fetched)> = stream::iter(fetches).buffered(AT_ONCE).try_collect().await?;
    referenced.extend(fetched);
    Ok(())
}

fn path_of(reference: &Reference) -> ConfigPath {
    ConfigPath { app: reference.app.to_string(), env: reference.env.to_string(), name: reference.name.to_string() }
}

/// Contents are formats by their media type and name, as where they were put.
fn format_of(name: &str, fetched: &Fetched) -> anyhow::Result<Format> {
    let media_type = fetched.header("content-type").unwrap_or_default();
    format::detect("", media_type, name, &fetched.content).map_err(|e| anyhow!("{name}: {}", e.message))
}

fn quote_in(format: Format) -> Quote {
    match format {
        Format::Json => Quote::Json,
        Format::Xml => Quote::Xml,
        Format::Yaml | Format::Toml | Format::Ini | Format::Properties | Format::KeyValue => Quote::Line,
        Format::Plaintext | Format::Binary => Quote::Plain,
    }
}

/// What a reference names: the content, or one value of it as text.
fn text_of(reference: &Reference, fetched: &Fetched) -> Result<Text, String> {
    let format = format_of(reference.name.as_str(), fetched).map_err(|e| e.to_string())?;
    let Some(pointer) = &reference.pointer else {
        return Ok(Text { bytes: fetched.content.clone(), quote: quote_in(format) });
    };
    if matches!(format, Format::Plaintext | Format::Binary) {
        return Err(format!("a {} has no values to point at: refer to the whole of it", format.name()));
    }
    let parsed = format::parse(format, &fetched.content, &format::Limits::default()).map_err(|e| e.to_string())?;
    let found = parsed.value.at(pointer);
    let text = found.ok_or_else(|| "nothing is at the pointer".to_owned()).and_then(|value| {
        scalar(value).ok_or_else(|| "what is at the pointer is a list, a map or null: point at one value".to_owned())
    })?;
    Ok(Text { bytes: text.into_bytes(), quote: Quote::Plain })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// A referenced text may hold what means something where it is put: a quote, a backslash, a comment sign. So the result is read, and must be the
/// content that was fetched, with its texts replaced and nothing else.
fn stays_what_it_was(format: Format, before: &[u8], after: &[u8], expansion: &Expansion) -> Result<(), String> {
    if matches!(format, Format::Plaintext | Format::Binary) {
        return Ok(());
    }
    let limits = format::Limits { max_bytes: Limits::default().bytes, ..format::Limits::default() };
    let read = |content| format::parse(format, content, &limits).map(|parsed| parsed.value);
    let before = read(before).map_err(|e| e.to_string())?;
    let after =
        read(after).map_err(|e| format!("with its references in place it is no {} any more: {e}", format.name()))?;
    let mut pointer = String::new();
    if same(&before, &after, &mut pointer, expansion) {
        return Ok(());
    }
    let place = if pointer.is_empty() { "the whole".to_owned() } else { pointer };
    Err(format!(
        "{place} would be read as something else than what its reference stands for: put it in quotes, or others"
    ))
}

/// Whether the one is the other with its texts replaced; else the pointer is left where they part.
fn same(before: &Value, after: &Value, pointer: &mut String, expansion: &Expansion) -> bool {
    let length = pointer.len();
    let mut inner = |step: &str, before: &Value, after: &Value| {
        push_step(pointer, step);
        let same = same(before, after, pointer, expansion);
        if same {
            pointer.truncate(length);
        }
        same
    };
    match (before, after) {
        (Value::List(before), Value::List(after)) => {
            let mut pairs = before.iter().zip(after).enumerate();
            before.len() == after.len() && pairs.all(|(i, (before, after))| inner(&i.to_string(), before, after))
        }
        (Value::Map(before), Value::Map(after)) => {
            let mut pairs = before.iter().zip(after.iter());
            before.len() == after.len()
                && pairs.all(|((name, before), (now, after))| {
                    replaced(name, expansion).as_ref() == Some(now) && inner(name, before, after)
                })
        }
        (Value::Text(text), after) => replaced(text, expansion).is_some_and(|text| scalar(after) == Some(text)),
        (before, after) => before == after,
    }
}

fn replaced(text: &str, expansion: &Expansion) -> Option<String> {
    match expansion.put_into(&Text { bytes: text.into(), quote: Quote::Plain }) {
        Ok(Step::Done(text)) => String::from_utf8(text).ok(),
        _ => None,
    }
}

fn told(wanted: &Wanted, why: &str) -> String {
    let within = wanted.within.as_ref().map_or_else(String::new, |within| format!("in {within}, "));
    format!("{within}{}: {{{{ conflux:{} }}}}: {why}", wanted.place, wanted.reference)
}

fn refused(at: &ConfigPath, why: &dyn std::fmt::Display) -> anyhow::Error {
    Failure::Usage(format!("{at}: {why}")).into()
}
