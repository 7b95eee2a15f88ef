//! Walking rows.

use std::{marker::PhantomData, ops::Bound, sync::Arc};

use crate::{DB, Error, image::Rows, options::ReadOptions};

/// Key and value.
type Row = (Arc<[u8]>, Arc<[u8]>);

/// Walks the rows of one moment, within the bounds that it was given.
pub struct DBRawIterator<'a> {
    rows: Rows,
    lower: Bound<Arc<[u8]>>,
    upper: Bound<Arc<[u8]>>,
    at: Option<Row>,
    db: PhantomData<&'a DB>,
}

impl DBRawIterator<'_> {
    pub(crate) fn new(rows: Rows, options: ReadOptions) -> Self {
        let lower = options.lower.map_or(Bound::Unbounded, |key| Bound::Included(key.into()));
        let upper = options.upper.map_or(Bound::Unbounded, |key| Bound::Excluded(key.into()));
        Self { rows, lower, upper, at: None, db: PhantomData }
    }

    fn first(&self, from: Bound<Arc<[u8]>>) -> Option<Row> {
        let (key, value) = self.rows.range((from, Bound::Unbounded)).next()?;
        let within = match &self.upper {
            Bound::Excluded(upper) => key < upper,
            _ => true,
        };
        within.then(|| (key.clone(), value.clone()))
    }

    fn last(&self, to: Bound<Arc<[u8]>>) -> Option<Row> {
        let (key, value) = self.rows.range((Bound::Unbounded, to)).next_back()?;
        let within = match &self.lower {
            Bound::Included(lower) => key >= lower,
            _ => true,
        };
        within.then(|| (key.clone(), value.clone()))
    }

    /// To the first row.
    pub fn seek_to_first(&mut self) {
        self.at = self.first(self.lower.clone());
    }

    /// To the last row.
    pub fn seek_to_last(&mut self) {
        self.at = self.last(self.upper.clone());
    }

    /// To the first row at or after this key.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) {
        self.at = self.first(Bound::Included(key.as_ref().into()));
    }

    /// To the row after.
    pub fn next(&mut self) {
        self.at = self.at.take().and_then(|(key, _)| self.first(Bound::Excluded(key)));
    }

    /// To the row before.
    pub fn prev(&mut self) {
        self.at = self.at.take().and_then(|(key, _)| self.last(Bound::Excluded(key)));
    }

    /// Key and value here; none: past an end.
    pub fn item(&self) -> Option<(&[u8], &[u8])> {
        self.at.as_ref().map(|(key, value)| (&**key, &**value))
    }

    /// Memory does not fail.
    pub fn status(&self) -> Result<(), Error> {
        Ok(())
    }
}
