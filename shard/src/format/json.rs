//! JSON: RFC 8259, bounded in depth.

use serde::de::IgnoredAny;

use super::syntax::{Limits, SyntaxError};

/// Checks the syntax without building the values: memory stays flat whatever the text.
pub(super) fn check(text: &str, limits: &Limits) -> Result<(), SyntaxError> {
    if let Some(offset) = too_deep(text.as_bytes(), limits.max_depth) {
        let message = format!("more than {} collections within one another", limits.max_depth);
        return Err(SyntaxError::at(text.as_bytes(), offset, message));
    }
    serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|e| {
        let whole = e.to_string();
        // The position is told apart from the message.
        let message = whole.split(" at line ").next().unwrap_or(&whole);
        SyntaxError::new(e.line(), e.column(), message)
    })
}

/// Where the nesting first exceeds the bound.
fn too_deep(text: &[u8], max: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (i, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return Some(i);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
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
        let e = error("{\n  \"a\": 1,\n  \"b\" 2\n}");
        assert_eq!((e.line, e.column), (3, 7), "{e}");
        assert!(!e.message.contains("at line"), "{e}");
        assert!(error("{\"a\": 1").message.contains("EOF"));
        assert!(error("").line <= 1);
        assert!(check("{} {}", &Limits::default()).is_err());
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_are_not_depth() {
        let nested = |n| "[".repeat(n) + &"]".repeat(n);
        assert!(check(&nested(64), &Limits::default()).is_ok());
        assert_eq!(error(&nested(65)).column, 65);
        assert!(error(&nested(100_000)).message.contains("within one another"));
        let text = format!("{{\"a\\\"{}\": 1}}", "[".repeat(100));
        assert!(check(&text, &Limits::default()).is_ok());
    }

    // Numbers are text to a syntax check: a double that is too large is still JSON.
    #[test]
    fn any_json_number_passes() {
        assert!(check("[1e999, 123456789012345678901234567890, -0.1]", &Limits::default()).is_ok());
        assert!(check("[01]", &Limits::default()).is_err());
        assert!(check("NaN", &Limits::default()).is_err());
    }
}
