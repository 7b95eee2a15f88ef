//! Contents that are not looked into: any text, any bytes.

use super::{ConfigFormat, Format, Limits, Place, Shape, SyntaxError, Value, Wanted};

/// Any UTF-8 text. Its value is the whole text, so that a schema may bound its length or give a pattern.
pub(super) struct Plaintext;

impl ConfigFormat for Plaintext {
    fn format(&self) -> Format {
        Format::Plaintext
    }

    // Not `text/plain`: many clients send that for any file.
    fn media_types(&self) -> &'static [&'static str] {
        &[]
    }

    // Formats of their own that many programs call `.conf` and `.cfg` are refused nowhere.
    fn extensions(&self) -> &'static [&'static str] {
        &["txt", "text", "md", "log", "conf", "cfg"]
    }

    fn shape(&self) -> Shape {
        Shape::Text
    }

    fn parse(&self, text: &str, _: &Limits) -> Result<Value, SyntaxError> {
        Ok(Value::Text(text.to_owned()))
    }

    fn locate(&self, _: &str, wanted: &mut Wanted) {
        wanted.found(Place { line: 1, column: 1 });
    }
}

/// Any bytes.
pub(super) struct Binary;

impl ConfigFormat for Binary {
    fn format(&self) -> Format {
        Format::Binary
    }

    fn media_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["bin"]
    }

    fn shape(&self) -> Shape {
        Shape::Bytes
    }

    fn parse(&self, _: &str, _: &Limits) -> Result<Value, SyntaxError> {
        Err(SyntaxError::new(0, 0, "bytes have no values"))
    }

    fn locate(&self, _: &str, _: &mut Wanted) {}
}
