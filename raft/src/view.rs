//! The state as rows: one ordered key space of the application, read at one moment or within one apply.

mod merge;
mod once;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, ControlFlow},
};

use self::merge::{Fresh, visit_before};
pub(crate) use self::once::ReadOnce;
use crate::error::FatalError;

/// What a scan calls with each row: key and value.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Reading rows.
pub trait Read {
    /// The value under this key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError>;

    /// Calls `visit` with each row of `from..to` in key order until it breaks.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError>;

    /// The same, from the last row backwards.
    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError>;
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Back,
}

/// Where rows come from: a database, a snapshot of it, or memory. A scan's range is never empty.
pub(crate) trait Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError>;
    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> Result<(), FatalError>;
}

/// Rows that were set (`Some`) or removed (`None`) and are not in the database yet.
pub(crate) type Overlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The state at one moment: a RocksDB snapshot.
pub struct View<'a> {
    rows: &'a dyn Rows,
}

impl<'a> View<'a> {
    pub(crate) fn new(rows: &'a dyn Rows) -> Self {
        Self { rows }
    }
}

impl Read for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError> {
        if from < to { self.rows.scan(from, to, Direction::Forward, visit) } else { Ok(()) }
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError> {
        if from < to { self.rows.scan(from, to, Direction::Back, visit) } else { Ok(()) }
    }
}

