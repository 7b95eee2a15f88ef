//! Contents that are made to cost: each is refused within 16 MiB of memory. The time is printed; `docs/formats.md` has what was
//! measured. One test in this file, since it watches the memory of the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use conflux_shard::{
    format::{Format, Limits, check},
    schema,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a refusal may take beyond the content itself.
const MOST: usize = 16 << 20;

/// Near the ceiling of 1 MiB.
const LARGE: usize = 1_000_000;

fn repeated(piece: &str) -> String {
    piece.repeat(LARGE / piece.len())
}

fn aliases() -> String {
    let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for i in 1..9 {
        text += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","));
    }
    text
}

fn long_aliases() -> String {
    format!("a: &a {}\nb: [{}]\n", "x".repeat(200_000), vec!["*a"; 100_000].join(","))
}

fn entities() -> String {
    let mut text = String::from("<!DOCTYPE l [<!ENTITY a0 \"ha\">");
    for i in 1..10 {
        text += &format!("<!ENTITY a{i} \"{}\">", format!("&a{};", i - 1).repeat(10));
    }
    text + "]><l>&a9;</l>"
}

fn bombs() -> Vec<(&'static str, Format, String)> {
    vec![
        ("json: lists within lists", Format::Json, repeated("[")),
        ("json: maps within maps", Format::Json, repeated("{\"a\":")),
        ("yaml: lists within lists", Format::Yaml, repeated("[")),
        ("yaml: maps within maps", Format::Yaml, repeated("{a: ")),
        ("yaml: blocks within blocks", Format::Yaml, repeated("- ")),
        ("yaml: keys within keys", Format::Yaml, repeated("? ")),
        ("yaml: indentation", Format::Yaml, (0..1_000).map(|i| " ".repeat(i) + "a:\n").collect()),
        ("yaml: a billion laughs", Format::Yaml, aliases()),
        ("yaml: one long text, many aliases", Format::Yaml, long_aliases()),
        ("toml: lists within lists", Format::Toml, format!("a = {}", repeated("["))),
        ("toml: dotted keys", Format::Toml, repeated("a.") + "b = 1"),
        ("toml: dotted tables", Format::Toml, format!("[{}b]", repeated("a."))),
        ("xml: elements within elements", Format::Xml, repeated("<a>")),
        ("xml: a billion laughs", Format::Xml, entities()),
        (
            "xml: a file of the server",
            Format::Xml,
            "<!DOCTYPE l [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><l>&x;</l>".into(),
        ),
        ("ini: a line without an end", Format::Ini, repeated("[")),
        ("properties: an escape that is none", Format::Properties, repeated("a\\u00e4") + "\\u12"),
        ("keyvalue: a quote without an end", Format::KeyValue, format!("A=\"{}", repeated("\\\""))),
    ]
}

/// Runs it and answers the most memory it held, and how long it took.
fn cost<T>(work: impl FnOnce() -> T) -> (T, usize, std::time::Duration) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let start = Instant::now();
    let answer = work();
    let time = start.elapsed();
    (answer, MEMORY.peak_usage().saturating_sub(before), time)
}

// Attack 18: contents that a parser would spend all memory of the shard on.
#[test]
fn bombs_are_refused_in_little_memory() {
    // What is made once, at the first use.
    for format in Format::ALL {
        let _ = check(format, b"a", &Limits::default());
    }
    let mut all = bombs();
    let huge = |format| ("10 MiB", format, "a=1\n".repeat((10 << 20) / 4));
    all.extend(Format::ALL.map(huge));
    for (what, format, content) in all {
        let (outcome, memory, time) = cost(|| check(format, content.as_bytes(), &Limits::default()));
        let error = outcome.expect_err(what);
        println!("{what} ({}): {} bytes, {memory} bytes of memory, {time:?}: {error}", format.name(), content.len());
        assert!(memory <= MOST, "{what} ({}): {memory} bytes", format.name());
    }
    // Thirty definitions that mean a billion; a schema that doubles the work with each level of the value.
    let mut doubling = String::from(r##"{"$ref": "#/$defs/a0", "$defs": {"##);
    for i in 0..30 {
        doubling +=
            &format!(r##""a{i}": {{"allOf": [{{"$ref": "#/$defs/a{0}"}}, {{"$ref": "#/$defs/a{0}"}}]}}, "##, i + 1);
    }
    doubling += r#""a30": {}}}"#;
    let levels = r##"{"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}, {"not": {"const": 1}}]}"##;
    let deep = "[".repeat(60) + "1" + &"]".repeat(60);
    for (what, schema) in
        [("schema: definitions that double", doubling.as_str()), ("schema: levels that double", levels)]
    {
        let (outcome, memory, time) = cost(|| schema::check_content(Format::Json, deep.as_bytes(), schema));
        let error = outcome.expect_err(what);
        println!("{what}: {memory} bytes of memory, {time:?}: {}", error.message.chars().take(200).collect::<String>());
        assert!(memory <= MOST, "{what}: {memory} bytes");
    }
}
