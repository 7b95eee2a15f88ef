//! Rows that are not in the database yet, merged into a scan of those that are.

use std::{
    cmp::Ordering,
    collections::btree_map,
    iter::Peekable,
    ops::{Bound, ControlFlow},
};

use super::{Direction, Overlay, Visit};

/// Visits the fresh rows that come before the stored one at `key`, then that one unless a fresh row hides it.
pub(super) fn visit_before(
    fresh: &mut Peekable<Fresh<'_>>,
    key: &[u8],
    value: &[u8],
    direction: Direction,
    visit: &mut Visit<'_>,
) -> ControlFlow<()> {
    while let Some((fresh_key, fresh_value)) = fresh.peek().copied() {
        let order = in_order(fresh_key, key, direction);
        if order == Ordering::Greater {
            break;
        }
        fresh.next();
        if let Some(fresh_value) = fresh_value {
            visit(fresh_key, fresh_value)?;
        }
        if order == Ordering::Equal {
            return ControlFlow::Continue(());
        }
    }
    visit(key, value)
}

fn in_order(a: &[u8], b: &[u8], direction: Direction) -> Ordering {
    match direction {
        Direction::Forward => a.cmp(b),
        Direction::Back => b.cmp(a),
    }
}

type FreshRow<'o> = (&'o [u8], Option<&'o [u8]>);

/// The rows of two overlays in the order of a scan; the first one's hide the second one's.
pub(super) struct Fresh<'o> {
    own: Peekable<Directed<'o>>,
    earlier: Peekable<Directed<'o>>,
    direction: Direction,
}

impl<'o> Fresh<'o> {
    pub(super) fn new(own: &'o Overlay, earlier: &'o Overlay, from: &[u8], to: &[u8], direction: Direction) -> Self {
        let directed = |overlay: &'o Overlay| {
            let range = overlay.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
            Directed { range, direction }.peekable()
        };
        Self { own: directed(own), earlier: directed(earlier), direction }
    }
}

impl<'o> Iterator for Fresh<'o> {
    type Item = FreshRow<'o>;

    fn next(&mut self) -> Option<FreshRow<'o>> {
        let order = match (self.own.peek(), self.earlier.peek()) {
            (Some((own, _)), Some((earlier, _))) => in_order(own, earlier, self.direction),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        if order == Ordering::Equal {
            self.earlier.next();
        }
        if order == Ordering::Greater { self.earlier.next() } else { self.own.next() }
    }
}

struct Directed<'o> {
    range: btree_map::Range<'o, Vec<u8>, Option<Vec<u8>>>,
    direction: Direction,
}

impl<'o> Iterator for Directed<'o> {
    type Item = FreshRow<'o>;

    fn next(&mut self) -> Option<FreshRow<'o>> {
        let row = match self.direction {
            Direction::Forward => self.range.next(),
            Direction::Back => self.range.next_back(),
        };
        row.map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}
