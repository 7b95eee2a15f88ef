//! XML 1.0 as configuration files use it: no DTD of its own, no entities but the five and characters by number, nothing fetched.
//!
//! The value is a map with the root element. An element is its text where it has neither attributes nor elements, else a map:
//! `@name` for attributes, the names of its elements (a list where one is there several times), `#text` for its text
//! without the blanks around it. Names keep their prefix; comments and processing instructions say nothing.

use indexmap::map::Entry;
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

use super::{ConfigFormat, Format, Limits, Place, Shape, SyntaxError, Value, Wanted, value::Map};

/// XML 1.0.
pub(super) struct Xml;

impl ConfigFormat for Xml {
    fn format(&self) -> Format {
        Format::Xml
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["application/xml", "text/xml"]
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["xml", "pom", "xsd", "xsl", "wsdl", "plist"]
    }

    fn shape(&self) -> Shape {
        Shape::StructuredTexts
    }

    fn parse(&self, text: &str, limits: &Limits) -> Result<Value, SyntaxError> {
        let mut open: Vec<Element> = vec![Element::default()];
        walk(text, limits.max_depth, |step| match step {
            Step::Begin { name, attributes, .. } => {
                open.push(Element { name, members: attributes, text: String::new() })
            }
            Step::Text(text) => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&text);
                }
            }
            Step::End => {
                if let (Some(done), Some(outer)) = (open.pop(), open.last_mut()) {
                    let name = done.name.clone();
                    put(&mut outer.members, name, done.value());
                }
            }
        })?;
        let document = open.pop().unwrap_or_default();
        Ok(Value::Map(Box::new(document.members)))
    }

    fn locate(&self, text: &str, wanted: &mut Wanted) {
        wanted.found(Place { line: 1, column: 1 });
        let mut finder = Finder { wanted, path: Vec::new(), counts: vec![Map::new()] };
        // A text that was read before: it has no error.
        let _ = walk(text, usize::MAX, |step| finder.step(text, step));
    }
}

/// An element that is not closed yet.
#[derive(Default)]
struct Element {
    name: String,
    members: Map,
    text: String,
}

impl Element {
    fn value(mut self) -> Value {
        if self.members.is_empty() {
            return Value::Text(self.text.trim().to_owned());
        }
        let text = self.text.trim();
        if !text.is_empty() {
            self.members.insert("#text".into(), Value::Text(text.to_owned()));
        }
        Value::Map(Box::new(self.members))
    }
}

fn put(members: &mut Map, name: String, value: Value) {
    match members.entry(name) {
        Entry::Vacant(free) => {
            free.insert(value);
        }
        Entry::Occupied(mut there) => match there.get_mut() {
            Value::List(list) => list.push(value),
            one => {
                let first = std::mem::replace(one, Value::Null);
                *one = Value::List(vec![first, value]);
            }
        },
    }
}

/// What is met on the way through a text.
enum Step {
    Begin { name: String, attributes: Map, at: usize },
    Text(String),
    End,
}

