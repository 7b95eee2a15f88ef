use serde_json::json;

use super::*;

fn found(format: Format, content: &str, schema: &str) -> Vec<(String, usize, usize)> {
    let found = violations(format, content.as_bytes(), schema).unwrap();
    found.into_iter().map(|v| (v.path, v.place.line, v.place.column)).collect()
}

fn path(path: &str, line: usize, column: usize) -> (String, usize, usize) {
    (path.to_owned(), line, column)
}

const SERVER: &str = r#"{
  "type": "object",
  "required": ["server"],
  "properties": {
    "server": {
      "type": "object",
      "required": ["port"],
      "additionalProperties": false,
      "properties": {
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "tls": {"type": "boolean"}
      }
    }
  }
}"#;

// The same schema holds for every format with structure, and each violation is told where it stands.
#[test]
fn each_structured_format_tells_path_and_place() {
    let cases = [
        (
            Format::Json,
            "{\"server\": {\n  \"port\": 0, \"x\": 1}}",
            [path("/server/port", 2, 3), path("/server/x", 2, 14)],
        ),
        (Format::Yaml, "server:\n  port: 70000\n  x: 1\n", [path("/server/port", 2, 3), path("/server/x", 3, 3)]),
        (Format::Toml, "[server]\nport = '80'\nx = 1\n", [path("/server/port", 2, 1), path("/server/x", 3, 1)]),
        (
            Format::Xml,
            "<server>\n  <port>no</port>\n  <x/>\n</server>",
            [path("/server/port", 2, 3), path("/server/x", 3, 3)],
        ),
        (Format::Ini, "[server]\nport = 0\nx = 1\n", [path("/server/port", 2, 1), path("/server/x", 3, 1)]),
    ];
    for (format, content, expected) in cases {
        assert_eq!(found(format, content, SERVER), expected, "{format:?}");
    }
    for (format, content) in [
        (Format::Json, "{\"server\": {\"port\": 80, \"tls\": true}}"),
        (Format::Yaml, "server: {port: 80, tls: true}"),
        (Format::Toml, "server = {port = 80, tls = true}"),
        (Format::Xml, "<server><port>80</port><tls>true</tls></server>"),
        (Format::Ini, "[server]\nport = 80\ntls = on\n"),
    ] {
        assert_eq!(found(format, content, SERVER), [], "{format:?}");
    }
}

#[test]
fn the_shorthand_checks_flat_formats() {
    let schema =
        "port: integer 1..65535\nname: string\nmode: one of a, b\ndebug: boolean\nrate?: number 0..1\nopt.*: integer\n";
    for (format, good, bad) in [
        (
            Format::KeyValue,
            "port=80\nname=1\nmode=a\ndebug=1\nopt.x=2\n",
            "port=0\nname=\nmode=c\ndebug=maybe\nrate=2\nopt.x=y\nother=1\n",
        ),
        (
            Format::Properties,
            "port=80\nname=1\nmode=a\ndebug=true\n",
            "port: 0\nname\nmode c\ndebug=maybe\nrate=2\nopt.x=y\nother=1\n",
        ),
        (
            Format::Ini,
            "port=80\nname='x'\nmode=b\ndebug\n",
            "port=0\nname=\nmode=c\ndebug=maybe\nrate=2\nopt.x=y\nother=1\n",
        ),
    ] {
        assert_eq!(found(format, good, schema), [], "{format:?}");
        let expected = ["/port", "/mode", "/debug", "/rate", "/opt.x", "/other"].map(str::to_owned);
        let lines = [1, 3, 4, 5, 6, 7];
        let paths: Vec<_> = found(format, bad, schema).into_iter().map(|(path, line, _)| (path, line)).collect();
        assert_eq!(paths, expected.into_iter().zip(lines).collect::<Vec<_>>(), "{format:?}");
    }
    let missing = violations(Format::KeyValue, b"port=1\n", schema).unwrap();
    assert_eq!(missing.len(), 3);
    assert!(missing.iter().all(|v| v.message.contains("required") && v.place.line == 1), "{missing:?}");
}

// One element is not known to be one of several until the schema says so.
#[test]
fn texts_are_read_as_the_schema_asks() {
    let schema = json!({"properties": {"c": {"type": "object", "properties": {
        "item": {"type": "array", "items": {"anyOf": [{"type": "integer", "maximum": 5}, {"type": "boolean"}]}},
        "empty": {"type": "object"},
        "level": {"enum": [1, 2, true]},
        "ref": {"$ref": "#/$defs/number"}
    }}}, "$defs": {"number": {"type": ["number", "null"]}}})
    .to_string();
    assert_eq!(found(Format::Xml, "<c><item>3</item><empty/><level>2</level><ref>1.5</ref></c>", &schema), []);
    assert_eq!(found(Format::Xml, "<c><item>yes</item><ref/></c>", &schema), []);
    let bad = found(Format::Xml, "<c>\n<item>9</item>\n<item>x</item>\n<level>3</level></c>", &schema);
    assert_eq!(bad, [path("/c/item/0", 2, 1), path("/c/item/1", 3, 1), path("/c/level", 4, 1)]);
}

// Both drafts that are promised, told apart by a keyword that means something only in one.
#[test]
fn the_draft_is_the_one_that_the_schema_names() {
    let tuple = |schema: &str| json!({"$schema": schema, "items": [{"type": "integer"}]}).to_string();
    assert_eq!(found(Format::Json, "[\"x\"]", &tuple("http://json-schema.org/draft-07/schema#")), [path("/0", 1, 2)]);
    assert!(compile(&tuple("https://json-schema.org/draft/2020-12/schema")).is_err(), "there a list means nothing");
    let prefix = json!({"prefixItems": [{"type": "integer"}]}).to_string();
    assert_eq!(found(Format::Json, "[\"x\"]", &prefix), [path("/0", 1, 2)]);
}

