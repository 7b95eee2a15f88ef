//! Where values stand in a YAML text.
//!
//! The parser tells places in its errors only. So the walk refuses each name and scalar that is sought, takes the place from the
//! error, and goes on behind it: the parser has stepped over it by then.

use std::{cell::RefCell, fmt};

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{
    super::{Place, Wanted},
    tag::Tag,
};

/// Finds the wanted values of a text that is known to be YAML.
pub(super) fn locate(text: &str, wanted: &mut Wanted) {
    let several = serde_yaml_ng::Deserializer::from_str(text).take(2).count() > 1;
    wanted.found(Place { line: 1, column: 1 });
    for (i, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let sought = if several { wanted.child(&i.to_string()) } else { Some(&mut *wanted) };
        // What cannot be walked was not sought.
        let _ = Seek(sought).deserialize(document);
    }
}

/// A value in which something is sought, or nothing. Answers where the first scalar in it stands, if that is known.
struct Seek<'w>(Option<&'w mut Wanted>);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<Place>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Place>, D::Error> {
        let Some(wanted) = self.0 else { return deserializer.deserialize_any(IgnoredAny).map(|_| None) };
        let place = match deserializer.deserialize_any(Walk(wanted)) {
            Ok(place) => place,
            Err(error) => refused(&error).map(Some)?,
        };
        if let Some(place) = place {
            wanted.found(place);
        }
        Ok(place)
    }
}

/// Begins the message of our own refusals.
const SOUGHT: &str = "sought by conflux";

/// The place of one of our refusals; another error stays one.
fn refused<E: Error>(error: &E) -> Result<Place, E> {
    let text = error.to_string();
    let Some((_, place)) = text.rsplit_once(SOUGHT) else { return Err(E::custom(text)) };
    let mut numbers = place.split(' ').filter_map(|word| word.parse().ok());
    // The very beginning is not told.
    Ok(Place { line: numbers.next().unwrap_or(1), column: numbers.next().unwrap_or(1) })
}

struct Walk<'w>(&'w mut Wanted);

macro_rules! refuse {
    ($result:ty; $($visit:ident: $type:ty),*) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<$result, E> {
            Err(E::custom(SOUGHT))
        })*
    };
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<Place>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    refuse!(Option<Place>; visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128,
        visit_f64: f64, visit_str: &str);

    fn visit_unit<E: Error>(self) -> Result<Option<Place>, E> {
        Err(E::custom(SOUGHT))
    }

    fn visit_none<E: Error>(self) -> Result<Option<Place>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Option<Place>, A::Error> {
        let mut first = None;
        for i in 0.. {
            let Some(place) = sequence.next_element_seed(Seek(self.0.child(&i.to_string())))? else { break };
            if i == 0 {
                first = place;
            }
        }
        Ok(first)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Option<Place>, A::Error> {
        let mut first = None;
        let mut is_first = true;
        while let Some((name, place)) = members.next_key_seed(SeekName { wanted: self.0, always: is_first })? {
            if is_first {
                (first, is_first) = (place, false);
            }
            let mut member = self.0.child(&name);
            if let (Some(member), Some(place)) = (&mut member, place) {
                member.found(place);
            }
            // A member of a merged map is found where it is merged from.
            if name == "<<" && member.is_none() {
                members.next_value_seed(Merged(self.0))?;
            } else {
                members.next_value_seed(Seek(member))?;
            }
        }
        Ok(first)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Option<Place>, A::Error> {
        let (_, value) = tagged.variant::<Tag>()?;
        value.newtype_variant_seed(Seek(Some(self.0)))
    }
}

/// What `<<` names: a map, or a list of maps.
struct Merged<'w>(&'w mut Wanted);

impl<'de> DeserializeSeed<'de> for Merged<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merged<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("maps to merge")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        Walk(self.0).visit_map(members).map(drop)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(Merged(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A name, and where it stands if it is sought.
struct SeekName<'w> {
    wanted: &'w mut Wanted,
    always: bool,
}

impl<'de> DeserializeSeed<'de> for SeekName<'_> {
    type Value = (String, Option<Place>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let kept = RefCell::new(String::new());
        let always = self.always;
        let name = ReadName { kept: &kept, refuse: |name: &str| always || self.wanted.child(name).is_some() };
        let place = match deserializer.deserialize_any(name) {
            Ok(()) => None,
            Err(error) => refused(&error).map(Some)?,
        };
        Ok((kept.into_inner(), place))
    }
}

struct ReadName<'k, F> {
    kept: &'k RefCell<String>,
    refuse: F,
}

impl<F: FnMut(&str) -> bool> ReadName<'_, F> {
    fn keep<E: Error>(mut self, name: String) -> Result<(), E> {
        let refuse = (self.refuse)(&name);
        *self.kept.borrow_mut() = name;
        if refuse { Err(E::custom(SOUGHT)) } else { Ok(()) }
    }
}

macro_rules! keep {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: Error>(self, name: $type) -> Result<(), E> {
            self.keep(name.to_string())
        })*
    };
}

impl<'de, F: FnMut(&str) -> bool> Visitor<'de> for ReadName<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    keep!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64,
        visit_str: &str);

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.keep("null".into())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (_, value) = tagged.variant::<Tag>()?;
        value.newtype_variant_seed(Inner(self))
    }
}

/// What a tagged name holds.
struct Inner<'k, F>(ReadName<'k, F>);

impl<'de, F: FnMut(&str) -> bool> DeserializeSeed<'de> for Inner<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, pointers: &[&str]) -> Vec<(usize, usize)> {
        let mut wanted = Wanted::of(pointers.iter().copied());
        locate(text, &mut wanted);
        pointers.iter().map(|p| wanted.place(p)).map(|p| (p.line, p.column)).collect()
    }

    // A violation that names no line is of little use in a file of a thousand.
    #[test]
    fn values_are_found() {
        let text = "a: 1\nserver:\n  port: 80\n  hosts:\n    - x\n    - name: y\n      id: 2\n  flow: {q: [1, 22]}\n";
        let found = places(
            text,
            &[
                "/a",
                "/server",
                "/server/port",
                "/server/hosts/0",
                "/server/hosts/1",
                "/server/hosts/1/id",
                "/server/flow/q/1",
            ],
        );
        assert_eq!(found, [(1, 1), (2, 1), (3, 3), (5, 7), (6, 7), (7, 7), (8, 17)]);
    }

    #[test]
    fn merged_aliased_and_tagged_values_are_found() {
        let text = "b: &b\n  x: 1\nd:\n  <<: *b\n  y: !T 2\n---\n- k: 5\n";
        assert_eq!(places(text, &["/0/d/x", "/0/d/y", "/1/0/k"]), [(2, 3), (5, 3), (7, 3)]);
    }

    #[test]
    fn what_is_not_there_is_found_above() {
        assert_eq!(places("a:\n  b: {}\n", &["/a/b/c", "/z"]), [(2, 3), (1, 1)]);
    }
}