/// Walks the text, and refuses what is no XML, or more than configuration needs of it.
fn walk(text: &str, max_depth: usize, mut each: impl FnMut(Step)) -> Result<(), SyntaxError> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let wrong = |at: usize, message: String| SyntaxError::at(text.as_bytes(), at, message);
    let (mut depth, mut roots) = (0usize, 0usize);
    loop {
        let at = offset(reader.buffer_position());
        let event = reader.read_event().map_err(|e| wrong(offset(reader.error_position()), e.to_string()))?;
        let outside = |what: &str| wrong(at, format!("{what} outside of the root element"));
        match event {
            Event::Start(start) => {
                roots += usize::from(depth == 0);
                depth += 1;
                if roots > 1 {
                    return Err(outside("a second element"));
                }
                if depth > max_depth {
                    return Err(wrong(at, format!("more than {max_depth} elements within one another")));
                }
                let name = start.name().as_ref().to_owned();
                each(Step::Begin { attributes: attributes(&start).map_err(|m| wrong(at, m))?, name, at });
            }
            Event::End(_) => {
                depth -= 1;
                each(Step::End);
            }
            Event::Text(words) => {
                let words = words.xml10_content();
                if depth > 0 {
                    each(Step::Text(words.into_owned()));
                } else if !words.trim_start_matches('\u{feff}').trim().is_empty() {
                    return Err(outside("text"));
                }
            }
            Event::CData(words) if depth > 0 => each(Step::Text(words.into_inner().into_owned())),
            Event::CData(_) => return Err(outside("text")),
            Event::GeneralRef(reference) => {
                let known = match reference.resolve_char_ref() {
                    Ok(Some(c)) => Some(c.to_string()),
                    Ok(None) => quick_xml::escape::resolve_predefined_entity(&reference).map(str::to_owned),
                    Err(e) => return Err(wrong(at, e.to_string())),
                };
                match known {
                    Some(words) if depth > 0 => each(Step::Text(words)),
                    Some(_) => return Err(outside("text")),
                    None => return Err(wrong(at, format!("the entity &{}; is not known here", &*reference))),
                }
            }
            Event::DocType(doctype) if doctype.contains('[') || doctype.contains("<!") => {
                return Err(wrong(at, "a DOCTYPE with declarations is refused: entities are not expanded".into()));
            }
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().and_then(Result::ok).unwrap_or_default().to_ascii_lowercase();
                if !text.is_ascii() && !matches!(encoding.as_str(), "" | "utf-8" | "utf8") {
                    return Err(wrong(at, format!("it says that it is {encoding}, and is UTF-8")));
                }
            }
            // An empty element comes as its start and its end.
            Event::Empty(_) | Event::DocType(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof if depth > 0 => return Err(wrong(text.len(), format!("{depth} elements are not closed"))),
            Event::Eof if roots == 0 => return Err(wrong(text.len(), "no element".into())),
            Event::Eof => return Ok(()),
        }
    }
}

fn offset(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn attributes(start: &BytesStart<'_>) -> Result<Map, String> {
    let mut map = Map::new();
    // Its own check for names that are there twice compares each with each.
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let name = format!("@{}", attribute.key.as_ref());
        let value = attribute.normalized_value(XmlVersion::default()).map_err(|e| e.to_string())?;
        if map.insert(name, Value::Text(value.into_owned())).is_some() {
            return Err(format!("the attribute {} is there twice", attribute.key.as_ref()));
        }
    }
    Ok(map)
}

/// Follows a text and the tree of what is wanted. An element's pointer has a number only where there are several of its name, which
/// is known at the end only: so both are tried.
struct Finder<'w> {
    wanted: &'w mut Wanted,
    /// The steps to the element that is open, each with and without its number.
    path: Vec<(String, usize)>,
    /// How many of each name were met in each open element.
    counts: Vec<Map>,
}

impl Finder<'_> {
    fn step(&mut self, text: &str, step: Step) {
        match step {
            Step::Begin { name, attributes, at } => {
                let place = Place::of(text.as_bytes(), at);
                let seen = self.count(&name);
                self.path.push((name, seen));
                self.counts.push(Map::new());
                found(self.wanted, &self.path, None, place);
                attributes.keys().for_each(|name| found(self.wanted, &self.path, Some(name), place));
                found(self.wanted, &self.path, Some("#text"), place);
            }
            Step::End => {
                self.path.pop();
                self.counts.pop();
            }
            Step::Text(_) => {}
        }
    }

    /// How many of this name came before.
    fn count(&mut self, name: &str) -> usize {
        let Some(counts) = self.counts.last_mut() else { return 0 };
        let entry = counts.entry(name.to_owned()).or_insert(Value::Number(0.into()));
        let before = if let Value::Number(n) = &*entry { n.as_u64().unwrap_or(0) } else { 0 };
        *entry = Value::Number((before + 1).into());
        usize::try_from(before).unwrap_or(usize::MAX)
    }
}

