//! Lines as people count them. libyaml ends a line at U+0085, U+2028 and U+2029 too, as YAML 1.1 says; editors and the other formats do not.

use super::super::Place;

const ONLY_OF_YAML: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// The place that libyaml tells, in lines that end with `\n`, `\r` or both.
pub(super) fn shown(text: &str, told: Place) -> Place {
    if told.line == 0 || !text.contains(ONLY_OF_YAML) {
        return told;
    }
    let next = |place: &mut Place| *place = Place { line: place.line + 1, column: 1 };
    let (mut yaml, mut shown) = (Place { line: 1, column: 1 }, Place { line: 1, column: 1 });
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
    // It may tell a column behind the end of the line, or a line behind the end of the text.
    while yaml.line < told.line || yaml.column < told.column {
        match rest.next() {
            None => break,
            Some('\r') if rest.peek() == Some(&'\n') => {}
            Some('\r' | '\n') if yaml.line == told.line => break,
            Some('\r' | '\n') => {
                next(&mut yaml);
                next(&mut shown);
            }
            Some(c) => {
                shown.column += 1;
                if !ONLY_OF_YAML.contains(&c) {
                    yaml.column += 1;
                } else if yaml.line == told.line {
                    break;
                } else {
                    next(&mut yaml);
                }
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    // Found by fuzzing: the place was in a line that the text does not have.
    #[test]
    fn lines_are_those_of_an_editor() {
        let place = |line, column| Place { line, column };
        let text = "a\u{85}b\r\nc\u{2028}\u{2029}d: e\n";
        assert_eq!(shown(text, place(2, 1)), place(1, 3));
        assert_eq!(shown(text, place(3, 1)), place(2, 1));
        assert_eq!(shown(text, place(5, 4)), place(2, 7));
        assert_eq!(shown(text, place(9, 1)), place(3, 1));
        assert_eq!(shown("a\nb", place(2, 9)), place(2, 9));
    }
}
