//! What a JSON Schema may ask for, seen before it is compiled: how many patterns, and how many schemas one value is held against.
//!
//! Schemas that apply to the same value (`allOf`, `$ref`, ..) multiply: thirty lines can refer to each other twice each and mean a
//! billion. They are counted here, each with all that it refers to; one that comes back to itself without going into the value
//! would never end.

use std::collections::HashMap;

use serde_json::Value;

/// Schemas that one value is held against by one schema.
const MAX_IN_PLACE: u64 = 10_000;

/// What is wrong with a schema, and where (a JSON pointer).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub pointer: String,
    pub message: String,
}

/// Checks the bounds; answers the number of its patterns.
pub(super) fn check(schema: &Value) -> Result<usize, Excess> {
    let mut all = Vec::new();
    collect(schema, &mut String::new(), &mut all);
    let patterns = all.iter().map(|(_, node)| patterns(node)).sum();
    let mut costs = Costs { targets: Targets::of(&all), known: HashMap::new() };
    for (pointer, node) in &all {
        let excess = |message: String| Excess { pointer: pointer.clone(), message };
        match costs.of(node) {
            Ok(cost) if cost <= MAX_IN_PLACE => {}
            Ok(_) => return Err(excess(format!("one value would be held against more than {MAX_IN_PLACE} schemas"))),
            Err(Circle) => {
                return Err(excess("it refers to itself without going into the value: it would never end".into()));
            }
        }
    }
    Ok(patterns)
}

/// Every object in it with its pointer: data that only look like a schema (`enum`, `const`, ..) left out.
fn collect<'s>(node: &'s Value, pointer: &mut String, all: &mut Vec<(String, &'s Value)>) {
    let length = pointer.len();
    let mut inner = |step: &str, node: &'s Value, pointer: &mut String| {
        crate::format::push_step(pointer, step);
        collect(node, pointer, all);
        pointer.truncate(length);
    };
    match node {
        Value::Object(members) => {
            for (name, value) in members {
                if !matches!(name.as_str(), "enum" | "const" | "default" | "examples") {
                    inner(name, value, pointer);
                }
            }
            all.push((pointer.clone(), node));
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| inner(&i.to_string(), value, pointer)),
        _ => {}
    }
}

fn patterns(node: &Value) -> usize {
    let own = usize::from(node.get("pattern").is_some_and(Value::is_string));
    own + node.get("patternProperties").and_then(Value::as_object).map_or(0, |names| names.len())
}

/// The schemas inside that apply to the same value, apart from references.
fn in_place(node: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|k| node.get(k)?.as_array()).flatten();
    let single = ["not", "if", "then", "else"].into_iter().filter_map(|k| node.get(k));
    let maps = ["dependentSchemas", "dependencies"].into_iter().filter_map(|k| node.get(k)?.as_object());
    lists.chain(single).chain(maps.flat_map(|map| map.values())).filter(|inner| inner.is_object())
}

struct Circle;

struct Costs<'s> {
    targets: Targets<'s>,
    /// By the address of the node; none: it is being counted.
    known: HashMap<*const Value, Option<u64>>,
}

impl<'s> Costs<'s> {
    fn of(&mut self, node: &'s Value) -> Result<u64, Circle> {
        match self.known.get(&std::ptr::from_ref(node)) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => return Err(Circle),
            None => {}
        }
        self.known.insert(node, None);
        let mut cost = 1u64;
        for inner in in_place(node) {
            cost = cost.saturating_add(self.of(inner)?);
        }
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let Some(reference) = node.get(keyword).and_then(Value::as_str) else { continue };
            // Of several that it might mean, the worst.
            let mut worst = 1;
            for target in self.targets.named(reference) {
                // A schema in which the reference itself stands: `$dynamicRef: "#meta"` is always below it.
                if !std::ptr::eq(target, node) || keyword == "$ref" {
                    worst = worst.max(self.of(target)?);
                }
            }
            cost = cost.saturating_add(worst);
        }
        self.known.insert(node, Some(cost));
        Ok(cost)
    }
}

