//! YAML as libyaml reads it, bounded in depth and in what aliases expand to.
//!
//! The document is walked, not built: an alias is followed as often as it is met, so that a bomb is seen by counting, and
//! memory stays that of the parsed events.

use std::{cell::Cell, collections::BTreeSet, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{
    flow,
    syntax::{Limits, SyntaxError},
};

/// Nodes that aliases may add to what the text itself can hold (one byte a node).
const ALIAS_NODES: usize = 1 << 16;
/// Times that the text may be read over by aliases to long scalars.
const ALIAS_BYTES: usize = 8;

/// Open brackets with which libyaml is still quick. Above `Limits::max_depth`, which the walk checks exactly, since brackets
/// in texts and comments count here too where they never close.
const MAX_OPEN: usize = 256;

/// Checks the syntax of every document in the text.
pub(super) fn check(text: &str, limits: &Limits) -> Result<(), SyntaxError> {
    if let Some(offset) = flow::too_deep(text.as_bytes(), MAX_OPEN) {
        let message = format!("more than {MAX_OPEN} brackets that are not closed: too deep, or too many in texts");
        return Err(SyntaxError::at(text.as_bytes(), offset, message));
    }
    let budget = Budget {
        max_depth: limits.max_depth,
        nodes: Cell::new(limits.max_nodes.min(text.len() + ALIAS_NODES)),
        bytes: Cell::new(text.len() * ALIAS_BYTES + (1 << 16)),
    };
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        Node { budget: &budget, depth: 0 }.deserialize(document).map_err(located)?;
    }
    Ok(())
}

fn located(e: serde_yaml_ng::Error) -> SyntaxError {
    let (line, column) = e.location().map_or((0, 0), |l| (l.line(), l.column()));
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

/// A node to walk.
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
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! scalars {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<(), E> {
            self.budget.take(0)
        })*
    };
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    scalars!(visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64);

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.budget.take(text.len())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.budget.take(0)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.budget.take(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        self.budget.take(0)?;
        let inner = self.inner()?;
        while sequence.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.budget.take(0)?;
        let inner = self.inner()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key_seed(Scalar(inner))? {
            if keys.contains(&key) {
                return Err(A::Error::custom(format!("the key {} is there twice", key.shown())));
            }
            keys.insert(key);
            map.next_value_seed(inner)?;
        }
        Ok(())
    }

    /// A tagged node.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (_, value) = tagged.variant::<Tag>()?;
        value.newtype_variant_seed(self.inner()?)
    }
}

/// A tag says nothing to a syntax check.
struct Tag;

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_ignored_any(serde::de::IgnoredAny).map(|_| Tag)
    }
}

/// A key: two of the same kind and text are one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key(&'static str, String);

impl Key {
    fn shown(&self) -> String {
        format!("{:?}", self.1.chars().take(64).collect::<String>())
    }
}

/// A key to read: a scalar, since no reader of configuration can address another.
struct Scalar<'b>(Node<'b>);

impl<'de> DeserializeSeed<'de> for Scalar<'_> {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! keys {
    ($($visit:ident: $type:ty, $kind:literal);*) => {
        $(fn $visit<E: Error>(self, key: $type) -> Result<Key, E> {
            self.0.budget.take(0)?;
            Ok(Key($kind, key.to_string()))
        })*
    };
}

impl<'de> Visitor<'de> for Scalar<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, number or truth value as key")
    }

    keys!(visit_bool: bool, "bool"; visit_i64: i64, "number"; visit_i128: i128, "number"; visit_u64: u64, "number";
        visit_u128: u128, "number"; visit_f64: f64, "float");

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        self.0.budget.take(key.len())?;
        Ok(Key("text", key.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Key, E> {
        self.0.budget.take(0)?;
        Ok(Key("null", String::new()))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Key, A::Error> {
        let (_, value) = tagged.variant::<Tag>()?;
        let inner = self.0.inner()?;
        value.newtype_variant_seed(Scalar(inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(text: &str) -> bool {
        check(text, &Limits::default()).is_ok()
    }

    fn error(text: &str) -> SyntaxError {
        check(text, &Limits::default()).unwrap_err()
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
            assert!(passes(good), "{good:?}: {:?}", check(good, &Limits::default()));
        }
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        assert_eq!(error("a: 1\nb: [1, 2\nc: 3\n").line, 3);
        assert_eq!(error("a: 1\n b: 2\n").line, 2);
        assert!(error("a: 1\na: 2\n").message.contains("twice"));
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
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 20_000].join(","));
        assert!(error(&long).message.contains("aliases"));
        let keys = format!("a: &a {}\n{}", "x".repeat(100_000), "- {*a : 1}\n".repeat(2_000));
        assert!(!passes(&keys));
    }

    // An alias that is used as people use it is no bomb.
    #[test]
    fn honest_aliases_pass() {
        let text = format!("base: &b {{a: 1, b: 2, c: 3}}\nall: [{}]\n", vec!["*b"; 1_000].join(", "));
        assert!(passes(&text), "{:?}", check(&text, &Limits::default()));
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
    }
}
