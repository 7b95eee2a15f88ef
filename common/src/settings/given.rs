//! Values from outside the file: variables and flags.

use toml::{Table, Value};

use super::error::{Origin, SettingsError};

/// One of them.
pub(super) struct Given {
    pub(super) from: Origin,
    pub(super) path: Vec<String>,
    text: String,
}

impl Given {
    /// `<prefix>__RAFT__HEARTBEAT_MS`; a variable of another prefix is none of ours.
    pub(super) fn from_environment(prefix: &str, (name, text): (String, String)) -> Option<Self> {
        let rest = name.strip_prefix(prefix)?.strip_prefix("__")?;
        let path = rest.split("__").map(str::to_ascii_lowercase).collect();
        Some(Self { from: Origin::Environment(name), path, text })
    }

    /// `raft.heartbeat_ms`.
    pub(super) fn from_flag((path, text): &(String, String)) -> Self {
        let parts = path.split('.').map(str::to_owned).collect();
        Self { from: Origin::Flag(path.clone()), path: parts, text: text.clone() }
    }

    /// As TOML, else as text.
    pub(super) fn parsed(&self) -> Value {
        // One line only: what has more could say something about other fields.
        let table =
            if self.text.contains('\n') { None } else { format!("value = {}", self.text).parse::<Table>().ok() };
        match table.and_then(|mut table| table.remove("value")) {
            // No field of ours is a date, but a name may look like one.
            Some(Value::Datetime(_)) | None => self.literal(),
            Some(value) => value,
        }
    }

    /// As text.
    pub(super) fn literal(&self) -> Value {
        Value::String(self.text.clone())
    }

    /// Puts the value into its place; tables on the way are made.
    pub(super) fn put(&self, whole: &mut Value, value: Value) -> Result<(), SettingsError> {
        let placed = if self.path.iter().any(String::is_empty) {
            Err("a part of its name is empty".to_owned())
        } else {
            self.put_at(whole, 0, value)
        };
        placed.map_err(|message| SettingsError::Misplaced { from: self.from.clone(), message })
    }

    fn put_at(&self, place: &mut Value, depth: usize, value: Value) -> Result<(), String> {
        let Some(part) = self.path.get(depth) else {
            *place = value;
            return Ok(());
        };
        let next = match place {
            Value::Table(table) => table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(list) => {
                let count = list.len();
                let element = part.parse::<usize>().ok().and_then(|at| list.get_mut(at));
                element.ok_or_else(|| format!("the list has {count} elements, counted from 0; {part:?} is none"))?
            }
            _ => return Err(format!("{} is a single value and has no parts", self.path[..depth].join("."))),
        };
        self.put_at(next, depth + 1, value)
    }
}
