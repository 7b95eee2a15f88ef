//! Line by line, as `diff -u` shows it.

use std::{
    fmt::{self, Write},
    time::{Duration, Instant},
};

use similar::{Algorithm, TextDiff as Compared};

/// After this the rest is told coarsely: still true, but not the shortest way.
const DEADLINE: Duration = Duration::from_millis(250);
/// Bytes of the text.
const MAX_BYTES: usize = 256 << 10;

/// A unified diff.
#[derive(Debug, PartialEq, Eq)]
pub struct TextDiff {
    /// Empty where nothing is different.
    pub text: String,
    /// Whether it was cut: then it can be read, and not be applied.
    pub truncated: bool,
}

/// Compares two texts; each with its name.
pub fn text((from_name, from): (&str, &str), (to_name, to): (&str, &str)) -> TextDiff {
    let compared =
        Compared::configure().algorithm(Algorithm::Myers).deadline(Instant::now() + DEADLINE).diff_lines(from, to);
    let mut out = Bounded { text: String::new(), truncated: false };
    // The one error is our own bound.
    let _ = write!(out, "{}", compared.unified_diff().context_radius(3).header(from_name, to_name));
    TextDiff { text: out.text, truncated: out.truncated }
}

/// A text that grows to the bound and no further.
struct Bounded {
    text: String,
    truncated: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MAX_BYTES - self.text.len();
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| part.is_char_boundary(*end)).unwrap_or(0);
        self.text.push_str(&part[..end]);
        self.truncated = true;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_patch_takes() {
        let diff = text(("version 1", "a\nb\nc\n"), ("version 2", "a\nx\nc"));
        let expected =
            "--- version 1\n+++ version 2\n@@ -1,3 +1,3 @@\n a\n-b\n-c\n+x\n+c\n\\ No newline at end of file\n";
        assert_eq!((diff.text.as_str(), diff.truncated), (expected, false));
        assert_eq!(text(("a", "x\n"), ("b", "x\n")).text, "");
    }

    // The longest way between two texts would take hours and hold gigabytes.
    #[test]
    fn two_texts_with_nothing_in_common_are_no_trouble() {
        let lines = |word: &str| (0..100_000).map(|i| format!("{word}{i}\n")).collect::<String>();
        let diff = text(("a", &lines("x")), ("b", &lines("y")));
        assert!(diff.truncated && diff.text.len() <= MAX_BYTES);
        let shuffled: String = (0..100_000u64).map(|i| format!("x{}\n", i * 7919 % 100_000)).collect();
        assert!(text(("a", &lines("x")), ("b", &shuffled)).truncated);
    }
}