// A schema that could fetch would make the server a client of whoever writes schemas.
#[test]
fn nothing_is_fetched() {
    for (reference, line) in [("http://127.0.0.1:1/x.json", 2), ("file:///etc/passwd", 2), ("other.json#/a", 2)] {
        let text = format!("{{\"properties\": {{\n \"a\": {{\"$ref\": \"{reference}\"}}}}}}");
        let e = compile(&text).map(drop).unwrap_err();
        assert!(e.message.contains("/properties/a/$ref") && e.message.contains("fetched"), "{e}");
        assert_eq!(e.place.line, line, "{e}");
    }
    let inside = json!({"properties": {"a": {"$ref": "http://x/a.json"}}, "$defs": {"a": {"$id": "http://x/a.json", "type": "null"}}});
    assert_eq!(found(Format::Json, "{\"a\": 1}", &inside.to_string()).len(), 1);
    let meta = json!({"$ref": "http://json-schema.org/draft-07/schema#"}).to_string();
    assert!(compile(&meta).map(drop).unwrap_err().message.contains("fetched"));
    let unknown = json!({"$schema": "http://x/mine.json"}).to_string();
    assert!(compile(&unknown).map(drop).unwrap_err().message.contains("fetched"));
}

// Whoever has a mistake in a schema must be told where it is, when the schema is set.
#[test]
fn a_wrong_schema_is_refused_with_its_place() {
    for (text, line, what) in [
        ("{\n\"type\": \"intger\"}", 2, "intger"),
        ("{\"properties\": {\"a\":\n {\"pattern\": \"(\"}}}", 2, "pattern"),
        ("{\"properties\": {\"a\":\n {\"pattern\": \"(?=a)b\"}}}", 2, "pattern"),
        ("{\"a\": 1,\n \"a\": 2}", 2, "twice"),
        ("{\"$ref\":\n \"#/$defs/none\"}", 1, "none"),
        ("port: integr", 1, "type"),
    ] {
        let e = compile(text).map(drop).unwrap_err();
        assert!(e.message.contains(what), "{text}: {e}");
        assert_eq!(e.place.line, line, "{text}: {e}");
        let api = ApiError::from(e);
        assert_eq!((api.http_status(), api.details[0].field.as_str()), (400, "schema"));
    }
    assert!(compile(&format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_SCHEMA_BYTES))).is_err());
    assert!(compile(&("{\"not\":".repeat(70) + "true" + &"}".repeat(70))).is_err());
}

// Backtracking would take longer than the universe has.
#[test]
fn patterns_are_linear_and_bounded() {
    let schema = json!({"pattern": "^(a+)+$"}).to_string();
    assert_eq!(found(Format::Plaintext, &("a".repeat(100_000) + "!"), &schema).len(), 1);
    let huge = json!({"pattern": "((\\p{L}{100}){100}){100}"}).to_string();
    assert!(compile(&huge).is_err());
    let many: serde_json::Map<_, _> = (0..300).map(|i| (format!("a{i}"), json!({}))).collect();
    assert!(compile(&json!({"patternProperties": many}).to_string()).is_err());
}

// Each level of the value doubles the work: 2^60 steps for a content of 200 bytes.
#[test]
fn a_check_that_would_not_end_is_ended() {
    let both = json!([{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}, {"not": {"const": 1}}]);
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let schema = json!({ keyword: both }).to_string();
        let deep = "[".repeat(60) + "1" + &"]".repeat(60);
        let found = violations(Format::Json, deep.as_bytes(), &schema).unwrap();
        // The other two end by themselves, at the first branch that holds, or the second.
        assert!(keyword != "allOf" || found[0].message.contains("steps"), "{found:?}");
    }
}

#[test]
fn violations_are_bounded_and_so_are_their_messages() {
    let content = serde_json::to_string(&vec!["x".repeat(1_000); 1_000]).unwrap();
    let found = violations(Format::Json, content.as_bytes(), r#"{"items": {"type": "integer"}}"#).unwrap();
    assert_eq!(found.len(), MAX_VIOLATIONS);
    assert!(found.iter().all(|v| v.message.len() < 400), "{:?}", found[0]);
    let found = violations(Format::Json, content.as_bytes(), r#"{"type": "object"}"#).unwrap();
    assert!(found[0].message.len() < 1_000);
}

// The answer that a user gets: all of it, not the first only.
#[test]
fn the_refusal_has_every_violation() {
    let schema = "a: integer\nb: boolean\n";
    let e = check_content(Format::KeyValue, b"a=x\nb=y\n", schema).unwrap_err();
    assert_eq!(e.http_status(), 400);
    let details: Vec<_> = e.details.iter().map(|d| (d.field.as_str(), d.description.as_str())).collect();
    assert_eq!(
        details,
        [
            ("/a", "line 1, column 1: \"x\" is not of type \"integer\""),
            ("/b", "line 2, column 1: \"y\" is not of type \"boolean\"")
        ]
    );
    assert!(check_content(Format::KeyValue, b"a=1\nb=0\n", schema).is_ok());
    assert_eq!(check_content(Format::Json, b"{", "").unwrap_err().details[0].field, "content");
    assert_eq!(check_content(Format::Json, b"{", schema).unwrap_err().details[0].field, "content");
    assert!(check_content(Format::Binary, &[0xff], schema).unwrap_err().message.contains("binary"));
}
