//! Placement's state database: which rows there are ([`keys`]) and how they are read and written ([`rows`]).

pub mod keys;
pub mod rows;

pub use keys::{Family, Key};
