//! Stands in for getrandom 0.2 (ring's): the same interface over `libc::getrandom`, which the simulation seeds.

use std::{fmt, num::NonZeroU32};

/// Why there are no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error(NonZeroU32);

impl Error {
    /// As getrandom 0.2 has it.
    pub const UNSUPPORTED: Error = Error(NonZeroU32::MAX);
    /// As getrandom 0.2 has it.
    pub const CUSTOM_START: u32 = 3 << 30;

    /// The code of the error.
    pub const fn code(self) -> NonZeroU32 {
        self.0
    }

    /// The error of the system, if it was one.
    pub const fn raw_os_error(self) -> Option<i32> {
        None
    }
}

impl From<NonZeroU32> for Error {
    fn from(code: NonZeroU32) -> Self {
        Self(code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no random bytes: {}", self.0)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::other(error)
    }
}

/// Fills `bytes`.
pub fn getrandom(bytes: &mut [u8]) -> Result<(), Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the pointer and the length are of one slice that is ours alone.
        let filled = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(filled) {
            Ok(filled) if filled > 0 => rest = &mut std::mem::take(&mut rest)[filled..],
            _ => return Err(Error::UNSUPPORTED),
        }
    }
    Ok(())
}
