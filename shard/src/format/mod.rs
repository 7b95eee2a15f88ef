//! The formats of contents: which one it is, how it is served, what it means, and where in the text.
//!
//! [`ConfigFormat`] is what a format is to this service; `docs/formats.md` has the table. Every one with values is read to one
//! model ([`Value`]), bounded in size, depth and expansion ([`Limits`]).

mod detect;
#[cfg(feature = "ini")]
mod ini;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "keyvalue")]
mod keyvalue;
mod places;
#[cfg(feature = "properties")]
mod properties;
mod registry;
mod syntax;
mod text;
#[cfg(feature = "toml")]
mod toml;
mod value;
#[cfg(feature = "xml")]
mod xml;
#[cfg(feature = "yaml")]
mod yaml;

pub use detect::{Format, detect};
pub use places::{Place, Wanted};
pub use registry::{ConfigFormat, Shape, of, registered};
pub use syntax::{Limits, Parsed, SyntaxError, check, parse, turn};
pub use value::{Map, Shown, Value, push_step, shortened, steps};
