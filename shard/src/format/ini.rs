//! INI files and their relatives: sections of `key = value` lines (php.ini, my.cnf, systemd units, git's and Python's files).
//!
//! The value is a map of the keys before the first section and of the sections, each a map. All values are texts, without the one
//! pair of quotes around them; a key without `=` is null. A key or section that is there several times is a list: systemd and
//! WireGuard mean it so. A line that ends in `\`, and lines that stand deeper than their key, go on. Comments are whole
//! lines that begin with `;` or `#`.

use std::iter::Peekable;

use indexmap::map::Entry;
use ini_roundtrip::{Item, Parser};

use super::{ConfigFormat, Format, Limits, Place, Shape, SyntaxError, Value, Wanted, value::Map};

/// INI.
pub(super) struct Ini;

impl ConfigFormat for Ini {
    fn format(&self) -> Format {
        Format::Ini
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["text/ini", "text/x-ini", "application/ini", "application/x-ini", "application/textedit"]
    }

    fn extensions(&self) -> &'static [&'static str] {
        &[
            "ini",
            "cnf",
            "desktop",
            "service",
            "socket",
            "timer",
            "mount",
            "automount",
            "target",
            "path",
            "slice",
            "scope",
            "network",
            "netdev",
            "link",
            "nspawn",
        ]
    }

    fn shape(&self) -> Shape {
        Shape::StructuredTexts
    }

    fn parse(&self, text: &str, _: &Limits) -> Result<Value, SyntaxError> {
        let mut top = Map::new();
        let mut section: Option<(String, Map)> = None;
        walk(text, |step| match step {
            Step::Section { name, .. } => {
                if let Some((name, keys)) = section.replace((name, Map::new())) {
                    put(&mut top, name, Value::Map(Box::new(keys)));
                }
            }
            Step::Key { name, value, .. } => put(section.as_mut().map_or(&mut top, |(_, keys)| keys), name, value),
        })?;
        if let Some((name, keys)) = section {
            put(&mut top, name, Value::Map(Box::new(keys)));
        }
        Ok(Value::Map(Box::new(top)))
    }

    fn locate(&self, text: &str, wanted: &mut Wanted) {
        wanted.found(Place { line: 1, column: 1 });
        let mut counts: indexmap::IndexMap<Vec<String>, usize> = indexmap::IndexMap::new();
        let mut section: Vec<(String, usize)> = Vec::new();
        let mut number = |path: Vec<String>| {
            let count = counts.entry(path).or_default();
            *count += 1;
            *count - 1
        };
        // A text that was read before: it has no error.
        let _ = walk(text, |step| {
            let at = match step {
                Step::Section { name, at } => {
                    section = vec![(name.clone(), number(vec![name]))];
                    found(wanted, &section, Place::of(text.as_bytes(), at));
                    return;
                }
                Step::Key { name, at, .. } => {
                    let mut path: Vec<String> = section.iter().flat_map(|(s, n)| [s.clone(), n.to_string()]).collect();
                    path.push(name.clone());
                    let nth = number(path);
                    section.push((name, nth));
                    at
                }
            };
            found(wanted, &section, Place::of(text.as_bytes(), at));
            section.pop();
        });
    }
}

/// The pointer of what is there several times has a number: both are tried.
fn found(wanted: &mut Wanted, path: &[(String, usize)], place: Place) {
    let Some(((name, number), rest)) = path.split_first() else {
        wanted.found(place);
        return;
    };
    let Some(member) = wanted.child(name) else { return };
    if let Some(element) = member.child(&number.to_string()) {
        found(element, rest, place);
    }
    if *number == 0 {
        found(member, rest, place);
    }
}

fn put(members: &mut Map, name: String, value: Value) {
    match members.entry(name) {
        Entry::Vacant(free) => {
            free.insert(value);
        }
        Entry::Occupied(mut there) => match there.get_mut() {
            Value::List(list) => list.push(value),
            one => {
                let first = std::mem::replace(one, Value::Null);
                *one = Value::List(vec![first, value]);
            }
        },
    }
}

enum Step {
    Section { name: String, at: usize },
    Key { name: String, value: Value, at: usize },
}

fn walk(text: &str, mut each: impl FnMut(Step)) -> Result<(), SyntaxError> {
    let start = usize::from(text.starts_with('\u{feff}')) * '\u{feff}'.len_utf8();
    let at = |raw: &str| (raw.as_ptr() as usize) - (text.as_ptr() as usize);
    let mut items = Parser::new(&text[start..]).peekable();
    while let Some(item) = items.next() {
        let wrong = |raw: &str, message: &str| Err(SyntaxError::at(text.as_bytes(), at(raw) + indent(raw), message));
        match item {
            Item::Error(raw) => match section(raw) {
                Some(name) => each(Step::Section { name: name.to_owned(), at: at(raw) }),
                None => return wrong(raw, "a section ends with `]`"),
            },
            Item::Section { name, raw } => each(Step::Section { name: name.to_owned(), at: at(raw) }),
            Item::Property { raw, .. } if raw.trim_start().starts_with([';', '#']) => {}
            Item::Property { raw, .. } if raw.trim_start().starts_with('[') => match section(raw) {
                Some(name) => each(Step::Section { name: name.to_owned(), at: at(raw) + indent(raw) }),
                None => return wrong(raw, "a section ends with `]`"),
            },
            Item::Property { key: "", raw, .. } => return wrong(raw, "a key is missing before `=`"),
            Item::Property { key, val, raw } => {
                let value = match val {
                    Some(first) => Value::Text(whole(first, indent(raw), &mut items)),
                    None => Value::Null,
                };
                each(Step::Key { name: key.to_owned(), value, at: at(raw) + indent(raw) });
            }
            Item::SectionEnd | Item::Comment { .. } | Item::Blank { .. } => {}
        }
    }
    Ok(())
}

