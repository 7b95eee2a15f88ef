//! The modules that the targets call, and what each target must see. References are of `conflux-common`, which is linked as it is.

#[path = "../../src/archive/mod.rs"]
pub mod archive;
#[path = "../../src/diff/mod.rs"]
pub mod diff;
#[path = "../../src/format/mod.rs"]
pub mod format;
#[path = "../../src/schema/mod.rs"]
pub mod schema;
#[path = "../../../gateway/src/watch/token.rs"]
pub mod token;

pub mod machine;

use crate::format::{Format, Limits, Value, Wanted, push_step};

/// What holds of any text in any format: it is read or refused, a value keeps the bounds, places are inside the text, and the same
/// text means the same again.
pub fn parses(format: Format, content: &[u8]) {
    let limits = Limits { max_bytes: 64 << 10, ..Limits::default() };
    let lines = content.split(|b| matches!(b, b'\n' | b'\r')).count() + 1;
    match format::parse(format, content, &limits) {
        Err(e) => assert!(e.line <= lines + 1, "{format:?}: {e} of {lines} lines"),
        Ok(parsed) => {
            assert!(depth(&parsed.value) <= limits.max_depth + 1, "{format:?}");
            let mut pointers = Vec::new();
            collect(&parsed.value, &mut String::new(), &mut pointers);
            pointers.iter().for_each(|p| assert!(parsed.value.at(p).is_some(), "{p}"));
            let mut wanted = Wanted::of(pointers.iter().map(String::as_str));
            parsed.locate(&mut wanted);
            pointers.iter().for_each(|p| assert!(wanted.place(p).line <= lines, "{format:?}: {p}"));
            let again = format::parse(format, content, &limits).expect("it was read before");
            assert_eq!(again.value, parsed.value);
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::List(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn collect(value: &Value, pointer: &mut String, all: &mut Vec<String>) {
    if all.len() == 64 {
        return;
    }
    all.push(pointer.clone());
    let length = pointer.len();
    let mut inner = |step: &str, value: &Value| {
        push_step(pointer, step);
        collect(value, pointer, all);
        pointer.truncate(length);
    };
    match value {
        Value::List(list) => list.iter().enumerate().for_each(|(i, value)| inner(&i.to_string(), value)),
        Value::Map(map) => map.iter().for_each(|(name, value)| inner(name, value)),
        _ => {}
    }
}
