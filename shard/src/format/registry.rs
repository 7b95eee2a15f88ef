//! What a format is to this service, and which of them this binary can read.

use super::{Format, Limits, SyntaxError, Value, Wanted};

/// What values a format has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Values of every kind, within one another.
    Structured,
    /// Texts within one another: a schema reads each as the type that it asks for.
    StructuredTexts,
    /// One level of names with texts: the same, and the shorthand is made for it.
    FlatTexts,
    /// One text.
    Text,
    /// Bytes: it is never read.
    Bytes,
}

/// A format. One implementation a file, each behind a cargo feature; the names are always known (see [`Format`]), since a
/// replica must apply what another binary accepted.
pub trait ConfigFormat: Send + Sync + 'static {
    /// Which one it is.
    fn format(&self) -> Format;

    /// Media types that requests may name it by, in lower case and without parameters.
    fn media_types(&self) -> &'static [&'static str];

    /// Extensions of names that suggest it, in lower case.
    fn extensions(&self) -> &'static [&'static str];

    /// What values it has.
    fn shape(&self) -> Shape;

    /// Reads a text of at most `limits.max_bytes`.
    fn parse(&self, text: &str, limits: &Limits) -> Result<Value, SyntaxError>;

    /// Says where the wanted values stand in a text that [`parse`](Self::parse) takes. What it cannot find, it leaves.
    fn locate(&self, text: &str, wanted: &mut Wanted);
}

/// Those that this binary can read.
static REGISTERED: &[&dyn ConfigFormat] = &[
    #[cfg(feature = "json")]
    &super::json::Json,
    #[cfg(feature = "yaml")]
    &super::yaml::Yaml,
    #[cfg(feature = "toml")]
    &super::toml::Toml,
    #[cfg(feature = "xml")]
    &super::xml::Xml,
    #[cfg(feature = "ini")]
    &super::ini::Ini,
    #[cfg(feature = "properties")]
    &super::properties::Properties,
    #[cfg(feature = "keyvalue")]
    &super::keyvalue::KeyValue,
    &super::text::Plaintext,
    &super::text::Binary,
];

/// Those that this binary can read.
pub fn registered() -> &'static [&'static dyn ConfigFormat] {
    REGISTERED
}

/// How this one is read; none where this binary was built without it.
pub fn of(format: Format) -> Option<&'static dyn ConfigFormat> {
    REGISTERED.iter().copied().find(|f| f.format() == format)
}
