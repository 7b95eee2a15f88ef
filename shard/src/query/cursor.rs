//! Opaque cursors: base64url of a version byte and where the page ended, so that a listing is stable under writes.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use conflux_common::error::ApiError;

use crate::store::config::Place;

const NAME: &str = "n1";
const NUMBER: &str = "v1";
const SCOPE: &str = "s1";

/// A cursor behind this name.
pub(super) fn of_place(place: &Place) -> String {
    URL_SAFE_NO_PAD.encode([NAME, &place.app, &place.env, &place.name].join("\0"))
}

/// Reads [`of_place`]; empty: the beginning.
pub(super) fn place(cursor: &str) -> Result<Option<Place>, ApiError> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let text = text(cursor)?;
    match text.split('\0').collect::<Vec<_>>()[..] {
        [NAME, app, env, name] => Ok(Some(Place { app: app.into(), env: env.into(), name: name.into() })),
        _ => Err(foreign()),
    }
}

/// A cursor below this number.
pub(super) fn of_number(number: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{NUMBER}\0{number}"))
}

/// Reads [`of_number`]; empty: the beginning, 0.
pub(super) fn number(cursor: &str) -> Result<u64, ApiError> {
    if cursor.is_empty() {
        return Ok(0);
    }
    let text = text(cursor)?;
    let number = text.split_once('\0').filter(|(kind, _)| *kind == NUMBER).and_then(|(_, n)| n.parse().ok());
    number.filter(|n| *n > 0).ok_or_else(foreign)
}

/// A cursor behind this application or environment.
pub(super) fn of_name(name: &str) -> String {
    URL_SAFE_NO_PAD.encode([SCOPE, name].join("\0"))
}

/// Reads [`of_name`]; empty: the beginning.
pub(super) fn name(cursor: &str) -> Result<Option<String>, ApiError> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let text = text(cursor)?;
    let name = text.split_once('\0').filter(|(kind, name)| *kind == SCOPE && !name.contains('\0'));
    name.map(|(_, name)| Some(name.to_owned())).ok_or_else(foreign)
}

fn text(cursor: &str) -> Result<String, ApiError> {
    // A name's triple has at most 256 bytes; anything longer was not made here.
    let bytes = Some(cursor).filter(|c| c.len() <= 1024).and_then(|c| URL_SAFE_NO_PAD.decode(c).ok());
    bytes.and_then(|b| String::from_utf8(b).ok()).ok_or_else(foreign)
}

fn foreign() -> ApiError {
    ApiError::invalid("cursor", "pass `next_cursor` of the page before, unchanged")
}

#[cfg(test)]
mod tests {
    use super::*;

    // A cursor that reads back as another place would skip or repeat configs.
    #[test]
    fn cursors_round_trip_and_foreign_ones_are_refused() {
        let at = Place { app: "a".into(), env: "b".into(), name: "c.yaml".into() };
        assert_eq!(place(&of_place(&at)).unwrap(), Some(at.clone()));
        assert_eq!(number(&of_number(7)).unwrap(), 7);
        assert_eq!(name(&of_name("shop")).unwrap(), Some("shop".into()));
        assert!(name(&of_number(7)).is_err());
        assert_eq!(place("").unwrap(), None);
        for bad in [of_number(7).as_str(), "x", "%%%", &"a".repeat(5000)] {
            assert!(place(bad).is_err(), "{bad}");
        }
        assert!(number(&of_place(&at)).is_err());
        assert!(number(&of_number(0)).is_err());
    }
}