fn found(wanted: &mut Wanted, path: &[(String, usize)], last: Option<&str>, place: Place) {
    let Some(((name, number), rest)) = path.split_first() else {
        match last {
            Some(last) => wanted.child(last).into_iter().for_each(|w| w.found(place)),
            None => wanted.found(place),
        }
        return;
    };
    let Some(member) = wanted.child(name) else { return };
    if let Some(element) = member.child(&number.to_string()) {
        found(element, rest, last, place);
    }
    if *number == 0 {
        found(member, rest, last, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, SyntaxError> {
        Xml.parse(text, &Limits::default())
    }

    fn error(text: &str) -> SyntaxError {
        parse(text).unwrap_err()
    }

    #[test]
    fn elements_attributes_and_texts_are_values() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE c SYSTEM \"c.dtd\">\n<!-- c -->\n<c a=\"1 &lt; 2\">\n  <e>x &amp; &#228;</e><e><![CDATA[<y>]]></e>\n  <f/> <g b=''>t</g>\n</c>\n";
        let expected = r##"{"c": {"@a": "1 < 2", "e": ["x & ä", "<y>"], "f": "", "g": {"@b": "", "#text": "t"}}}"##;
        assert_eq!(parse(text).unwrap(), serde_json::from_str(expected).unwrap());
    }

    // Whoever has a typo in a file must be told where it is.
    #[test]
    fn errors_tell_line_and_column() {
        for (text, line) in [
            ("<a>\n <b>\n</a>", 3),
            ("<a>\n<b x=1/></a>", 2),
            ("<a>\n", 2),
            ("<a/>\n<b/>", 2),
            ("<a/>\nx", 1),
            ("", 1),
            ("<a>\n<b x='1' x='2'/></a>", 2),
            ("<a>\n&nbsp;</a>", 2),
        ] {
            assert_eq!(error(text).line, line, "{text:?}: {}", error(text));
        }
    }

    // Attack: a few hundred bytes that mean gigabytes, or the text of a file of the server.
    #[test]
    fn entities_are_never_expanded() {
        let laughs = "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>";
        assert!(error(laughs).message.contains("DOCTYPE"), "{}", error(laughs));
        assert!(
            error("<!DOCTYPE l [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><l>&x;</l>").message.contains("DOCTYPE")
        );
        assert!(error("<l>&x;</l>").message.contains("&x;"));
        assert!(error("<l a='&x;'/>").message.contains('x'));
        assert!(parse("<!DOCTYPE log4j:configuration SYSTEM \"log4j.dtd\"><a/>").is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n| "<a>".repeat(n) + &"</a>".repeat(n);
        assert!(parse(&nested(64)).is_ok());
        assert!(error(&nested(65)).message.contains("within one another"));
        error(&"<a>".repeat(300_000));
    }

    // Comparing each attribute with each would take minutes.
    #[test]
    fn many_attributes_are_no_trouble() {
        let attributes: String = (0..60_000).map(|i| format!(" a{i}='1'")).collect();
        assert!(parse(&format!("<a{attributes}/>")).is_ok());
    }

    // Readers would decode the bytes by what the declaration says.
    #[test]
    fn the_declared_encoding_is_that_of_the_bytes() {
        assert!(error("<?xml version='1.0' encoding='ISO-8859-1'?><a>ä</a>").message.contains("iso-8859-1"));
        assert!(parse("<?xml version='1.0' encoding='ISO-8859-1'?><a>a</a>").is_ok());
    }

    // A schema violation tells where its value stands.
    #[test]
    fn values_are_found() {
        let text = "<c>\n <e>1</e>\n <e>\n  <f x='1'>t</f>\n </e>\n <g/>\n</c>";
        let mut wanted = Wanted::of(["/c/e/1/f/@x", "/c/e/0", "/c/g", "/c/e/1/f/#text"]);
        Xml.locate(text, &mut wanted);
        let place = |pointer| (wanted.place(pointer).line, wanted.place(pointer).column);
        assert_eq!((place("/c/e/1/f/@x"), place("/c/e/0"), place("/c/g")), ((4, 3), (2, 2), (6, 2)));
        assert_eq!(place("/c/e/1/f/#text").0, 4);
    }
}
