//! Where values stand in the text. Asked only for what is told of: a parsed value carries no places.

use std::collections::BTreeMap;

use super::value::steps;

/// A place in a text. Line and column count from 1; 0: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// Of this byte.
    pub fn of(text: &[u8], offset: usize) -> Place {
        let before = &text[..offset.min(text.len())];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Place { line, column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1 }
    }
}

/// The values whose places are sought, as a tree of the steps of their pointers. A format walks its text and this tree
/// side by side.
#[derive(Debug, Default)]
pub struct Wanted {
    children: BTreeMap<String, Wanted>,
    place: Option<Place>,
}

impl Wanted {
    /// These pointers and all above them.
    pub fn of<'p>(pointers: impl IntoIterator<Item = &'p str>) -> Self {
        let mut root = Wanted::default();
        for pointer in pointers {
            steps(pointer).fold(&mut root, |node, step| node.children.entry(step).or_default());
        }
        root
    }

    /// What is sought below a member or an element.
    pub fn child(&mut self, step: &str) -> Option<&mut Wanted> {
        self.children.get_mut(step)
    }

    /// Whether nothing is sought below.
    pub fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// It stands here. The first answer stays.
    pub fn found(&mut self, place: Place) {
        self.place.get_or_insert(place);
    }

    /// Says of each place that was found what it is in other terms.
    #[cfg(feature = "yaml")]
    pub(super) fn each_place(&mut self, turned: &impl Fn(Place) -> Place) {
        self.place = self.place.map(turned);
        self.children.values_mut().for_each(|child| child.each_place(turned));
    }

    /// Where the pointer's value stands, or the nearest one above it whose place is known.
    pub fn place(&self, pointer: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in steps(pointer) {
            let Some(child) = node.children.get(&step) else { break };
            place = child.place.or(place);
            node = child;
        }
        place.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_place_is_told() {
        let mut wanted = Wanted::of(["/a/b", "/c"]);
        wanted.child("a").unwrap().found(Place { line: 2, column: 3 });
        assert_eq!(wanted.place("/a/b").line, 2);
        assert_eq!(wanted.place("/c"), Place::default());
        assert!(wanted.child("x").is_none());
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(Place::of("a\näö=".as_bytes(), 6), Place { line: 2, column: 3 });
    }
}
