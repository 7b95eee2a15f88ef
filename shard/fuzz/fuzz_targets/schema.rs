#![no_main]

use conflux_shard_fuzz::{
    format::Format,
    schema::{MAX_VIOLATIONS, violations},
};

// The first line says in which format the content is; then comes the schema, JSON Schema or shorthand; behind a line of `---` the content.
libfuzzer_sys::fuzz_target!(|input: &str| {
    let (format, rest) = input.split_once('\n').unwrap_or((input, ""));
    let (schema, content) = rest.split_once("\n---\n").unwrap_or((rest, ""));
    let format = Format::from_name(format).unwrap_or(Format::KeyValue);
    if let Ok(found) = violations(format, content.as_bytes(), schema) {
        assert!(found.len() <= MAX_VIOLATIONS);
        assert!(found.iter().all(|v| v.message.chars().count() <= 400), "{found:?}");
    }
});
