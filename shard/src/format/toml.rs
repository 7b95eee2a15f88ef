//! TOML 1.0 and 1.1, bounded in depth. The parser itself refuses more than 80 levels, dotted keys included; [`too_deep`] comes
//! before it, since it keeps every token in memory. Dates and times are texts.

use toml::de::{DeTable, DeValue};

use super::{
    ConfigFormat, Format, Limits, Place, Shape, SyntaxError, Value, Wanted,
    value::{Map, push_step},
};

/// TOML.
pub(super) struct Toml;

impl ConfigFormat for Toml {
    fn format(&self) -> Format {
        Format::Toml
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["application/toml", "application/x-toml", "text/toml", "text/x-toml"]
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["toml"]
    }

    fn shape(&self) -> Shape {
        Shape::Structured
    }

    fn parse(&self, text: &str, limits: &Limits) -> Result<Value, SyntaxError> {
        let message = || format!("more than {} tables and arrays within one another", limits.max_depth);
        if let Some(offset) = too_deep(text.as_bytes(), limits.max_depth) {
            return Err(SyntaxError::at(text.as_bytes(), offset, message()));
        }
        let table = DeTable::parse(text).map_err(|e| match e.span() {
            Some(span) => SyntaxError::at(text.as_bytes(), span.start, e.message()),
            None => SyntaxError::new(0, 0, e.message()),
        })?;
        let value = self::table(text, table.get_ref())?;
        if value.deeper_than(limits.max_depth) {
            return Err(SyntaxError::new(0, 0, message()));
        }
        Ok(value)
    }

    fn locate(&self, text: &str, wanted: &mut Wanted) {
        wanted.found(Place { line: 1, column: 1 });
        if let Ok(table) = DeTable::parse(text) {
            locate(text, &DeValue::Table(table.into_inner()), wanted);
        }
    }
}

fn table(text: &str, members: &DeTable<'_>) -> Result<Value, SyntaxError> {
    // The parser orders them by name: by place is as they were written.
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by_key(|(name, _)| name.span().start);
    let member = |(name, inner): (&toml::Spanned<_>, &toml::Spanned<_>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        Ok((name.clone().into_owned(), value(text, inner)?))
    };
    Ok(Value::Map(Box::new(sorted.into_iter().map(member).collect::<Result<Map, _>>()?)))
}

fn value(text: &str, spanned: &toml::Spanned<DeValue<'_>>) -> Result<Value, SyntaxError> {
    let beyond = || SyntaxError::at(text.as_bytes(), spanned.span().start, "a number of more than 64 bits");
    Ok(match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => {
            Value::Number(i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| beyond())?.into())
        }
        DeValue::Float(number) => {
            let finite = |f: &f64| f.is_finite() || number.as_str().contains("inf") || f.is_nan();
            Value::float(number.as_str().parse().ok().filter(finite).ok_or_else(beyond)?)
        }
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(list) => Value::List(list.iter().map(|one| value(text, one)).collect::<Result<_, _>>()?),
        DeValue::Table(members) => table(text, members)?,
    })
}

fn locate(text: &str, value: &DeValue<'_>, wanted: &mut Wanted) {
    let mut inner = |step: &str, at: usize, value: &DeValue<'_>| {
        if let Some(child) = wanted.child(step) {
            child.found(Place::of(text.as_bytes(), at));
            locate(text, value, child);
        }
    };
    match value {
        DeValue::Table(members) => {
            members.iter().for_each(|(name, value)| inner(name.get_ref(), name.span().start, value.get_ref()))
        }
        DeValue::Array(list) => {
            let place = |(i, one): (usize, &toml::Spanned<DeValue<'_>>)| {
                let mut step = String::new();
                push_step(&mut step, &i.to_string());
                inner(&step[1..], one.span().start, one.get_ref());
            };
            list.iter().enumerate().for_each(place);
        }
        _ => {}
    }
}

