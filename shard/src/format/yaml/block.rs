//! How deep the block collections of a YAML text may be, and how many aliases it has, found before libyaml sees it: it keeps
//! an event for each of them in memory, so that 1 MiB of dashes would take a hundred.
//!
//! libyaml opens a block where a token stands deeper than the block around it, whatever the token: so each line's first word,
//! and each word behind a `-`, `?` or `:` that stands alone, may open one. What is found is therefore never less than half of the true
//! depth (a list may stand at the depth of its name). Texts of several lines count like blocks: nobody indents those 256 times.

use super::flow::with_plain_breaks;

/// Where the depth first exceeds `max`; none: nowhere.
pub(super) fn too_deep(text: &[u8], max: usize) -> Option<usize> {
    let text = &*with_plain_breaks(text);
    let mut open: Vec<usize> = Vec::new();
    let mut start = 0;
    for line in text.split(|b| *b == b'\n' || *b == b'\r') {
        let mut column = spaces(line, 0);
        while column < line.len() && line[column] != b'#' {
            while open.last().is_some_and(|outer| *outer >= column) {
                open.pop();
            }
            open.push(column);
            if open.len() > max {
                return Some(start + column);
            }
            if !matches!(line[column], b'-' | b'?' | b':') || line.get(column + 1).is_some_and(|b| *b != b' ') {
                break;
            }
            column = spaces(line, column + 1);
        }
        start += line.len() + 1;
    }
    None
}

/// Where there is an alias beyond the first `max`; none: nowhere.
pub(super) fn too_many_aliases(text: &[u8], max: usize) -> Option<usize> {
    let begins = |i: &usize| {
        let after = i
            .checked_sub(1)
            .is_none_or(|before| matches!(text[before], b' ' | b'\n' | b'\r' | b'\t' | b',' | b'[' | b'{' | b':'));
        text[*i] == b'*'
            && after
            && text.get(i + 1).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    (0..text.len()).filter(begins).nth(max)
}

fn spaces(line: &[u8], from: usize) -> usize {
    (from..line.len()).find(|i| line[*i] != b' ').unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        too_deep(text.as_bytes(), 64).is_some()
    }

    #[test]
    fn depth_is_that_of_the_indentation() {
        let nested = |n: usize| (0..n).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>();
        assert!(!refused(&nested(64)));
        assert!(refused(&nested(65)));
        assert!(!refused(&"a:\n  - b: 1\n    c: 2\n".repeat(1_000)));
        assert!(refused(&"- ".repeat(65)));
        assert!(refused(&"? ".repeat(65)));
        assert!(!refused(&("-".repeat(100) + "\n")));
        for break_ in ["\r", "\u{85}", "\u{2028}"] {
            let deep: String = (0..65).map(|i| format!("{}a:{break_}", " ".repeat(i))).collect();
            assert!(refused(&deep), "{break_:?}");
        }
    }
}
