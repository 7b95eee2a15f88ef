//! How many bytes of log lie between two indexes, within 64 KiB: snapshots and purges are triggered by bytes.

use std::collections::BTreeMap;

/// A mark is set after so many bytes.
const MARK_EVERY: u64 = 64 << 10;

/// Bytes logged up to some indexes, counted from an arbitrary start.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    marks: BTreeMap<u64, u64>,
    total: u64,
    purged: u64,
}

impl Sizes {
    /// From the stored marks; entries after the last one are counted by [`Sizes::append`].
    pub(crate) fn load(marks: BTreeMap<u64, u64>, purged_index: Option<u64>) -> Self {
        let total = marks.last_key_value().map_or(0, |(_, bytes)| *bytes);
        let mut sizes = Self { marks, total, purged: 0 };
        if let Some(index) = purged_index {
            sizes.purge(index);
        }
        sizes
    }

    /// The index after which entries are not counted yet.
    pub(crate) fn counted_to(&self) -> Option<u64> {
        self.marks.last_key_value().map(|(index, _)| *index)
    }

    /// The mark where counting begins; those below need not be stored.
    pub(crate) fn first_mark(&self) -> Option<u64> {
        self.marks.first_key_value().map(|(index, _)| *index)
    }

    /// Counts an entry. Some: a mark that must be stored with it.
    pub(crate) fn append(&mut self, index: u64, bytes: u64) -> Option<u64> {
        self.total += bytes;
        let marked = self.marks.last_key_value().map_or(self.purged, |(_, bytes)| *bytes);
        if self.total - marked < MARK_EVERY {
            return None;
        }
        self.marks.insert(index, self.total);
        Some(self.total)
    }

    /// Forgets the marks after `index` (`None`: all); the entries between the last mark left and `index` must be counted again.
    pub(crate) fn truncate(&mut self, index: Option<u64>) {
        self.marks.retain(|marked, _| index.is_some_and(|index| *marked <= index));
        self.total = self.marks.last_key_value().map_or(self.purged, |(_, bytes)| *bytes);
    }

    /// Entries up to `index` are gone. Marks below are forgotten; the one that stays is where counting begins.
    pub(crate) fn purge(&mut self, index: u64) {
        if let Some((&base, &bytes)) = self.marks.range(..=index).next_back() {
            self.marks.retain(|marked, _| *marked >= base);
            self.purged = self.purged.max(bytes);
        }
    }

    /// Everything is purged.
    pub(crate) fn clear(&mut self) {
        self.purged = self.total;
    }

    /// Bytes that are not purged, within 64 KiB.
    pub(crate) fn bytes(&self) -> u64 {
        self.total.saturating_sub(self.purged)
    }

    /// The highest index up to `upto` that may be purged so that at least `keep` bytes stay.
    pub(crate) fn purge_point(&self, keep: u64, upto: u64) -> Option<u64> {
        if keep == 0 {
            return Some(upto);
        }
        self.marks
            .range(..=upto)
            .rev()
            .find(|(_, bytes)| self.total - **bytes >= keep && **bytes > self.purged)
            .map(|(index, _)| *index)
    }

    /// Bytes after `index`, within 64 KiB.
    pub(crate) fn bytes_after(&self, index: u64) -> u64 {
        let upto = self.marks.range(..=index).next_back().map_or(self.purged, |(_, bytes)| *bytes);
        self.total.saturating_sub(upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(entries: u64, bytes: u64) -> Sizes {
        let mut sizes = Sizes::default();
        for index in 1..=entries {
            sizes.append(index, bytes);
        }
        sizes
    }

    // Purging too much costs a slow member a whole snapshot; purging nothing fills the disk.
    #[test]
    fn the_purge_point_keeps_what_it_must_and_little_more() {
        let sizes = filled(4000, 10_000);
        let point = sizes.purge_point(10 << 20, 4000).unwrap();
        let kept = (4000 - point) * 10_000;
        assert!((10 << 20..12 << 20).contains(&kept), "{kept}");
        assert!(sizes.purge_point(10 << 20, 500).unwrap() <= 500);
        assert_eq!(sizes.purge_point(1 << 30, 4000), None);
        assert_eq!(sizes.purge_point(0, 3999), Some(3999));
    }

    // A restart must not forget how large the log is.
    #[test]
    fn counts_survive_purge_truncate_and_reload() {
        let mut sizes = filled(4000, 10_000);
        sizes.purge(1000);
        assert!((29 << 20..=31 << 20).contains(&(sizes.bytes() + (1 << 20))), "{}", sizes.bytes());
        let mut loaded = Sizes::load(sizes.marks.clone(), Some(1000));
        for index in loaded.counted_to().unwrap() + 1..=4000 {
            loaded.append(index, 10_000);
        }
        assert_eq!(loaded.bytes(), sizes.bytes());
        sizes.truncate(Some(2000));
        for index in sizes.counted_to().unwrap() + 1..=2000 {
            sizes.append(index, 10_000);
        }
        assert!(sizes.bytes().abs_diff(10_000_000) < 2 << 20, "{}", sizes.bytes());
        assert!(sizes.bytes_after(1500).abs_diff(5_000_000) < 2 << 20);
    }
}
