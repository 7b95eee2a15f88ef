//! YAML as libyaml reads it, bounded in depth and in what aliases expand to.
//!
//! An alias is followed as often as it is met, and what it brings is counted while the value is built, so that a bomb ends
//! early. `flow` and `block` look at the text before libyaml does: it keeps every event in memory, and takes time in proportion
//! to depth.
//!
//! Merge keys (`<<`) are merged, tags are dropped, names that are no texts become their text, several documents are a list.

mod block;
mod breaks;
mod flow;
mod locate;
mod tag;

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

use self::tag::Tag;
use super::{
    ConfigFormat, Format, Limits, Place, Shape, SyntaxError, Value, Wanted,
    value::{Map, shortened},
};

/// YAML 1.1 and 1.2.
pub(super) struct Yaml;

impl ConfigFormat for Yaml {
    fn format(&self) -> Format {
        Format::Yaml
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/vnd.yaml"]
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["yaml", "yml"]
    }

    fn shape(&self) -> Shape {
        Shape::Structured
    }

    fn parse(&self, text: &str, limits: &Limits) -> Result<Value, SyntaxError> {
        parse(text, limits)
    }

    fn locate(&self, text: &str, wanted: &mut Wanted) {
        locate::locate(text, wanted);
        wanted.each_place(&|place| breaks::shown(text, place));
    }
}

/// Nodes that aliases may add to what the text itself can hold (one byte a node).
const ALIAS_NODES: usize = 1 << 15;
/// Times that the text may be read over by aliases to long scalars.
const ALIAS_BYTES: usize = 8;

/// Aliases in a text: libyaml keeps each of them before the walk begins. In texts and comments they count too.
const MAX_ALIASES: usize = 1 << 14;

/// Open brackets with which libyaml is still quick. Above `Limits::max_depth`, which the walk checks exactly, since brackets
/// in texts and comments count here too where they never close.
const MAX_OPEN: usize = 256;

fn parse(text: &str, limits: &Limits) -> Result<Value, SyntaxError> {
    if let Some(offset) = flow::too_deep(text.as_bytes(), MAX_OPEN) {
        let message = format!("more than {MAX_OPEN} brackets that are not closed: too deep, or too many in texts");
        return Err(SyntaxError::at(text.as_bytes(), offset, message));
    }
    if let Some(offset) = block::too_deep(text.as_bytes(), MAX_OPEN) {
        let message = format!("more than {MAX_OPEN} blocks within one another");
        return Err(SyntaxError::at(text.as_bytes(), offset, message));
    }
    if let Some(offset) = block::too_many_aliases(text.as_bytes(), MAX_ALIASES) {
        return Err(SyntaxError::at(text.as_bytes(), offset, format!("more than {MAX_ALIASES} aliases")));
    }
    let budget = Budget {
        max_depth: limits.max_depth,
        nodes: Cell::new(limits.max_nodes.min(text.len() + ALIAS_NODES)),
        bytes: Cell::new(text.len() * ALIAS_BYTES + (1 << 16)),
    };
    let mut documents = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        documents.push(Node { budget: &budget, depth: 0 }.deserialize(document).map_err(|e| located(text, &e))?);
    }
    Ok(match documents.len() {
        0 => Value::Null,
        1 => documents.remove(0),
        _ => Value::List(documents),
    })
}

fn located(text: &str, e: &serde_yaml_ng::Error) -> SyntaxError {
    let told = e.location().map_or(Place::default(), |l| Place { line: l.line(), column: l.column() });
    let Place { line, column } = breaks::shown(text, told);
    let whole = e.to_string();
    let message = whole.split(" at line ").next().unwrap_or(&whole);
    // It begins with the path of keys, which the text decides: only the end of a long one is told.
    let cut = message.char_indices().rev().nth(200).map_or(0, |(i, _)| i);
    SyntaxError::new(line, column, if cut == 0 { message.to_owned() } else { format!("..{}", &message[cut..]) })
}

/// What is left of the bounds.
struct Budget {
    max_depth: usize,
    nodes: Cell<usize>,
    bytes: Cell<usize>,
}

impl Budget {
    fn take<E: Error>(&self, scalar_bytes: usize) -> Result<(), E> {
        let left = self.nodes.get().checked_sub(1).zip(self.bytes.get().checked_sub(scalar_bytes));
        let (nodes, bytes) = left.ok_or_else(|| E::custom("its aliases expand to too much"))?;
        self.nodes.set(nodes);
        self.bytes.set(bytes);
        Ok(())
    }
}

