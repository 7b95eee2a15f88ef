//! Names and numbers that identify things. An invalid one cannot be made (DESIGN section 6).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a name was refused: what it names, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not valid: {rule}")]
pub struct InvalidName {
    /// What it names: `tenant`, `app`, `config name` and so on.
    pub what: &'static str,
    /// What was given, cut to 64 characters.
    pub given: String,
    /// What is allowed.
    pub rule: String,
}

fn check(what: &'static str, text: &str, extra: &str, max: usize) -> Result<(), InvalidName> {
    let bytes = text.as_bytes();
    let valid = !bytes.is_empty()
        && bytes.len() <= max
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(b));
    if valid {
        return Ok(());
    }
    Err(InvalidName {
        what,
        given: text.chars().take(64).collect(),
        rule: format!("1 to {max} characters, a letter or digit first, then letters, digits and any of \"{extra}\""),
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $extra:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks and takes the name.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check($what, &text, $extra, $max)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(/** A federation: part of each certificate's URI. */ ClusterName, "cluster", "._-", 63);
name!(/** A Raft group: `placement`, or a shard's name. */ GroupName, "group", "._-", 63);
name!(/** One process of a group, or a gateway. Stable over restarts and replacements. */ MemberName, "member", "._-", 63);
name!(/** An application of a tenant. */ AppName, "app", "._-", 63);
name!(/** An environment of an application. */ EnvName, "env", "._-", 63);
name!(/** A configuration file of an environment. */ ConfigName, "config name", "._:@+-", 128);
name!(/** The plain part of a [`TenantName`]. */ TenantText, "tenant", "._-", 63);

/// Words that cannot name a tenant, since paths without a tenant begin with them.
pub const RESERVED_TENANT_NAMES: &[&str] = &[
    "admin",
    "api",
    "apps",
    "audit",
    "changesets",
    "cluster",
    "compare",
    "config",
    "configs",
    "docs",
    "drafts",
    "envs",
    "export",
    "fetch",
    "health",
    "import",
    "mgt",
    "openapi.json",
    "placement",
    "promote",
    "releases",
    "tenants",
    "usage",
    "versions",
    "watch",
];

/// A tenant. Case counts, but two tenants whose names differ only by case are refused where they are created.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantName(TenantText);

impl TenantName {
    /// Checks and takes the name; reserved words are refused whatever their case.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let name = TenantText::new(text)?;
        if RESERVED_TENANT_NAMES.contains(&name.as_str().to_ascii_lowercase().as_str()) {
            return Err(InvalidName { what: "tenant", given: name.into(), rule: "this word is reserved".into() });
        }
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The form under which two names are the same: ASCII lower case.
    pub fn folded(&self) -> String {
        self.as_str().to_ascii_lowercase()
    }
}

impl FromStr for TenantName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl TryFrom<String> for TenantName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl From<TenantName> for String {
    fn from(name: TenantName) -> String {
        name.0.into()
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub u64);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(/** A tenant for ever: never used again, unlike its name. */ TenantId);
number!(/** Fences ownership: every request carries the epoch that its sender believes in. */ Epoch);
number!(/** A tenant's dense change counter: +1 for each committed change. Never a Raft index. */ Revision);
number!(/** Changes when a restore lost history, so that revisions of two lives are never compared. */ Incarnation);

/// A config within its tenant, shown as `c<number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigId(pub u64);

impl fmt::Display for ConfigId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl FromStr for ConfigId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.strip_prefix('c').filter(|n| canonical_number(n)).and_then(|n| n.parse().ok()).map(Self).ok_or_else(|| {
            InvalidName {
                what: "config id",
                given: text.chars().take(64).collect(),
                rule: "`c` and a number, as the service gave it".into(),
            }
        })
    }
}

/// `<incarnation>.<revision>`: how a revision is shown outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RevisionMark {
    /// Which life of the tenant's history.
    pub incarnation: Incarnation,
    /// The revision within it.
    pub revision: Revision,
}

impl fmt::Display for RevisionMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.revision)
    }
}

impl FromStr for RevisionMark {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parse = |n: &str| if canonical_number(n) { n.parse().ok() } else { None };
        text.split_once('.')
            .and_then(|(i, r)| Some(Self { incarnation: Incarnation(parse(i)?), revision: Revision(parse(r)?) }))
            .ok_or_else(|| InvalidName {
                what: "revision",
                given: text.chars().take(64).collect(),
                rule: "`<incarnation>.<revision>`, as the service gave it".into(),
            })
    }
}

/// Digits without a sign or a leading zero: one text for each number.
fn canonical_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        assert!(AppName::new("a").is_ok());
        assert!(AppName::new("a".repeat(63)).is_ok());
        for bad in ["", "-a", ".a", "a/b", "a b", "a\0", "ä", "a%2f", &"a".repeat(64)] {
            assert!(AppName::new(bad).is_err(), "{bad:?}");
        }
        assert!(ConfigName::new("app.yaml:v1@eu+x").is_ok());
        assert!(ConfigName::new("a".repeat(129)).is_err());
    }

    #[test]
    fn reserved_words_cannot_name_a_tenant() {
        assert!(TenantName::new("Configs").is_err());
        assert!(TenantName::new("acme").is_ok());
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<AppName>("\"../x\"").is_err());
        assert!(serde_json::from_str::<TenantName>("\"admin\"").is_err());
    }

    proptest! {
        #[test]
        fn marks_and_ids_round_trip(i: u64, r: u64) {
            let mark = RevisionMark { incarnation: Incarnation(i), revision: Revision(r) };
            prop_assert_eq!(mark.to_string().parse::<RevisionMark>().unwrap(), mark);
            prop_assert_eq!(ConfigId(i).to_string().parse::<ConfigId>().unwrap(), ConfigId(i));
        }

        #[test]
        fn one_text_for_each_mark(text in "[0-9+.]{1,12}") {
            if let Ok(mark) = text.parse::<RevisionMark>() {
                prop_assert_eq!(mark.to_string(), text);
            }
        }
    }
}
