//! Texts in the place of references, as a computation that asks for what it needs: whoever drives it fetches, this only puts together.

use std::collections::{HashMap, HashSet};

use super::{Piece, Place, Problem, Reference, ReferenceError, scan};
use crate::ids::{AppName, ConfigName, EnvName};

/// Bounds of one expansion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// References that are resolved, each time they stand somewhere.
    pub references: usize,
    /// Configs that they name together.
    pub configs: usize,
    /// References within what references name.
    pub depth: usize,
    /// Bytes of all texts together, each time they are put somewhere. The result has no more.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { references: 1_000, configs: 100, depth: 8, bytes: 4 << 20 }
    }
}

/// How a text is written into another one, so that it stays one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    /// As it is.
    Plain,
    /// As it is, if it is one line without control characters: YAML, TOML, INI, properties, `KEY=VALUE`.
    Line,
    /// Escaped as inside a string of JSON, which is the only place where a JSON text can hold a reference.
    Json,
    /// `&`, `<`, `>` and quotes as entities.
    Xml,
}

/// What a reference names, as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The content, or the one value of it as text.
    pub bytes: Vec<u8>,
    /// How references in it are replaced: by its format for a whole content, [`Quote::Plain`] for a value.
    pub quote: Quote,
}

/// A reference whose text is needed, and where it was found first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What is needed.
    pub reference: Reference,
    /// In whose text it stands; none: the content that was asked for.
    pub within: Option<Reference>,
    /// Where in that text.
    pub place: Place,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These texts are needed, each named once: [`Expansion::give`] them, then go on. Never empty.
    Fetch(Vec<Wanted>),
    /// The content with every reference replaced.
    Done(Vec<u8>),
}

/// The expansion of one content. It asks at most as often as references may lie within one another.
#[derive(Debug)]
pub struct Expansion {
    content: Text,
    limits: Limits,
    given: HashMap<Reference, Text>,
}

impl Expansion {
    /// Of this content.
    pub fn new(content: Text, limits: Limits) -> Self {
        Self { content, limits, given: HashMap::new() }
    }

    /// The answer to a [`Wanted`].
    pub fn give(&mut self, reference: Reference, text: Text) {
        self.given.insert(reference, text);
    }

    /// Goes as far as the texts at hand allow.
    pub fn step(&self) -> Result<Step, ReferenceError> {
        self.put_into(&self.content)
    }

    /// As [`step`](Self::step), of another text, with what is at hand. A text that is part of the content needs nothing else once the
    /// content is done: so whoever reads the content can tell what each of its values must have become.
    pub fn put_into(&self, text: &Text) -> Result<Step, ReferenceError> {
        let mut round = Round {
            expansion: self,
            path: Vec::new(),
            wanted: Vec::new(),
            configs: HashSet::new(),
            references: 0,
            bytes: 0,
        };
        let content = round.render(text)?;
        Ok(if round.wanted.is_empty() { Step::Done(content) } else { Step::Fetch(round.wanted) })
    }
}

/// One pass over all that is at hand.
struct Round<'e> {
    expansion: &'e Expansion,
    /// The references that led to the text being read.
    path: Vec<Reference>,
    wanted: Vec<Wanted>,
    /// What is named, without pointers.
    configs: HashSet<(AppName, EnvName, ConfigName)>,
    references: usize,
    bytes: usize,
}

impl<'e> Round<'e> {
    fn render(&mut self, text: &Text) -> Result<Vec<u8>, ReferenceError> {
        let (mut rendered, mut place) = (Vec::new(), Place::FIRST);
        for piece in scan(&text.bytes) {
            match piece.map_err(|e| ReferenceError { within: self.within(), ..e })? {
                Piece::Plain(bytes) => {
                    self.take(bytes.len()).map_err(|problem| self.error(place, problem))?;
                    rendered.extend_from_slice(bytes);
                    place = place.after(bytes);
                }
                Piece::Reference { reference, written } => {
                    rendered.extend(self.put(reference, text.quote, place)?);
                    place = place.after(written);
                }
            }
        }
        Ok(rendered)
    }

    /// What stands in a reference's place; nothing where it is not at hand yet.
    fn put(&mut self, reference: Reference, quote: Quote, place: Place) -> Result<Vec<u8>, ReferenceError> {
        self.counted(&reference).map_err(|problem| self.error(place, problem))?;
        let given: &'e HashMap<Reference, Text> = &self.expansion.given;
        let Some(text) = given.get(&reference) else {
            self.want(reference, place);
            return Ok(Vec::new());
        };
        self.path.push(reference.clone());
        let rendered = self.render(text);
        self.path.pop();
        let quoted = quoted(rendered?, quote).ok_or_else(|| self.error(place, Problem::Lines(Box::new(reference))))?;
        self.take(quoted.len()).map_err(|problem| self.error(place, problem))?;
        Ok(quoted)
    }

    /// Another reference, if it may be.
    fn counted(&mut self, reference: &Reference) -> Result<(), Problem> {
        let limits = self.expansion.limits;
        self.references += 1;
        if self.references > limits.references {
            return Err(Problem::TooMany(limits.references));
        }
        self.configs.insert((reference.app.clone(), reference.env.clone(), reference.name.clone()));
        if self.configs.len() > limits.configs {
            return Err(Problem::TooManyConfigs(limits.configs));
        }
        if let Some(first) = self.path.iter().position(|earlier| earlier == reference) {
            let circle = self.path[first..].iter().chain([reference]).cloned().collect();
            return Err(Problem::Cycle(circle));
        }
        if self.path.len() == limits.depth {
            return Err(Problem::TooDeep(limits.depth));
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        let max = self.expansion.limits.bytes;
        self.bytes += bytes;
        if self.bytes > max { Err(Problem::TooLarge(max)) } else { Ok(()) }
    }

    fn want(&mut self, reference: Reference, place: Place) {
        if !self.wanted.iter().any(|wanted| wanted.reference == reference) {
            self.wanted.push(Wanted { reference, within: self.path.last().cloned(), place });
        }
    }

    fn error(&self, place: Place, problem: Problem) -> ReferenceError {
        ReferenceError { within: self.within(), place, problem }
    }

    fn within(&self) -> Option<Box<Reference>> {
        self.path.last().cloned().map(Box::new)
    }
}

/// The text as it is written into another; none where it would be more than a value.
fn quoted(text: Vec<u8>, quote: Quote) -> Option<Vec<u8>> {
    match quote {
        Quote::Plain => Some(text),
        Quote::Line => {
            let readable = std::str::from_utf8(&text).ok()?;
            // U+0085, U+2028 and U+2029 are line breaks to some readers of YAML.
            let breaks = |c: char| c.is_control() && c != '\t' || matches!(c, '\u{2028}' | '\u{2029}');
            (!readable.contains(breaks)).then_some(text)
        }
        Quote::Json => {
            let mut string = serde_json::to_vec(std::str::from_utf8(&text).ok()?).ok()?;
            string.pop();
            string.remove(0);
            Some(string)
        }
        Quote::Xml => {
            let mut escaped = Vec::with_capacity(text.len());
            for byte in text {
                match byte {
                    b'&' => escaped.extend(b"&amp;"),
                    b'<' => escaped.extend(b"&lt;"),
                    b'>' => escaped.extend(b"&gt;"),
                    b'"' => escaped.extend(b"&quot;"),
                    b'\'' => escaped.extend(b"&apos;"),
                    other => escaped.push(other),
                }
            }
            Some(escaped)
        }
    }
}
