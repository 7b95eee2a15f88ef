//! Rows that are read once.

use std::{cell::RefCell, collections::HashMap};

use super::{Direction, Rows, Visit};
use crate::error::FatalError;

/// Larger values are read again: to keep them would cost more than it saves.
const LARGEST: usize = 16 << 10;

/// Rows that do not change meanwhile: what was read by its key is remembered. A command reads a row, and its sum and its invariants
/// ask for the same row once more; so do the commands after it in a batch.
pub(crate) struct ReadOnce<R> {
    rows: R,
    read: RefCell<HashMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl<R: Rows> ReadOnce<R> {
    pub(crate) fn new(rows: R) -> Self {
        Self { rows, read: RefCell::default() }
    }
}

impl<R: Rows> Rows for ReadOnce<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        if let Some(value) = self.read.borrow().get(key) {
            return Ok(value.clone());
        }
        let value = self.rows.get(key)?;
        if value.as_ref().is_none_or(|value| value.len() <= LARGEST) {
            self.read.borrow_mut().insert(key.to_vec(), value.clone());
        }
        Ok(value)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> Result<(), FatalError> {
        self.rows.scan(from, to, direction, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Counts how often it is asked.
    struct Counted(Cell<usize>);

    impl Rows for Counted {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
            self.0.set(self.0.get() + 1);
            Ok(match key {
                b"none" => None,
                b"large" => Some(vec![1; LARGEST + 1]),
                _ => Some(key.to_vec()),
            })
        }

        fn scan(&self, _: &[u8], _: &[u8], _: Direction, _: &mut Visit<'_>) -> Result<(), FatalError> {
            Ok(())
        }
    }

    /// Rows that are there and rows that are not, but not those that would fill the memory.
    #[test]
    fn what_was_read_is_not_read_again() {
        let rows = ReadOnce::new(Counted(Cell::new(0)));
        for _ in 0..3 {
            assert_eq!(rows.get(b"a").unwrap(), Some(b"a".to_vec()));
            assert_eq!(rows.get(b"none").unwrap(), None);
        }
        assert_eq!(rows.rows.0.get(), 2);
        for _ in 0..2 {
            assert_eq!(rows.get(b"large").unwrap().unwrap().len(), LARGEST + 1);
        }
        assert_eq!(rows.rows.0.get(), 4);
    }
}