/// Where brackets first stand deeper than `max`, or a key has more parts than that; none: nowhere. A text that is no TOML may
/// be refused for either.
fn too_deep(text: &[u8], max: usize) -> Option<usize> {
    let (mut depth, mut dots, mut i) = (0usize, 0usize, 0usize);
    while i < text.len() {
        let rest = &text[i..];
        match rest[0] {
            b'#' => i += line(rest),
            b'"' if rest.starts_with(b"\"\"\"") => i += 3 + until(&rest[3..], b"\"\"\"", true),
            b'\'' if rest.starts_with(b"'''") => i += 3 + until(&rest[3..], b"'''", false),
            b'"' => i += 1 + until(&rest[1..1 + line(&rest[1..])], b"\"", true),
            b'\'' => i += 1 + until(&rest[1..1 + line(&rest[1..])], b"'", false),
            b'[' | b'{' => (depth, dots, i) = (depth + 1, 0, i + 1),
            b']' | b'}' => (depth, dots, i) = (depth.saturating_sub(1), 0, i + 1),
            b'.' => (dots, i) = (dots + 1, i + 1),
            b',' | b'=' | b'\n' => (dots, i) = (0, i + 1),
            _ => i += 1,
        }
        if depth > max.max(2) || dots >= max {
            return Some(i.saturating_sub(1));
        }
    }
    None
}

fn line(rest: &[u8]) -> usize {
    rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
}

/// Bytes up to the end of a string.
fn until(rest: &[u8], end: &[u8], escapes: bool) -> usize {
    let mut i = 0;
    while i < rest.len() && !rest[i..].starts_with(end) {
        i += if escapes && rest[i] == b'\\' { 2 } else { 1 };
    }
    (i + end.len()).min(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, SyntaxError> {
        Toml.parse(text, &Limits::default())
    }

    fn error(text: &str) -> SyntaxError {
        parse(text).unwrap_err()
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        let e = error("a = 1\nb = = 2\n");
        assert_eq!(e.line, 2, "{e}");
        assert_eq!(error("a = 1\na = 2\n").line, 2, "a key twice");
        assert_eq!(error("a = 1\nb = 9223372036854775808\n").line, 2);
        assert!(parse("[server]\nport = 8080\n").is_ok());
        assert!(parse("").is_ok());
    }

    #[test]
    fn values_are_what_applications_read() {
        let text = "z = 0x1f\na = [1_000, -2.5, inf]\n[t.'u.v']\nat = 1979-05-27T07:32:00Z\n[[l]]\nx = true\n[[l]]\n";
        let shown = parse(text).unwrap();
        assert_eq!(
            shown,
            serde_json::from_str(
                r#"{"z": 31, "a": [1000, -2.5, ".inf"], "t": {"u.v": {"at": "1979-05-27T07:32:00Z"}}, "l": [{"x": true}, {}]}"#
            )
            .unwrap()
        );
        let Value::Map(map) = shown else { panic!("a map") };
        assert_eq!(map.keys().collect::<Vec<_>>(), ["z", "a", "t", "l"], "in the order of the text");
    }

    // A schema violation tells where its value stands.
    #[test]
    fn values_are_found() {
        let text = "a = 1\n[s]\nlist = [1,\n  2]\n[[t]]\n[[t]]\nx.y = 3\n";
        let mut wanted = Wanted::of(["/a", "/s/list/1", "/t/1/x/y", "/s/none"]);
        Toml.locate(text, &mut wanted);
        let place = |pointer| (wanted.place(pointer).line, wanted.place(pointer).column);
        assert_eq!((place("/a"), place("/s/list/1"), place("/t/1/x/y")), ((1, 1), (4, 3), (7, 3)));
        assert_eq!(place("/s/none").0, 2);
    }

    // Dotted keys nest without a bracket: the way past a count of brackets.
    #[test]
    fn depth_is_bounded() {
        let array = |n| format!("a = {}{}", "[".repeat(n), "]".repeat(n));
        let dotted = |n| format!("{}b = 1", "a.".repeat(n));
        assert!(parse(&array(60)).is_ok());
        assert!(parse(&dotted(60)).is_ok());
        for n in [65, 70, 79, 1000, 200_000] {
            error(&array(n));
            error(&dotted(n));
        }
        error(&format!("[{}b]\nc = 1", "a.".repeat(400_000)));
        let creeping: String = (1..500).map(|n| format!("[{}a]\n", "a.".repeat(n))).collect();
        error(&creeping);
    }

    // Brackets in texts and comments are no depth, and dots in numbers no keys.
    #[test]
    fn what_only_looks_deep_passes() {
        let brackets = "[".repeat(100);
        let floats = vec!["1.5"; 1_000].join(", ");
        let text = format!(
            "a = \"{brackets}\\\"{brackets}\" # {brackets}\nb = '{brackets}'\nc = \"\"\"\n{brackets}\"\"\"\nd = '''{brackets}'''\ne = [{floats}]\n"
        );
        assert!(parse(&text).is_ok(), "{:?}", parse(&text));
    }
}
