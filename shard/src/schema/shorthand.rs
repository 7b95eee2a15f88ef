//! The shorthand of types for flat formats, one line a key, made into a JSON Schema:
//!
//! ```text
//! # a comment
//! port: integer 1..65535
//! name: string 1..63
//! host: string /^[a-z.-]+$/
//! rate?: number 0..1        # may be missing
//! debug: boolean
//! mode: one of dev, test, prod
//! feature.*: boolean        # every key that begins with `feature.`
//! *: string                 # every other key; without this line none may be there
//!
//! [server]                  # a section of an INI file, or a map
//! port: integer 1..65535
//! ```

use serde_json::{Map, Value, json};

use super::SchemaError;
use crate::format::Place;

/// One table of keys.
#[derive(Default)]
struct Table {
    properties: Map<String, Value>,
    patterns: Map<String, Value>,
    required: Vec<Value>,
    others: Option<Value>,
}

impl Table {
    fn schema(self, sections: Map<String, Value>, other_sections: Option<Value>) -> Value {
        let mut properties = self.properties;
        let mut required = self.required;
        for (name, section) in sections {
            required.push(name.clone().into());
            properties.insert(name, section);
        }
        let others = match (self.others, other_sections) {
            (Some(keys), Some(sections)) => json!({"anyOf": [keys, sections]}),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => Value::Bool(false),
        };
        json!({
            "type": "object",
            "properties": properties,
            "patternProperties": self.patterns,
            "required": required,
            "additionalProperties": others,
        })
    }
}

/// Makes the JSON Schema.
pub(super) fn to_json_schema(text: &str) -> Result<Value, SchemaError> {
    let mut top = Table::default();
    let mut sections: Map<String, Value> = Map::new();
    let mut others = None;
    let mut open: Option<(String, Table)> = None;
    let close =
        |open: Option<(String, Table)>, sections: &mut Map<String, Value>, others: &mut Option<Value>| match open {
            Some((name, table)) if name == "*" => *others = Some(table.schema(Map::new(), None)),
            Some((name, table)) => drop(sections.insert(name, table.schema(Map::new(), None))),
            None => {}
        };
    let mut empty = true;
    for (number, raw) in text.lines().enumerate() {
        let line = Line { number: number + 1, raw };
        let Some(words) = line.words() else { continue };
        empty = false;
        if let Some(name) = words.strip_prefix('[') {
            let name = name.strip_suffix(']').map(str::trim).filter(|n| !n.is_empty());
            let name = name.ok_or_else(|| line.wrong(words, "a section is written [name]"))?;
            close(open.take(), &mut sections, &mut others);
            if sections.contains_key(name) || (name == "*" && others.is_some()) {
                return Err(line.wrong(words, format!("the section [{name}] is there twice")));
            }
            open = Some((name.to_owned(), Table::default()));
            continue;
        }
        line.key(words, open.as_mut().map_or(&mut top, |(_, table)| table))?;
    }
    close(open, &mut sections, &mut others);
    if empty {
        return Err(SchemaError::new(
            Place::default(),
            "it says nothing: write JSON Schema, or lines like `port: integer 1..65535`",
        ));
    }
    Ok(top.schema(sections, others))
}

struct Line<'t> {
    number: usize,
    raw: &'t str,
}

impl<'t> Line<'t> {
    fn wrong(&self, at: &str, message: impl Into<String>) -> SchemaError {
        let offset = (at.as_ptr() as usize).saturating_sub(self.raw.as_ptr() as usize);
        let before = self.raw.get(..offset).unwrap_or("");
        SchemaError::new(Place { line: self.number, column: before.chars().count() + 1 }, message)
    }

