//! What a log acknowledged as durable it has when it is opened again: each notes it outside of its disk (`CONFLUX_WITNESS`).

use std::fs;

use super::Evidence;
use crate::world::WITNESSES;

pub fn check(_: &Evidence<'_>) -> Result<(), String> {
    let found = fs::read_dir(WITNESSES).map_err(|e| format!("{WITNESSES}: {e}"))?;
    let mut broken: Vec<_> = found
        .filter_map(Result::ok)
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|e| e == "broken"))
        .collect();
    broken.sort();
    match broken.first() {
        None => Ok(()),
        Some(path) => Err(fs::read_to_string(path).unwrap_or_else(|e| e.to_string())),
    }
}
