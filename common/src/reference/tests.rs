use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Expands with these texts at hand, and counts how often it asks.
fn expanded(content: &str, texts: &[(&str, Quote, &str)], limits: Limits) -> Result<(String, usize), ReferenceError> {
    expanded_as(Quote::Plain, content, texts, limits)
}

fn expanded_as(
    quote: Quote,
    content: &str,
    texts: &[(&str, Quote, &str)],
    limits: Limits,
) -> Result<(String, usize), ReferenceError> {
    let texts: BTreeMap<_, _> = texts.iter().map(|(name, quote, text)| (*name, (*quote, *text))).collect();
    let mut expansion = Expansion::new(Text { bytes: content.into(), quote }, limits);
    let mut asked = 0;
    loop {
        match expansion.step()? {
            Step::Done(content) => return Ok((String::from_utf8(content).unwrap(), asked)),
            Step::Fetch(wanted) => {
                asked += 1;
                for Wanted { reference, .. } in wanted {
                    let (quote, text) = texts[reference.to_string().as_str()];
                    expansion.give(reference, Text { bytes: text.into(), quote });
                }
            }
        }
    }
}

fn problem(content: &str, texts: &[(&str, Quote, &str)]) -> ReferenceError {
    expanded(content, texts, Limits::default()).unwrap_err()
}

#[test]
fn references_are_replaced_and_all_else_stays() {
    let texts = [("a/b/host", Quote::Plain, "db"), ("a/b/c.yaml#/x y/0", Quote::Plain, "7")];
    let content =
        "{{ .Values.x }} {{{conflux:a/b/host}}}\r\n{ {conflux} {{\tconflux:a/b/c.yaml#/x y/0 }} {{conflux }} {{";
    let (text, asked) = expanded(content, &texts, Limits::default()).unwrap();
    assert_eq!(text, "{{ .Values.x }} {db}\r\n{ {conflux} 7 {{conflux }} {{");
    assert_eq!(asked, 1, "both were asked for at once");
    let bytes = b"\xff{{\0 conflux:a/b/c }}\xfe".to_vec();
    let expansion = Expansion::new(Text { bytes: bytes.clone(), quote: Quote::Plain }, Limits::default());
    assert_eq!(expansion.step().unwrap(), Step::Done(bytes));
}

// A typo that was passed through would arrive at a client as a value.
#[test]
fn what_begins_as_a_reference_and_is_none_is_refused_with_its_place() {
    for (text, wanted) in [
        ("{{ conflux:a/b/c", Problem::Open),
        ("{{ conflux:a/b\n/c }}", Problem::Open),
        ("{{ conflux:a/b }}", Problem::Path),
        ("{{ conflux:a/b/c/d }}", Problem::Path),
        ("{{ conflux:a/b/c#x }}", Problem::Pointer),
        ("{{ conflux:a/b/c#/~2 }}", Problem::Pointer),
    ] {
        let e = problem(&format!("x: ä\n  y: {text}\n"), &[]);
        assert_eq!((e.place, e.problem), (Place { line: 2, column: 6 }, wanted), "{text}");
    }
    let e = problem("{{ conflux:a/../c }}", &[]);
    assert!(matches!(e.problem, Problem::Name(_)) && e.to_string().contains("env \"..\""), "{e}");
    let far = format!("{{{{{}conflux:a/b/c }}}}", " ".repeat(MAX_LENGTH));
    assert_eq!(problem(&far, &[]).problem, Problem::Open);
    let long = format!("{{{{ conflux:a/b/c#/{} }}}}", "x".repeat(MAX_LENGTH));
    assert_eq!(problem(&long, &[]).problem, Problem::Open);
}

#[test]
fn references_lead_to_references() {
    let texts = [
        ("a/b/one", Quote::Plain, "1{{ conflux:a/b/two }}1"),
        ("a/b/two", Quote::Plain, "2{{ conflux:a/b/three#/k }}2"),
        ("a/b/three#/k", Quote::Plain, "3"),
    ];
    let (text, asked) = expanded("{{ conflux:a/b/one }}{{ conflux:a/b/three#/k }}", &texts, Limits::default()).unwrap();
    assert_eq!((text.as_str(), asked), ("123213", 2));
}

#[test]
fn circles_are_told_with_their_way() {
    let texts =
        [("a/b/one", Quote::Plain, "\n {{ conflux:a/b/two }}"), ("a/b/two", Quote::Plain, "{{ conflux:a/b/one }}")];
    let e = problem("{{ conflux:a/b/one }}", &texts);
    assert_eq!(e.problem, Problem::Cycle(["a/b/one", "a/b/two", "a/b/one"].map(reference).to_vec()));
    assert_eq!(e.within.as_deref(), Some(&reference("a/b/two")));
    assert!(e.to_string().contains("a/b/one -> a/b/two -> a/b/one"), "{e}");
}

