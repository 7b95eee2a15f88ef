//! The lanes behind the door.

pub mod unary;