/// The state within one apply: reads see the writes made before by this command, and by the earlier commands of the
/// same batch.
pub struct Tx<'a> {
    rows: &'a dyn Rows,
    earlier: &'a Overlay,
    own: Overlay,
    /// Of the own ones, those that were not there before: nobody needs to look.
    new: BTreeSet<Vec<u8>>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(rows: &'a dyn Rows, earlier: &'a Overlay) -> Self {
        Self { rows, earlier, own: Overlay::new(), new: BTreeSet::new() }
    }

    pub(crate) fn into_overlay(self) -> Overlay {
        self.own
    }

    /// Sets a row.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.own.insert(key.into(), Some(value.into()));
    }

    /// Sets a row that is known not to have been there before this command, as that of a number that only grows: what was
    /// [`before`](Self::before) is then answered without a look at the disk. In debug builds it is looked at all the same.
    ///
    /// # Panics
    /// In debug builds, if it was there.
    pub fn put_new(&mut self, key: Vec<u8>, value: impl Into<Vec<u8>>) {
        debug_assert!(matches!(self.before(&key), Ok(None)), "the row {} was there", key.escape_ascii());
        self.new.insert(key.clone());
        self.put(key, value);
    }

    /// Removes a row.
    pub fn delete(&mut self, key: &[u8]) {
        self.own.insert(key.to_vec(), None);
    }

    /// Takes back everything that this command has written so far.
    pub fn undo(&mut self) {
        self.own.clear();
        self.new.clear();
    }

    /// The rows that were set (`Some`) or removed (`None`) by this command so far, in key order.
    pub fn touched(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.own.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// The row as it was before this command.
    pub fn before(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        if self.new.contains(key) {
            return Ok(None);
        }
        match self.earlier.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.rows.get(key),
        }
    }

    fn merged_scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), FatalError> {
        if from >= to {
            return Ok(());
        }
        let mut fresh = Fresh::new(&self.own, self.earlier, from, to, direction).peekable();
        let mut broke = false;
        self.rows.scan(from, to, direction, &mut |key, value| {
            let flow = visit_before(&mut fresh, key, value, direction, visit);
            broke = flow.is_break();
            flow
        })?;
        if !broke {
            for (key, value) in fresh {
                if let Some(value) = value
                    && visit(key, value).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Read for Tx<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        match self.own.get(key).or_else(|| self.earlier.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.rows.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError> {
        self.merged_scan(from, to, Direction::Forward, visit)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), FatalError> {
        self.merged_scan(from, to, Direction::Back, visit)
    }
}

/// A state machine's rows in memory, for unit tests of an [`App`](crate::App): `apply` one command after another and
/// look at the rows, without Raft and without a disk.
pub struct MemoryState {
    rows: MemoryRows,
}

struct MemoryRows(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> Result<(), FatalError> {
        let mut range = self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        loop {
            let row = if direction == Direction::Forward { range.next() } else { range.next_back() };
            let Some((key, value)) = row else { return Ok(()) };
            if visit(key, value).is_break() {
                return Ok(());
            }
        }
    }
}

impl MemoryState {
    /// Empty.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { rows: MemoryRows(BTreeMap::new()) }
    }

    /// Runs `f` in a transaction and commits it.
    pub fn apply<R>(&mut self, f: impl FnOnce(&mut Tx<'_>) -> R) -> R {
        let nothing = Overlay::new();
        let mut tx = Tx::new(&self.rows, &nothing);
        let out = f(&mut tx);
        for (key, value) in tx.into_overlay() {
            match value {
                Some(value) => self.rows.0.insert(key, value),
                None => self.rows.0.remove(&key),
            };
        }
        out
    }

    /// Reads the rows.
    pub fn read<R>(&self, f: impl FnOnce(&View<'_>) -> R) -> R {
        f(&View::new(&self.rows))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows_of(read: &impl Read, from: &[u8], to: &[u8], direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        match direction {
            Direction::Forward => read.scan(from, to, &mut visit).unwrap(),
            Direction::Back => read.scan_back(from, to, &mut visit).unwrap(),
        }
        rows
    }

    fn change() -> impl Strategy<Value = (u8, Option<u8>)> {
        (0u8..12, proptest::option::of(any::<u8>()))
    }

    fn put_all(tx: &mut Tx<'_>, changes: &[(u8, Option<u8>)]) {
        for (key, value) in changes {
            match value {
                Some(value) => tx.put([*key], [*value]),
                None => tx.delete(&[*key]),
            }
        }
    }

    proptest! {
        // A command must see its own writes and those of earlier commands of its batch as if each had been committed.
        #[test]
        fn a_transaction_reads_as_if_committed(
            base in proptest::collection::vec(change(), 0..20),
            earlier in proptest::collection::vec(change(), 0..20),
            own in proptest::collection::vec(change(), 0..20),
            from in 0u8..13, to in 0u8..13,
        ) {
            let mut stored = MemoryState::new();
            stored.apply(|tx| put_all(tx, &base));
            let nothing = Overlay::new();
            let mut first = Tx::new(&stored.rows, &nothing);
            put_all(&mut first, &earlier);
            let first = first.into_overlay();
            let mut second = Tx::new(&stored.rows, &first);
            put_all(&mut second, &own);

            let mut model = MemoryState::new();
            for changes in [&base, &earlier, &own] {
                model.apply(|tx| put_all(tx, changes));
            }
            model.read(|model| {
                for direction in [Direction::Forward, Direction::Back] {
                    assert_eq!(
                        rows_of(&second, &[from], &[to], direction),
                        rows_of(model, &[from], &[to], direction)
                    );
                }
                for key in 0..12 {
                    assert_eq!(second.get(&[key]).unwrap(), model.get(&[key]).unwrap());
                }
            });
        }
    }

    // Invariant checks look at the rows of one command, not at those of its whole batch.
    #[test]
    fn touched_is_of_one_command() {
        let stored = MemoryState::new();
        let earlier = Overlay::from([(b"a".to_vec(), Some(b"1".to_vec()))]);
        let mut tx = Tx::new(&stored.rows, &earlier);
        tx.put(b"b", b"2");
        tx.delete(b"a");
        let touched: Vec<_> = tx.touched().collect();
        assert_eq!(touched, [(&b"a"[..], None), (&b"b"[..], Some(&b"2"[..]))]);
        // What was there before it is what the earlier commands of the batch have made.
        assert_eq!(tx.before(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(tx.before(b"b").unwrap(), None);
    }

    // Nobody pays for a look at what cannot be there; one that is there after all is a defect.
    #[test]
    fn what_is_new_was_not_there() {
        let (stored, earlier) = (MemoryState::new(), Overlay::new());
        let mut tx = Tx::new(&stored.rows, &earlier);
        tx.put_new(b"a".to_vec(), b"1");
        assert_eq!((tx.get(b"a").unwrap().as_deref(), tx.before(b"a").unwrap()), (Some(&b"1"[..]), None));
        tx.undo();
        assert_eq!(tx.touched().count(), 0);
        drop(tx);
        let earlier = Overlay::from([(b"a".to_vec(), Some(b"1".to_vec()))]);
        let mut tx = Tx::new(&stored.rows, &earlier);
        let put = std::panic::AssertUnwindSafe(|| tx.put_new(b"a".to_vec(), b"2"));
        assert_eq!(std::panic::catch_unwind(put).is_err(), cfg!(debug_assertions));
    }

    // A visitor that has seen enough must not be called again, wherever the row came from.
    #[test]
    fn a_scan_stops_where_the_visitor_breaks() {
        let mut stored = MemoryState::new();
        stored.apply(|tx| put_all(tx, &[(1, Some(1)), (3, Some(3)), (5, Some(5))]));
        let nothing = Overlay::new();
        let mut tx = Tx::new(&stored.rows, &nothing);
        put_all(&mut tx, &[(0, Some(0)), (2, Some(2)), (6, Some(6))]);
        for stop_at in 0u8..=6 {
            let mut seen = Vec::new();
            tx.scan(&[0], &[9], &mut |key, _| {
                seen.push(key[0]);
                if key[0] == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
            let all = [0u8, 1, 2, 3, 5, 6];
            let expected: Vec<u8> = if all.contains(&stop_at) {
                all.iter().copied().filter(|k| *k <= stop_at).collect()
            } else {
                all.to_vec()
            };
            assert_eq!(seen, expected);
        }
    }
}