// A handful of small contents must not become gigabytes, nor keep a client fetching for ever.
#[test]
fn what_costs_too_much_is_refused() {
    let doubled: Vec<(String, String)> = (0..8)
        .map(|i| (format!("a/b/{i}"), format!("{{{{ conflux:a/b/{n} }}}}", n = i + 1).repeat(16)))
        .chain([("a/b/8".to_owned(), "x".to_owned())])
        .collect();
    let texts: Vec<_> = doubled.iter().map(|(name, text)| (name.as_str(), Quote::Plain, text.as_str())).collect();
    let start = "{{ conflux:a/b/3 }}";
    assert_eq!(problem(start, &texts).problem, Problem::TooMany(1_000));
    assert_eq!(problem("{{ conflux:a/b/0 }}", &texts).problem, Problem::TooMany(1_000));

    let big = "y".repeat(1 << 20);
    let content = "{{ conflux:a/b/big }}".repeat(5);
    assert_eq!(problem(&content, &[("a/b/big", Quote::Plain, &big)]).problem, Problem::TooLarge(4 << 20));

    let many: String = (0..101).map(|i| format!("{{{{ conflux:a/b/{i}#/{} }}}}", i % 7)).collect();
    assert_eq!(problem(&many, &[]).problem, Problem::TooManyConfigs(100));

    let chain: Vec<(String, String)> =
        (0..9).map(|i| (format!("a/b/{i}"), format!("{{{{ conflux:a/b/{} }}}}", i + 1))).collect();
    let texts: Vec<_> = chain.iter().map(|(name, text)| (name.as_str(), Quote::Plain, text.as_str())).collect();
    assert_eq!(problem("{{ conflux:a/b/0 }}", &texts).problem, Problem::TooDeep(8));
}

// A quote or a line break in a referenced value must not become a key of the content that it is put into.
#[test]
fn a_text_stays_one_value_where_it_is_put() {
    let put = |quote, text: &str| {
        let texts = [("a/b/v", Quote::Plain, text)];
        expanded_as(quote, "[{{ conflux:a/b/v }}]", &texts, Limits::default()).map(|(text, _)| text)
    };
    assert_eq!(put(Quote::Json, "a\"b\n\\").unwrap(), r#"[a\"b\n\\]"#);
    assert_eq!(put(Quote::Xml, "<a b='&'>").unwrap(), "[&lt;a b=&apos;&amp;&apos;&gt;]");
    assert_eq!(put(Quote::Line, "p@ss\tword").unwrap(), "[p@ss\tword]");
    for several in ["a\nadmin: true", "a\r", "a\u{85}b", "a\u{2028}b", "a\0"] {
        assert_eq!(
            put(Quote::Line, several).unwrap_err().problem,
            Problem::Lines(Box::new(reference("a/b/v"))),
            "{several:?}"
        );
    }
    // Each text by its own rule: a whole JSON inside a string of another.
    let texts = [("a/b/j", Quote::Json, r#"{"k":"{{ conflux:a/b/v }}"}"#), ("a/b/v", Quote::Plain, "\"")];
    let (text, _) = expanded_as(Quote::Json, r#"{"in":"{{ conflux:a/b/j }}"}"#, &texts, Limits::default()).unwrap();
    let outer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let inner: serde_json::Value = serde_json::from_str(outer["in"].as_str().unwrap()).unwrap();
    assert_eq!(inner["k"], "\"");
}

proptest! {
    #[test]
    fn what_holds_no_reference_stays(content: Vec<u8>) {
        let expansion = Expansion::new(Text { bytes: content.clone(), quote: Quote::Line }, Limits::default());
        prop_assert_eq!(expansion.step().unwrap(), Step::Done(content));
    }

    #[test]
    fn pieces_are_the_content(content in "([{} \t\na/#~]|\\{\\{|\\}\\}|conflux:|a/b/c){0,40}") {
        let mut whole = Vec::new();
        for piece in scan(content.as_bytes()) {
            match piece {
                Ok(Piece::Plain(bytes)) => whole.extend_from_slice(bytes),
                Ok(Piece::Reference { written, reference }) => {
                    prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                    whole.extend_from_slice(written);
                }
                Err(e) => {
                    prop_assert_eq!(e.place, Place::FIRST.after(&content.as_bytes()[..whole.len()]));
                    return Ok(());
                }
            }
        }
        prop_assert_eq!(whole, content.into_bytes());
    }

    #[test]
    fn each_reference_is_replaced_where_it_stands(parts in proptest::collection::vec(("[a-z{} ]{0,8}", 0usize..3), 0..20)) {
        // Against the naive way: replacing the written text.
        let texts = [("a/b/0", Quote::Plain, "zero"), ("a/b/1#/p", Quote::Plain, ""), ("a/b/2", Quote::Plain, "{{")];
        let content: String = parts.iter().map(|(plain, i)| format!("{plain};{{{{ conflux:{} }}}}", texts[*i].0)).collect();
        let naive = parts.iter().map(|(plain, i)| format!("{plain};{}", texts[*i].2)).collect::<String>();
        prop_assert_eq!(expanded(&content, &texts, Limits::default()).unwrap().0, naive);
    }
}
