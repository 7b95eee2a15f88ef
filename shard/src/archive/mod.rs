//! Archives of configs: a zip with `manifest.json` and one file for each config. Pure: bytes in, bytes out, within [`bounds`].
//!
//! [`write()`] makes one; [`Opened`] reads one that anybody may have made, and trusts nothing in it.

pub mod bounds;
mod directory;
mod error;
mod manifest;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use self::{
    error::ArchiveError,
    manifest::{Entry, FORMAT, Kept, MANIFEST, Manifest},
    read::{Archive, Opened},
    write::{Writer, write},
};