    /// Without comments and blanks around it; none where nothing is left.
    fn words(&self) -> Option<&'t str> {
        let comment = |(i, _): &(usize, &str)| *i == 0 || self.raw[..*i].ends_with([' ', '\t']);
        let end = self.raw.match_indices('#').find(comment).map_or(self.raw.len(), |(i, _)| i);
        Some(self.raw[..end].trim()).filter(|words| !words.is_empty())
    }

    fn key(&self, words: &'t str, table: &mut Table) -> Result<(), SchemaError> {
        let usage = "a line is `name: type`, as in `port: integer 1..65535`";
        let split = words.char_indices().find(|(i, c)| *c == ':' && words[i + 1..].starts_with([' ', '\t']));
        let (name, rest) = split
            .map(|(i, _)| (words[..i].trim_end(), words[i + 1..].trim()))
            .ok_or_else(|| self.wrong(words, usage))?;
        let (name, mut optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        if name.is_empty() || rest.is_empty() {
            return Err(self.wrong(words, usage));
        }
        let (word, bounds) = rest.split_once([' ', '\t']).map_or((rest, ""), |(w, b)| (w, b.trim()));
        let word = word.strip_suffix('?').inspect(|_| optional = true).unwrap_or(word);
        let schema = self.kind(rest, word, bounds)?;
        let twice = || self.wrong(words, format!("{name} is there twice"));
        match name.strip_suffix('*') {
            Some("") if table.others.is_some() => return Err(twice()),
            Some("") => table.others = Some(schema),
            Some(prefix) => {
                if table.patterns.insert(format!("^{}", escaped(prefix)), schema).is_some() {
                    return Err(twice());
                }
            }
            None => {
                if table.properties.insert(name.to_owned(), schema).is_some() {
                    return Err(twice());
                }
                if !optional {
                    table.required.push(name.into());
                }
            }
        }
        Ok(())
    }

    fn kind(&self, rest: &'t str, word: &str, bounds: &'t str) -> Result<Value, SchemaError> {
        let known = "a type is string, integer, number, boolean or `one of a, b`";
        match word {
            "string" if bounds.starts_with('/') => {
                let pattern = bounds[1..].strip_suffix('/').filter(|p| !p.is_empty());
                let pattern = pattern.ok_or_else(|| self.wrong(bounds, "a pattern is written /pattern/"))?;
                Ok(json!({"type": "string", "pattern": pattern}))
            }
            "string" => self.range::<u64>(json!({"type": "string"}), bounds, "minLength", "maxLength"),
            "integer" => self.range::<i64>(json!({"type": "integer"}), bounds, "minimum", "maximum"),
            "number" => self.range::<f64>(json!({"type": "number"}), bounds, "minimum", "maximum"),
            "boolean" if bounds.is_empty() => Ok(json!({"type": "boolean"})),
            "one" if bounds == "of" || bounds.starts_with("of ") => {
                let options: Vec<&str> = bounds[2..].split(',').map(str::trim).collect();
                if options.iter().any(|option| option.is_empty()) {
                    return Err(self.wrong(bounds, "the values are written `one of a, b`"));
                }
                // A structured format may hold them as numbers or truth values.
                let values = options.iter().flat_map(|text| {
                    let other = serde_json::from_str::<Value>(text).ok().filter(|v| v.is_number() || v.is_boolean());
                    [Some(Value::from(*text)), other].into_iter().flatten()
                });
                Ok(json!({"enum": values.collect::<Vec<_>>()}))
            }
            _ => Err(self.wrong(rest, known)),
        }
    }

    /// `1..5`, `1..` or `..5`; nothing: no bound.
    fn range<T>(&self, mut schema: Value, bounds: &str, low: &str, high: &str) -> Result<Value, SchemaError>
    where
        T: std::str::FromStr + PartialOrd + Copy + Into<Bound>,
    {
        if bounds.is_empty() {
            return Ok(schema);
        }
        let usage = || self.wrong(bounds, "bounds are written 1..65535, 1.. or ..65535");
        let (from, to) = bounds.split_once("..").ok_or_else(usage)?;
        let read = |text: &str| match text.trim() {
            "" => Ok(None),
            text => text.parse::<T>().map(Some).map_err(|_| usage()),
        };
        let (from, to) = (read(from)?, read(to)?);
        if from.zip(to).is_some_and(|(from, to)| from > to) || (from.is_none() && to.is_none()) {
            return Err(usage());
        }
        for (name, bound) in [(low, from), (high, to)] {
            if let Some(bound) = bound {
                schema[name] = bound.into().0.ok_or_else(usage)?;
            }
        }
        Ok(schema)
    }
}

/// A number that JSON holds; none: it holds it not.
struct Bound(Option<Value>);

impl From<u64> for Bound {
    fn from(number: u64) -> Self {
        Bound(Some(number.into()))
    }
}

impl From<i64> for Bound {
    fn from(number: i64) -> Self {
        Bound(Some(number.into()))
    }
}

impl From<f64> for Bound {
    fn from(number: f64) -> Self {
        Bound(serde_json::Number::from_f64(number).map(Value::Number))
    }
}

/// The prefix as a pattern that means just it.
fn escaped(prefix: &str) -> String {
    let mut pattern = String::new();
    for c in prefix.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '_' | '-' | ':' | '@' | '/' | ',') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_becomes_its_schema() {
        let text = "# c\nport: integer 1..65535\nname: string ..63\nhost : string /^[a-z#]+$/ # c\nrate?: number 0..\ndebug: boolean?\nmode: one of dev, 2\nf.*: boolean\na:b: string\n*: string\n";
        let schema = to_json_schema(text).unwrap();
        let expected = json!({
            "type": "object",
            "properties": {
                "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                "name": {"type": "string", "maxLength": 63},
                "host": {"type": "string", "pattern": "^[a-z#]+$"},
                "rate": {"type": "number", "minimum": 0.0},
                "debug": {"type": "boolean"},
                "mode": {"enum": ["dev", "2", 2]},
                "a:b": {"type": "string"},
            },
            "patternProperties": {"^f\\.": {"type": "boolean"}},
            "required": ["port", "name", "host", "mode", "a:b"],
            "additionalProperties": {"type": "string"},
        });
        assert_eq!(schema, expected);
    }

    #[test]
    fn sections_are_objects() {
        let schema = to_json_schema("a: string\n[s]\nb: integer\n[*]\n*: string\n").unwrap();
        assert_eq!(schema["properties"]["s"]["properties"]["b"]["type"], "integer");
        assert_eq!(schema["required"], json!(["a", "s"]));
        assert_eq!(schema["additionalProperties"]["additionalProperties"]["type"], "string");
    }

    // Whoever has a typo in a schema must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        for (text, line, column) in [
            ("port integer", 1, 1),
            ("a: string\n  port: intger", 2, 9),
            ("port: integer 5..1", 1, 15),
            ("port: integer 1-5", 1, 15),
            ("rate: number 0..inf", 1, 14),
            ("a: one of", 1, 8),
            ("a: string\na: integer", 2, 1),
            ("[s\n", 1, 1),
            ("[s]\n[s]\n", 2, 1),
            ("a: string /x", 1, 11),
            ("  # only a comment\n", 0, 0),
        ] {
            let e = to_json_schema(text).unwrap_err();
            assert_eq!((e.place.line, e.place.column), (line, column), "{text:?}: {e}");
        }
    }
}