/// A node to build.
#[derive(Clone, Copy)]
struct Node<'b> {
    budget: &'b Budget,
    depth: usize,
}

impl<'b> Node<'b> {
    fn inner<E: Error>(self) -> Result<Node<'b>, E> {
        if self.depth >= self.budget.max_depth {
            let max = self.budget.max_depth;
            return Err(E::custom(format!("more than {max} collections within one another")));
        }
        Ok(Node { depth: self.depth + 1, ..self })
    }

    fn scalar<E: Error>(self, value: Value) -> Result<Value, E> {
        self.budget.take(0)?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
        self.scalar(Value::Bool(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.scalar(Value::Number(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.scalar(Value::Number(number.into()))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Value, E> {
        self.scalar(Value::float(number as f64))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Value, E> {
        self.scalar(Value::float(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        self.scalar(Value::float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.budget.take(text.len())?;
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        self.budget.take(0)?;
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(value) = sequence.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.budget.take(0)?;
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(Name(name)) = members.next_key_seed(Scalar(inner))? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("the key {:?} is there twice", shortened(&name, 64))));
            }
            let value = members.next_value_seed(inner)?;
            map.insert(name, value);
        }
        Ok(Value::Map(Box::new(merged(map))))
    }

    /// A tagged node.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (_, value) = tagged.variant::<Tag>()?;
        value.newtype_variant_seed(self.inner()?)
    }
}

/// What `<<` names is there where the map has no member of that name; of several, the first wins.
fn merged(mut map: Map) -> Map {
    let all_maps = |list: &[Value]| list.iter().all(|one| matches!(one, Value::Map(_)));
    let bases = match map.get("<<") {
        Some(Value::Map(_)) => map.shift_remove("<<").into_iter().collect(),
        Some(Value::List(list)) if all_maps(list) => match map.shift_remove("<<") {
            Some(Value::List(list)) => list,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    for base in bases {
        if let Value::Map(base) = base {
            for (name, value) in *base {
                map.entry(name).or_insert(value);
            }
        }
    }
    map
}

/// The name of a member.
struct Name(String);

/// A name to read: a scalar, since no reader of configuration can address another. Whatever it is, its text counts: a pointer
/// could not tell `1` from `"1"`.
struct Scalar<'b>(Node<'b>);

impl<'de> DeserializeSeed<'de> for Scalar<'_> {
    type Value = Name;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! names {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: Error>(self, name: $type) -> Result<Name, E> {
            self.0.budget.take(0)?;
            Ok(Name(name.to_string()))
        })*
    };
}

impl<'de> Visitor<'de> for Scalar<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, number or truth value as key")
    }

    names!(visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64);

    fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
        self.0.budget.take(name.len())?;
        Ok(Name(name.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Name, E> {
        self.0.budget.take(0)?;
        Ok(Name("null".into()))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Name, A::Error> {
        let (_, value) = tagged.variant::<Tag>()?;
        let inner = self.0.inner()?;
        value.newtype_variant_seed(Scalar(inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Shown;

    const WHOLE: Shown = Shown { values: 1_000, characters: 10_000 };

    fn passes(text: &str) -> bool {
        parse(text, &Limits::default()).is_ok()
    }

    fn error(text: &str) -> SyntaxError {
        parse(text, &Limits::default()).unwrap_err()
    }

    #[test]
    fn what_people_write_passes() {
        for good in [
            "",
            "a: 1\nb: [1, 2, {c: d}]\n",
            "on: push\n1: a\ntrue: b\nnull: c\n",
            "base: &base {a: 1}\nother:\n  <<: *base\n  b: 2\n",
            "x: !Ref thing\ny: !!str 1\n",
            "script: |\n  if [[ -f x ]]; then echo 'it''s [' ; fi\n  # [ {\n",
            "a: 1\n---\nb: 2\n",
            "big: 340282366920938463463374607431768211455\nfloat: .inf\n",
        ] {
            assert!(passes(good), "{good:?}: {:?}", parse(good, &Limits::default()));
        }
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        assert_eq!(error("a: 1\nb: [1, 2\nc: 3\n").line, 3);
        assert_eq!(error("a: 1\n b: 2\n").line, 2);
        assert!(error("a: 1\na: 2\n").message.contains("twice"));
        assert_eq!(error("# \u{85}\nb: [1, 2\nc: 3\n").line, 3, "lines of an editor");
        assert!(!passes("a: *nowhere\n"));
        assert!(!passes("? [a, b]\n: c\n"));
        assert!(!passes("\"a"));
        assert!(error(&format!("{}: {{a: 1, a: 2}}", "k".repeat(100_000))).message.len() < 300);
    }

    // Attack 18: a few hundred bytes that mean a billion nodes.
    #[test]
    fn alias_bombs_are_refused() {
        let mut lists = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            lists += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","));
        }
        assert!(error(&lists).message.contains("aliases"));
        let mut maps = String::from("a0: &a0 {x: 1, y: 2, z: 3}\n");
        for i in 1..20 {
            maps += &format!("a{i}: &a{i} {{x: *a{0}, y: *a{0}, z: *a{0}}}\n", i - 1);
        }
        assert!(error(&maps).message.contains("aliases"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 10_000].join(","));
        assert!(error(&long).message.contains("aliases"));
        let keys = format!("a: &a {}\n{}", "x".repeat(100_000), "- {*a : 1}\n".repeat(2_000));
        assert!(!passes(&keys));
        assert!(error(&format!("a: &a x\nb: [{}]\n", vec!["*a"; 20_000].join(","))).message.contains("aliases"));
    }

    // An alias that is used as people use it is no bomb.
    #[test]
    fn honest_aliases_pass() {
        let text = format!("base: &b {{a: 1, b: 2, c: 3}}\nall: [{}]\n", vec!["*b"; 1_000].join(", "));
        assert!(passes(&text), "{:?}", parse(&text, &Limits::default()));
    }

    #[test]
    fn depth_is_bounded_in_both_styles() {
        let flow = |n| "[".repeat(n) + &"]".repeat(n);
        let block = |n: usize| (0..n).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>();
        assert!(passes(&flow(60)));
        assert!(passes(&block(60)));
        for n in [65, 70, 127, 255, 257, 10_000] {
            error(&flow(n));
            error(&block(n.min(1_000)));
        }
        error(&"[".repeat(1 << 20));
        error(&"- ".repeat(1 << 19));
        error(&"{a: ".repeat(1 << 18));
        error(&"[\"]\",".repeat(150_000));
        error(&"? ".repeat(1 << 19));
        error(&"- ? ".repeat(1 << 18));
    }

    fn value(text: &str) -> Value {
        parse(text, &Limits::default()).unwrap()
    }

    // What a schema is asked of must be what an application reads.
    #[test]
    fn values_are_what_applications_read() {
        let shown = |text: &str| value(text).to_json(&mut WHOLE.clone()).to_string();
        assert_eq!(shown("a: 1\nb: [true, no, ~, 0x1f, 1.5, '1']\n"), r#"{"a":1,"b":[true,"no",null,31,1.5,"1"]}"#);
        assert_eq!(shown("1: a\ntrue: b\n"), r#"{"1":"a","true":"b"}"#);
        assert_eq!(shown("x: !Ref thing\ny: !!str 1\n"), r#"{"x":"thing","y":"1"}"#);
        assert_eq!(shown("x: -.inf\n"), r#"{"x":"-.inf"}"#);
        assert_eq!(shown(""), "null");
        assert_eq!(shown("a: 1\n---\nb: 2\n"), r#"[{"a":1},{"b":2}]"#);
        assert!(!passes("1: a\n\"1\": b\n"), "one pointer for two values");
    }

    // `<<` is in half of the YAML that people write for containers.
    #[test]
    fn merge_keys_are_merged() {
        let text = "b: &b {x: 1, y: 2}\nc: &c {y: 3, z: 4}\nd:\n  <<: [*b, *c]\n  x: 0\ne:\n  <<: text\n";
        let read = value(text);
        let number = |pointer| read.at(pointer).map(|v| v.to_json(&mut WHOLE.clone()).to_string()).unwrap_or_default();
        assert_eq!((number("/d/x"), number("/d/y"), number("/d/z")), ("0".into(), "2".into(), "4".into()));
        assert_eq!(number("/d/<<"), "");
        assert_eq!(number("/e/<<"), "\"text\"");
    }
}
