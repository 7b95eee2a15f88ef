//! The formats of contents: which one it is, how it is served, whether its syntax is right.

mod detect;
mod flow;
mod json;
mod syntax;
mod toml;
mod yaml;

pub use detect::{Format, detect};
pub use syntax::{Limits, SyntaxError, check};
