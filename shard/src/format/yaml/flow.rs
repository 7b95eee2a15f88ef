//! How deep the flow collections (`[..]`, `{..}`) of a YAML text may be, found before libyaml sees it: its scanner takes time
//! in proportion to depth x tokens, so that 1 MiB of brackets would keep it for minutes.
//!
//! Inside a flow collection the scanner's rules depend on nothing but the depth, so that they are easy to follow exactly.
//! Where one begins does depend on the block around it (a bracket may be in a comment or a block scalar); therefore every bracket
//! that was not yet met as a token is tried as a beginning. The true depth is never above what is found. It may be below:
//! prose with many brackets that never close is refused too.

use std::borrow::Cow;

/// Where the depth first exceeds `max`; none: nowhere.
pub(super) fn too_deep(text: &[u8], max: usize) -> Option<usize> {
    let text = &*with_plain_breaks(text);
    let mut scan = Scan { text, max, met: vec![0; text.len() + 1] };
    (0..text.len()).find_map(|i| match text[i] {
        b'[' | b'{' if scan.met[i] == 0 => scan.run(i),
        _ => None,
    })
}

/// The text with every line break that YAML 1.1 knows as `\n`, each place where it was: NEL, LS and PS end a comment too.
pub(super) fn with_plain_breaks(text: &[u8]) -> Cow<'_, [u8]> {
    let length = |rest: &[u8]| match rest {
        [0xc2, 0x85, ..] => 2,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    };
    if text.is_ascii() || !(0..text.len()).any(|i| length(&text[i..]) > 0) {
        return Cow::Borrowed(text);
    }
    let mut plain = text.to_vec();
    for i in 0..text.len() {
        plain[i..i + length(&text[i..])].fill(b'\n');
    }
    Cow::Owned(plain)
}

struct Scan<'t> {
    text: &'t [u8],
    max: usize,
    /// For each place at which a token begins: the greatest depth (plus one) at which some run came by. A run that comes by
    /// at no greater depth can only find what that one found.
    met: Vec<u16>,
}

enum Next {
    Token(usize),
    Open(usize),
    Close(usize),
}

impl Scan<'_> {
    fn at(&self, i: usize) -> u8 {
        self.text.get(i).copied().unwrap_or(0)
    }

    /// Follows the collection that begins at `i` to its end.
    fn run(&mut self, mut i: usize) -> Option<usize> {
        let mut depth = 0;
        while i < self.text.len() {
            let seen = u16::try_from(depth + 1).unwrap_or(u16::MAX);
            if self.met[i] >= seen {
                return None;
            }
            self.met[i] = seen;
            match self.token(i) {
                Next::Token(next) => i = next,
                Next::Open(_) if depth == self.max => return Some(i),
                Next::Open(next) => (depth, i) = (depth + 1, next),
                Next::Close(_) if depth <= 1 => return None,
                Next::Close(next) => (depth, i) = (depth - 1, next),
            }
        }
        None
    }

    /// The token at `i`, as libyaml's scanner takes it inside a flow collection.
    fn token(&self, i: usize) -> Next {
        let until = |stop: &dyn Fn(u8) -> bool| (i + 1..self.text.len()).find(|j| stop(self.text[*j]));
        let end = self.text.len();
        match self.text[i] {
            b'[' | b'{' => Next::Open(i + 1),
            b']' | b'}' => Next::Close(i + 1),
            b'#' => Next::Token(until(&|b| b == b'\n' || b == b'\r').unwrap_or(end)),
            b'"' => Next::Token(self.after_double_quoted(i + 1)),
            b'\'' => Next::Token(self.after_single_quoted(i + 1)),
            b'&' | b'*' => {
                Next::Token(until(&|b| !(b.is_ascii_alphanumeric() || b == b'_' || b == b'-')).unwrap_or(end))
            }
            b'!' if self.at(i + 1) == b'<' => Next::Token(until(&|b| blank(b) || b == b'>').map_or(end, |j| j + 1)),
            b'!' => Next::Token(until(&|b| blank(b) || flow_indicator(b)).unwrap_or(end)),
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b'?' | b':' | b'|' | b'>' | b'%' | b'@' | b'`' => Next::Token(i + 1),
            b'-' if blank(self.at(i + 1)) => Next::Token(i + 1),
            _ => Next::Token(self.after_plain(i)),
        }
    }

    fn after_double_quoted(&self, mut i: usize) -> usize {
        while i < self.text.len() {
            match self.text[i] {
                b'"' => return i + 1,
                b'\\' => i += 2,
                _ => i += 1,
            }
        }
        self.text.len()
    }

    fn after_single_quoted(&self, mut i: usize) -> usize {
        while i < self.text.len() {
            match (self.text[i], self.at(i + 1)) {
                (b'\'', b'\'') => i += 2,
                (b'\'', _) => return i + 1,
                _ => i += 1,
            }
        }
        self.text.len()
    }

    /// A word of a plain scalar ends at an indicator or a blank. libyaml goes on after a blank, where only a quote, a `#` or
    /// another indicator could begin something else than here; those words are taken as one.
    fn after_plain(&self, mut i: usize) -> usize {
        while i < self.text.len() {
            let byte = self.text[i];
            let colon = byte == b':' && (blank(self.at(i + 1)) || flow_indicator(self.at(i + 1)));
            let comment = byte == b'#' && i > 0 && blank(self.text[i - 1]);
            if colon || comment || flow_indicator(byte) {
                return i;
            }
            i += 1;
        }
        self.text.len()
    }
}

fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0)
}

fn flow_indicator(byte: u8) -> bool {
    matches!(byte, b',' | b'[' | b']' | b'{' | b'}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> bool {
        too_deep(text.as_bytes(), 64).is_some()
    }

    #[test]
    fn depth_is_that_of_the_tokens() {
        let nested = |n| "a: ".to_owned() + &"[".repeat(n) + &"]".repeat(n);
        assert!(!refused(&nested(64)));
        assert!(refused(&nested(65)));
        assert!(!refused(&"a: [1, {b: c}]\n".repeat(1_000)));
    }

    // Each hides closing brackets, or the opening ones, from a scan that follows the tokens less exactly.
    #[test]
    fn brackets_that_libyaml_does_not_see_do_not_hide_depth() {
        for step in [
            "[\"]\",",
            "[']',",
            "['it''s ]',",
            "[\"\\\"]\",",
            "[ # ]\n",
            "{a: ",
            "[a ",
            "[!t ",
            "[!<]> ",
            "[&a ",
            "[\u{85}",
            "[ #\u{85}",
            "[ #\u{2028}",
            "[ # ]\r",
            "[a \"]\"\n,",
            "[a#,",
            "[-",
        ] {
            let deep = step.repeat(100);
            // A quote inside a plain word is a letter: then the bracket behind it does close.
            let expected = step != "[a \"]\"\n,";
            assert_eq!(refused(&deep), expected, "{step:?}");
            assert_eq!(refused(&format!("a: |\n  it's [\n  \"\nb: {deep}")), expected, "{step:?}");
            assert_eq!(refused(&format!("# don't [ \" '\na: {deep}")), expected, "{step:?}");
        }
    }

    // A configuration may well speak of brackets.
    #[test]
    fn prose_with_brackets_passes() {
        let refused = |text: &str| too_deep(text.as_bytes(), 256).is_some();
        let script = "run: |\n".to_owned() + &"  if [[ -f x ]]; then echo \"it's [${a[0]}\"; fi # [\n".repeat(50);
        assert!(!refused(&script));
        assert!(!refused(&"- \"\\e[31m\"\n- 'a [ b'\n".repeat(40)));
    }

    // The scan itself must not be what takes minutes.
    #[test]
    fn a_mebibyte_of_anything_is_scanned_once() {
        for step in ["[", "\"[a\"\n", "[]", "'[", "{a: 'x]'}, ", "# [\n", "[a"] {
            too_deep(step.repeat((1 << 20) / step.len()).as_bytes(), 64);
            too_deep(step.repeat((1 << 20) / step.len()).as_bytes(), 60_000);
        }
    }

    /// Flow sequences with what people and attackers put between the brackets, and their depth.
    fn flow() -> impl Strategy<Value = (String, usize)> {
        let scalar = proptest::sample::select(vec![
            "a",
            "'it''s ]'",
            "\"\\\"]\"",
            "\"[ \\\\\"",
            "a\"b",
            "it's",
            "a#b",
            "!t x",
            "!<t]> x",
            "&b x",
            "-x",
            "a b",
            "http://x",
            "a # ] \" '\n",
            "\"# [\"",
            "'\n]'",
            "x\u{85}y",
            "a #\u{2028}",
            "\"\u{e9}]\"",
        ]);
        let leaf = scalar.prop_map(|s| (s.to_owned(), 0));
        leaf.prop_recursive(12, 60, 4, |inner| {
            (proptest::collection::vec(inner, 0..4), proptest::sample::select(vec![",", ", ", " ,\n ", " , # ]\n "]))
                .prop_map(|(items, comma)| {
                    let depth = items.iter().map(|(_, d)| *d).max().unwrap_or(0) + 1;
                    let texts: Vec<&str> = items.iter().map(|(t, _)| t.as_str()).collect();
                    (format!("[{} ]", texts.join(comma)), depth)
                })
        })
    }

    fn depth(value: &serde_yaml_ng::Value) -> usize {
        match value {
            serde_yaml_ng::Value::Sequence(items) => items.iter().map(depth).max().unwrap_or(0) + 1,
            serde_yaml_ng::Value::Tagged(tagged) => depth(&tagged.value),
            serde_yaml_ng::Value::Mapping(map) => map.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        // Whatever libyaml reads as so deep must be found to be at least so deep, wherever it stands.
        #[test]
        fn the_true_depth_is_never_above_what_is_found(
            (collection, made) in flow(),
            before in proptest::sample::select(vec![
                "", "# don't [ \" '\n", "t: |\n  it's [ \" ]\n  # '\n", "t: 'x [ '' \"'\n", "t: >-\n\n   [ ' \"\n", "t: a [ b' \"\n",
            ]),
        ) {
            let text = format!("{before}k: {collection}\n");
            let value = serde_yaml_ng::from_str::<serde_yaml_ng::Value>(&text);
            prop_assume!(value.is_ok());
            prop_assert_eq!(depth(&value.unwrap()), made, "{}", text);
            prop_assert!(made == 0 || too_deep(text.as_bytes(), made - 1).is_some(), "{}", text);
        }
    }
}
