//! By value: what a reader of the configuration sees otherwise, each with its JSON pointer. Order in maps, comments and layout are
//! nothing to it.

use crate::format::{Map, Shown, Value, push_step};

/// Changes that are told of.
pub const MAX_CHANGES: usize = 1_000;

/// What happened to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is another.
    Changed,
}

impl Kind {
    /// As answers write it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Removed => "removed",
            Kind::Changed => "changed",
        }
    }
}

/// A value that is different.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// A JSON pointer: into the first content for what was removed, else into the second.
    pub path: String,
    /// What happened.
    pub kind: Kind,
    /// What it was; long ones are cut.
    pub from: Option<serde_json::Value>,
    /// What it is; long ones are cut.
    pub to: Option<serde_json::Value>,
}

/// What is different, by value.
#[derive(Debug, Default, PartialEq)]
pub struct Values {
    /// In the order of the first content, then of the second.
    pub changes: Vec<Change>,
    /// There are more.
    pub truncated: bool,
}

/// Compares two values.
pub fn values(from: &Value, to: &Value) -> Values {
    // Of all changes together: an answer of a thousand long values would be of no use.
    let shown = Shown { values: 10_000, characters: 256 << 10 };
    let mut walk = Walk { found: Values::default(), path: String::new(), shown };
    walk.compare(from, to);
    walk.found
}

struct Walk {
    found: Values,
    path: String,
    shown: Shown,
}

impl Walk {
    fn compare(&mut self, from: &Value, to: &Value) {
        if self.found.truncated {
            return;
        }
        match (from, to) {
            (Value::Map(from), Value::Map(to)) => self.maps(from, to),
            (Value::List(from), Value::List(to)) => self.lists(from, to),
            _ if from == to => {}
            _ => self.tell(Kind::Changed, Some(from), Some(to)),
        }
    }

    fn maps(&mut self, from: &Map, to: &Map) {
        for (name, old) in from {
            self.inside(name, |walk| match to.get(name) {
                Some(new) => walk.compare(old, new),
                None => walk.tell(Kind::Removed, Some(old), None),
            });
        }
        for (name, new) in to.iter().filter(|(name, _)| !from.contains_key(*name)) {
            self.inside(name, |walk| walk.tell(Kind::Added, None, Some(new)));
        }
    }

    /// What both begin and end with is the same, so that an element more is just that.
    fn lists(&mut self, from: &[Value], to: &[Value]) {
        let same = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        let (old, new) = (&from[same..], &to[same..]);
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
        for i in 0..old.len().max(new.len()) {
            self.inside(&(same + i).to_string(), |walk| match (old.get(i), new.get(i)) {
                (Some(old), Some(new)) => walk.compare(old, new),
                (Some(old), None) => walk.tell(Kind::Removed, Some(old), None),
                (None, new) => walk.tell(Kind::Added, None, new),
            });
        }
    }

    fn inside(&mut self, step: &str, each: impl FnOnce(&mut Self)) {
        if self.found.truncated {
            return;
        }
        let length = self.path.len();
        push_step(&mut self.path, step);
        each(self);
        self.path.truncate(length);
    }

    fn tell(&mut self, kind: Kind, from: Option<&Value>, to: Option<&Value>) {
        if self.found.changes.len() == MAX_CHANGES {
            self.found.truncated = true;
            return;
        }
        let from = from.map(|value| value.to_json(&mut self.shown));
        let to = to.map(|value| value.to_json(&mut self.shown));
        self.found.changes.push(Change { path: self.path.clone(), kind, from, to });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(from: &str, to: &str) -> Vec<(String, &'static str, serde_json::Value, serde_json::Value)> {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let found = values(&read(from), &read(to)).changes;
        found
            .into_iter()
            .map(|c| (c.path, c.kind.name(), c.from.unwrap_or_default(), c.to.unwrap_or_default()))
            .collect()
    }

    fn change(
        path: &str,
        kind: &'static str,
        from: serde_json::Value,
        to: serde_json::Value,
    ) -> (String, &'static str, serde_json::Value, serde_json::Value) {
        (path.to_owned(), kind, from, to)
    }

    #[test]
    fn each_change_has_its_path() {
        let from = r#"{"a": 1, "b": {"c": [1, 2, 3], "d/e": "x"}, "gone": true}"#;
        let to = r#"{"b": {"d/e": "y", "c": [1, 3]}, "a": 1, "new": {"x": null}}"#;
        let expected = [
            change("/b/c/1", "removed", json!(2), json!(null)),
            change("/b/d~1e", "changed", json!("x"), json!("y")),
            change("/gone", "removed", json!(true), json!(null)),
            change("/new", "added", json!(null), json!({"x": null})),
        ];
        assert_eq!(told(from, to), expected);
        assert_eq!(told(from, from), []);
        assert_eq!(told("{}", "[]"), [change("", "changed", json!({}), json!([]))]);
        assert_eq!(told("[{\"a\": 1}, 2]", "[{\"a\": 2}, 2]"), [change("/0/a", "changed", json!(1), json!(2))]);
    }

    // An answer has a bound whatever the contents are.
    #[test]
    fn changes_are_bounded() {
        let list = |word: &str| {
            Value::List((0..5_000).map(|i| Value::Text(format!("{word}{i}{}", "z".repeat(5_000)))).collect())
        };
        let found = values(&list("a"), &list("b"));
        assert_eq!((found.changes.len(), found.truncated), (MAX_CHANGES, true));
        let shown: usize = found.changes.iter().map(|c| c.from.clone().unwrap_or_default().to_string().len()).sum();
        assert!(shown < 300 << 10, "{shown}");
        let exact = values(&Value::List(vec![]), &Value::List(vec![Value::Null; MAX_CHANGES]));
        assert_eq!((exact.changes.len(), exact.truncated), (MAX_CHANGES, false));
    }

    // What people read of a change is the change.
    #[test]
    fn values_are_shown_whole_as_long_as_there_is_room() {
        let text = "x".repeat(2_000);
        let found = values(&Value::Null, &Value::Text(text.clone()));
        assert_eq!(found.changes[0].to, Some(json!(text)));
    }
}