/// The name in `[name]`, perhaps with blanks around it or a comment behind it.
fn section(raw: &str) -> Option<&str> {
    let (name, behind) = raw.trim().strip_prefix('[')?.rsplit_once(']')?;
    let behind = behind.trim_start();
    (behind.is_empty() || behind.starts_with([';', '#'])).then(|| name.trim())
}

/// The value with the lines that go on with it.
fn whole<'t>(first: &str, key_indent: usize, items: &mut Peekable<Parser<'t>>) -> String {
    let mut value = first.to_owned();
    let mut escaped = strip_continuation(&mut value);
    while let Some(item) = items.peek() {
        let raw = match *item {
            Item::Property { raw, .. } | Item::Comment { raw } | Item::Error(raw) | Item::Section { raw, .. } => raw,
            Item::Blank { raw } if escaped => raw,
            // The parser says it before each section, even one that goes on with a value.
            Item::SectionEnd | Item::Blank { .. } => break,
        };
        let comment = raw.trim_start().starts_with([';', '#']);
        // systemd leaves out comments between lines that go on.
        if !escaped && (comment || indent(raw) <= key_indent) {
            break;
        }
        if !comment {
            value.push(if escaped { ' ' } else { '\n' });
            value.push_str(raw.trim());
            escaped = strip_continuation(&mut value);
        }
        items.next();
    }
    unquoted(value.trim()).to_owned()
}

/// Whether the line goes on: then without its `\`.
fn strip_continuation(value: &mut String) -> bool {
    let goes_on = value.ends_with('\\') && !value.ends_with("\\\\");
    if goes_on {
        value.pop();
        value.truncate(value.trim_end().len());
    }
    goes_on
}

/// Without the quotes, where one pair encloses all of it.
fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote).filter(|inner| !inner.contains(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn indent(raw: &str) -> usize {
    raw.len() - raw.trim_start_matches([' ', '\t']).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Shown;

    const WHOLE: Shown = Shown { values: 1_000, characters: 10_000 };

    fn parse(text: &str) -> Result<Value, SyntaxError> {
        Ini.parse(text, &Limits::default())
    }

    fn shown(text: &str) -> serde_json::Value {
        parse(text).unwrap().to_json(&mut WHOLE.clone())
    }

    #[test]
    fn sections_hold_texts() {
        let text = "a = 1\n; c\n[s]\nb=\"x = y\" \n  # c\n skip\n[ t ] ; c\nd=\nu=C:\\dir\\\\\n";
        let expected =
            serde_json::json!({"a": "1", "s": {"b": "x = y", "skip": null}, "t": {"d": "", "u": "C:\\dir\\\\"}});
        assert_eq!(shown(text), expected);
    }

    // systemd means each ExecStartPre, WireGuard each Peer.
    #[test]
    fn what_is_there_several_times_is_a_list() {
        let text = "[Service]\nExecStartPre=a\nExecStartPre=b\n[Peer]\nk=1\n[Peer]\nk=2\n";
        let expected = serde_json::json!({"Service": {"ExecStartPre": ["a", "b"]}, "Peer": [{"k": "1"}, {"k": "2"}]});
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn values_go_on_over_lines() {
        let systemd = "[s]\nExecStart=/bin/x \\\n  --a=1 \\\n# c\n  --b\nNext=1\n";
        assert_eq!(shown(systemd), serde_json::json!({"s": {"ExecStart": "/bin/x --a=1 --b", "Next": "1"}}));
        let python = "[options]\nrequires =\n  a==1\n  b\nname = x\n";
        assert_eq!(shown(python), serde_json::json!({"options": {"requires": "a==1\nb", "name": "x"}}));
        let git = "[user]\n\tname = A\n\temail = a@b\n";
        assert_eq!(shown(git), serde_json::json!({"user": {"name": "A", "email": "a@b"}}));
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        for (text, line, column) in [("a=1\n[s\nb=1", 2, 1), ("[s]\n  = 2", 2, 3), ("[s] x\n", 1, 1)] {
            let e = parse(text).unwrap_err();
            assert_eq!((e.line, e.column), (line, column), "{text:?}: {e}");
        }
    }

    // A schema violation tells where its value stands.
    #[test]
    fn values_are_found() {
        let text = "a=1\n[s]\nb=1\n  c=2\n[p]\nk=1\n[p]\nk=2\nk=3\n";
        let mut wanted = Wanted::of(["/a", "/s/b", "/p/1/k/1", "/p/0/k", "/p/1"]);
        Ini.locate(text, &mut wanted);
        let place = |pointer| (wanted.place(pointer).line, wanted.place(pointer).column);
        assert_eq!((place("/a"), place("/s/b"), place("/p/0/k")), ((1, 1), (3, 1), (6, 1)));
        assert_eq!((place("/p/1/k/1"), place("/p/1")), ((9, 1), (7, 1)));
    }
}
