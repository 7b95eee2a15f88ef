//! TOML 1.0, bounded in depth. The parser itself refuses more than 80 levels, dotted keys included.

use super::syntax::{Limits, SyntaxError};

/// Checks the syntax.
pub(super) fn check(text: &str, limits: &Limits) -> Result<(), SyntaxError> {
    let table: toml::Table = toml::from_str(text).map_err(|e: toml::de::Error| match e.span() {
        Some(span) => SyntaxError::at(text.as_bytes(), span.start, e.message()),
        None => SyntaxError::new(0, 0, e.message()),
    })?;
    if deeper_than(&toml::Value::Table(table), limits.max_depth) {
        let message = format!("more than {} tables and arrays within one another", limits.max_depth);
        return Err(SyntaxError::new(0, 0, message));
    }
    Ok(())
}

/// Whether the value has more levels than `max`; recursion ends at the bound.
fn deeper_than(value: &toml::Value, max: usize) -> bool {
    let deeper = |inner: &toml::Value| max == 0 || deeper_than(inner, max - 1);
    match value {
        toml::Value::Table(table) => max == 0 || table.values().any(deeper),
        toml::Value::Array(array) => max == 0 || array.iter().any(deeper),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> SyntaxError {
        check(text, &Limits::default()).unwrap_err()
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        let e = error("a = 1\nb = = 2\n");
        assert_eq!(e.line, 2, "{e}");
        assert_eq!(error("a = 1\na = 2\n").line, 2, "a key twice");
        assert!(check("[server]\nport = 8080\n", &Limits::default()).is_ok());
        assert!(check("", &Limits::default()).is_ok());
    }

    // Dotted keys nest without a bracket: the way past a count of brackets.
    #[test]
    fn depth_is_bounded() {
        let array = |n| format!("a = {}{}", "[".repeat(n), "]".repeat(n));
        let dotted = |n| format!("{}b = 1", "a.".repeat(n));
        assert!(check(&array(60), &Limits::default()).is_ok());
        assert!(check(&dotted(60), &Limits::default()).is_ok());
        for n in [70, 79, 1000, 200_000] {
            error(&array(n));
            error(&dotted(n));
        }
        error(&format!("[{}b]\nc = 1", "a.".repeat(400_000)));
        let creeping: String = (1..500).map(|n| format!("[{}a]\n", "a.".repeat(n))).collect();
        error(&creeping);
    }
}