/// What references may mean. Found more generously than the specification does: each schema with an `$id` is a root.
struct Targets<'s> {
    roots: Vec<(&'s str, &'s Value)>,
    anchors: HashMap<&'s str, Vec<&'s Value>>,
}

impl<'s> Targets<'s> {
    fn of(all: &[(String, &'s Value)]) -> Self {
        let mut targets = Targets { roots: Vec::new(), anchors: HashMap::new() };
        for (pointer, node) in all {
            let id = node.get("$id").and_then(Value::as_str);
            if let Some(id) = id.or((pointer.is_empty()).then_some("")) {
                let (base, anchor) = id.split_once('#').unwrap_or((id, ""));
                targets.roots.push((last_segment(base), node));
                targets.anchors.entry(anchor).or_default().push(node);
            }
            for keyword in ["$anchor", "$dynamicAnchor"] {
                if let Some(anchor) = node.get(keyword).and_then(Value::as_str) {
                    targets.anchors.entry(anchor).or_default().push(node);
                }
            }
        }
        targets
    }

    fn named(&self, reference: &str) -> Vec<&'s Value> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let roots =
            || self.roots.iter().filter(|(name, _)| base.is_empty() || *name == last_segment(base)).map(|(_, r)| *r);
        match fragment {
            "" => roots().collect(),
            pointer if pointer.starts_with('/') => {
                let pointer = unescaped(pointer);
                roots().filter_map(|root| root.pointer(&pointer)).filter(|target| target.is_object()).collect()
            }
            anchor => self.anchors.get(anchor).cloned().unwrap_or_default(),
        }
    }
}

fn last_segment(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or(uri)
}

/// Without the percent escapes of a URI.
fn unescaped(pointer: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = pointer.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
        match (first, tail.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // Thirty definitions that each refer to the next one twice.
    fn doubling(reference: impl Fn(usize) -> String, id: impl Fn(usize) -> Value) -> Value {
        let mut definitions = serde_json::Map::new();
        for i in 0..30 {
            let mut one = json!({"allOf": [{"$ref": reference(i + 1)}, {"$ref": reference(i + 1)}]});
            if let (Value::Object(id), Some(one)) = (id(i), one.as_object_mut()) {
                one.extend(id);
            }
            definitions.insert(format!("a{i}"), one);
        }
        definitions.insert("a30".into(), id(30));
        json!({"$ref": reference(0), "$defs": definitions})
    }

    #[test]
    fn schemas_that_multiply_are_refused() {
        let pointers = doubling(|i| format!("#/$defs/a{i}"), |_| json!({}));
        let anchors = doubling(|i| format!("#a{i}"), |i| json!({"$anchor": format!("a{i}")}));
        let ids = doubling(|i| format!("a{i}"), |i| json!({"$id": format!("http://x/a{i}")}));
        let escaped = doubling(|i| format!("#/%24defs/a{i}"), |_| json!({}));
        for bomb in [pointers, anchors, ids, escaped] {
            assert!(check(&bomb).unwrap_err().message.contains("more than"), "{bomb}");
        }
    }

    #[test]
    fn circles_are_refused_and_recursion_into_the_value_is_not() {
        let circle = json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}});
        let excess = check(&circle).unwrap_err();
        assert!(excess.message.contains("refers to itself") && excess.pointer.starts_with("/$defs/"), "{excess:?}");
        let tree = json!({"properties": {"children": {"items": {"$ref": "#"}}}, "allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {}}});
        assert_eq!(check(&tree), Ok(0));
    }

    #[test]
    fn patterns_are_counted() {
        let schema = json!({"patternProperties": {"a": {"pattern": "x"}, "b": {}}, "enum": [{"pattern": "y"}]});
        assert_eq!(check(&schema), Ok(3));
    }
}
