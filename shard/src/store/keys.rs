//! Every stored key: its ordinal, layout and value. The one page to read beside a dump of the state database.
//!
//! A key is the ordinal of its family (one byte), the tenant's id, then the fields of the table, numbers big-endian so that
//! byte order is their order. The tenant comes first so that each family holds one tenant in one range.
//!
//! | ordinal | family | layout after the tenant | value |
//! |---|---|---|---|
//! | 1 | `Tenant` | - | `store.Tenant`: ownership and counters |
//! | 2 | `Config` | config u64 | `store.Config` |
//! | 3 | `ConfigName` | app, 0, env, 0, name | config u64: the listing order |
//! | 4 | `Version` | config u64, number u64 | `store.Version` |
//! | 5 | `Content` | SHA-256 | `store.Content`: one copy for each content of a tenant |
//! | 6 | `ContentReferences` | SHA-256 | `store.ContentReferences`: how many versions have it |
//! | 7 | `Event` | revision u64 | `store.StoredRevision`: all events of a revision |
//! | 8 | `Idempotency` | scope: SHA-256 of principal, operation and key | `store.IdempotencyRecord` |
//! | 9 | `IdempotencyExpiry` | expires_ms u64, scope | empty |
//! | 10 | `Leftover` | config u64 | `store.Leftover`: a deleted config of which versions are left |
//! | 11 | `Draft` | config u64, number u64 | `store.Draft` |
//! | 12 | `Promotion` | due_ms u64, config u64 | empty: when a config's promotion is due |
//! | 13 | `App` | app | `store.Scope` |
//! | 14 | `Env` | app, 0, env | `store.Scope` |
//! | 15 | `Audit` | seq u64 | `store.AuditRecord`: one for each accepted change |
//! | 16 | `Touched` | move u64, seq u64 | the key of a row that was touched while the tenant was copied; stays where it is |

/// The first byte of a family's keys: stable for ever, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// What the shard knows of a tenant.
    Tenant = 1,
    /// Configs by id.
    Config = 2,
    /// Config ids by name.
    ConfigName = 3,
    /// Versions.
    Version = 4,
    /// Contents.
    Content = 5,
    /// Reference counts of contents.
    ContentReferences = 6,
    /// Event history.
    Event = 7,
    /// Answers remembered under a key.
    Idempotency = 8,
    /// The same by when they are forgotten.
    IdempotencyExpiry = 9,
    /// Deleted configs of which versions are left.
    Leftover = 10,
    /// Contents saved without a version.
    Draft = 11,
    /// Configs by when their promotion is due.
    Promotion = 12,
    /// Applications.
    App = 13,
    /// Environments.
    Env = 14,
    /// The chain of accepted changes.
    Audit = 15,
    /// Rows touched while a move copies them.
    Touched = 16,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 16] = [
        Family::Tenant,
        Family::Config,
        Family::ConfigName,
        Family::Version,
        Family::Content,
        Family::ContentReferences,
        Family::Event,
        Family::Idempotency,
        Family::IdempotencyExpiry,
        Family::Leftover,
        Family::Draft,
        Family::Promotion,
        Family::App,
        Family::Env,
        Family::Audit,
        Family::Touched,
    ];

    /// The range of the whole family: from, to (exclusive).
    pub fn range(self) -> (Vec<u8>, Vec<u8>) {
        (vec![self as u8], vec![self as u8 + 1])
    }

    /// The range of one tenant in this family: from, to (exclusive).
    pub fn tenant_range(self, tenant: u64) -> (Vec<u8>, Vec<u8>) {
        let from = start(self, tenant);
        let to = match tenant.checked_add(1) {
            Some(next) => start(self, next),
            None => vec![self as u8 + 1],
        };
        (from, to)
    }
}

fn start(family: Family, tenant: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(family as u8);
    key.extend_from_slice(&tenant.to_be_bytes());
    key
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the table above says what the fields are
pub enum Key<'a> {
    Tenant { tenant: u64 },
    Config { tenant: u64, config: u64 },
    ConfigName { tenant: u64, app: &'a str, env: &'a str, name: &'a str },
    Version { tenant: u64, config: u64, number: u64 },
    Content { tenant: u64, sha256: [u8; 32] },
    ContentReferences { tenant: u64, sha256: [u8; 32] },
    Event { tenant: u64, revision: u64 },
    Idempotency { tenant: u64, scope: [u8; 32] },
    IdempotencyExpiry { tenant: u64, expires_ms: u64, scope: [u8; 32] },
    Leftover { tenant: u64, config: u64 },
    Draft { tenant: u64, config: u64, number: u64 },
    Promotion { tenant: u64, due_ms: u64, config: u64 },
    App { tenant: u64, app: &'a str },
    Env { tenant: u64, app: &'a str, env: &'a str },
    Audit { tenant: u64, seq: u64 },
    Touched { tenant: u64, move_id: u64, seq: u64 },
}

/// Bytes that are no key of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key of this version's state: {0}")]
pub struct InvalidKey(String);

impl<'a> Key<'a> {
    /// The key as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let number = |family, tenant, n: u64| {
            let mut key = start(family, tenant);
            key.extend_from_slice(&n.to_be_bytes());
            key
        };
        let numbers = |family, tenant, a, b: u64| {
            let mut key = number(family, tenant, a);
            key.extend_from_slice(&b.to_be_bytes());
            key
        };
        let hash = |family, tenant, h: &[u8; 32]| {
            let mut key = start(family, tenant);
            key.extend_from_slice(h);
            key
        };
        // Names hold no NUL (common::ids), so that the order of keys is the order of the names.
        let names = |family, tenant, parts: &[&str]| {
            let mut key = start(family, tenant);
            key.extend_from_slice(parts.join("\0").as_bytes());
            key
        };
        match *self {
            Key::Tenant { tenant } => start(Family::Tenant, tenant),
            Key::Config { tenant, config } => number(Family::Config, tenant, config),
            Key::ConfigName { tenant, app, env, name } => names(Family::ConfigName, tenant, &[app, env, name]),
            Key::Version { tenant, config, number } => numbers(Family::Version, tenant, config, number),
            Key::Content { tenant, ref sha256 } => hash(Family::Content, tenant, sha256),
            Key::ContentReferences { tenant, ref sha256 } => hash(Family::ContentReferences, tenant, sha256),
            Key::Event { tenant, revision } => number(Family::Event, tenant, revision),
            Key::Idempotency { tenant, ref scope } => hash(Family::Idempotency, tenant, scope),
            Key::IdempotencyExpiry { tenant, expires_ms, ref scope } => {
                let mut key = number(Family::IdempotencyExpiry, tenant, expires_ms);
                key.extend_from_slice(scope);
                key
            }
            Key::Leftover { tenant, config } => number(Family::Leftover, tenant, config),
            Key::Draft { tenant, config, number } => numbers(Family::Draft, tenant, config, number),
            Key::Promotion { tenant, due_ms, config } => numbers(Family::Promotion, tenant, due_ms, config),
            Key::App { tenant, app } => names(Family::App, tenant, &[app]),
            Key::Env { tenant, app, env } => names(Family::Env, tenant, &[app, env]),
            Key::Audit { tenant, seq } => number(Family::Audit, tenant, seq),
            Key::Touched { tenant, move_id, seq } => numbers(Family::Touched, tenant, move_id, seq),
        }
    }

    /// Whose row it is.
    pub fn tenant(&self) -> u64 {
        match *self {
            Key::Tenant { tenant }
            | Key::Config { tenant, .. }
            | Key::ConfigName { tenant, .. }
            | Key::Version { tenant, .. }
            | Key::Content { tenant, .. }
            | Key::ContentReferences { tenant, .. }
            | Key::Event { tenant, .. }
            | Key::Idempotency { tenant, .. }
            | Key::IdempotencyExpiry { tenant, .. }
            | Key::Leftover { tenant, .. }
            | Key::Draft { tenant, .. }
            | Key::Promotion { tenant, .. }
            | Key::App { tenant, .. }
            | Key::Env { tenant, .. }
            | Key::Audit { tenant, .. }
            | Key::Touched { tenant, .. } => tenant,
        }
    }

    /// Reads a stored key.
    pub fn decode(bytes: &'a [u8]) -> Result<Key<'a>, InvalidKey> {
        let invalid = || InvalidKey(hex::encode(&bytes[..bytes.len().min(96)]));
        let (ordinal, rest) = bytes.split_first().ok_or_else(invalid)?;
        let family = Family::ALL.into_iter().find(|f| *f as u8 == *ordinal).ok_or_else(invalid)?;
        let mut fields = Fields(rest);
        let tenant = fields.number().ok_or_else(invalid)?;
        let key = match family {
            Family::Tenant => Some(Key::Tenant { tenant }),
            Family::Config => fields.number().map(|config| Key::Config { tenant, config }),
            Family::ConfigName => fields.names().map(|[app, env, name]| Key::ConfigName { tenant, app, env, name }),
            Family::Version => {
                fields.number().zip(fields.number()).map(|(config, number)| Key::Version { tenant, config, number })
            }
            Family::Content => fields.hash().map(|sha256| Key::Content { tenant, sha256 }),
            Family::ContentReferences => fields.hash().map(|sha256| Key::ContentReferences { tenant, sha256 }),
            Family::Event => fields.number().map(|revision| Key::Event { tenant, revision }),
            Family::Idempotency => fields.hash().map(|scope| Key::Idempotency { tenant, scope }),
            Family::IdempotencyExpiry => fields
                .number()
                .zip(fields.hash())
                .map(|(expires_ms, scope)| Key::IdempotencyExpiry { tenant, expires_ms, scope }),
            Family::Leftover => fields.number().map(|config| Key::Leftover { tenant, config }),
            Family::Draft => {
                fields.number().zip(fields.number()).map(|(config, number)| Key::Draft { tenant, config, number })
            }
            Family::Promotion => {
                fields.number().zip(fields.number()).map(|(due_ms, config)| Key::Promotion { tenant, due_ms, config })
            }
            Family::App => fields.names().map(|[app]| Key::App { tenant, app }),
            Family::Env => fields.names().map(|[app, env]| Key::Env { tenant, app, env }),
            Family::Audit => fields.number().map(|seq| Key::Audit { tenant, seq }),
            Family::Touched => {
                fields.number().zip(fields.number()).map(|(move_id, seq)| Key::Touched { tenant, move_id, seq })
            }
        };
        key.filter(|_| fields.0.is_empty()).ok_or_else(invalid)
    }
}

/// The rest of a key, taken from its front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*head))
    }

    fn hash(&mut self) -> Option<[u8; 32]> {
        let (head, rest) = self.0.split_first_chunk::<32>()?;
        self.0 = rest;
        Some(*head)
    }

    fn names<const N: usize>(&mut self) -> Option<[&'a str; N]> {
        let text = std::str::from_utf8(self.0).ok()?;
        self.0 = &[];
        let parts: Vec<&str> = text.split('\0').collect();
        let names: [&str; N] = parts.try_into().ok()?;
        names.iter().all(|n| !n.is_empty()).then_some(names)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = (u8, u64, u64, u64, [u8; 32], [String; 3]);

    fn any_key() -> impl Strategy<Value = Owned> {
        let name = "[A-Za-z0-9][A-Za-z0-9._-]{0,5}";
        (1u8..=16, any::<u64>(), any::<u64>(), any::<u64>(), any::<[u8; 32]>(), [name, name, name])
    }

    fn key(owned: &Owned) -> Key<'_> {
        let (family, tenant, a, b, hash, [app, env, name]) = owned;
        let (tenant, a, b, hash) = (*tenant, *a, *b, *hash);
        match family {
            1 => Key::Tenant { tenant },
            2 => Key::Config { tenant, config: a },
            3 => Key::ConfigName { tenant, app, env, name },
            4 => Key::Version { tenant, config: a, number: b },
            5 => Key::Content { tenant, sha256: hash },
            6 => Key::ContentReferences { tenant, sha256: hash },
            7 => Key::Event { tenant, revision: a },
            8 => Key::Idempotency { tenant, scope: hash },
            9 => Key::IdempotencyExpiry { tenant, expires_ms: a, scope: hash },
            10 => Key::Leftover { tenant, config: a },
            11 => Key::Draft { tenant, config: a, number: b },
            12 => Key::Promotion { tenant, due_ms: a, config: b },
            13 => Key::App { tenant, app },
            14 => Key::Env { tenant, app, env },
            15 => Key::Audit { tenant, seq: a },
            _ => Key::Touched { tenant, move_id: a, seq: b },
        }
    }

    /// What the order of two keys must be: by family, tenant, then fields from left to right.
    fn order(owned: &Owned) -> (u8, u64, [String; 3], u64, u64, [u8; 32]) {
        let (family, tenant, a, b, hash, [app, env, name]) = owned.clone();
        let has_a = matches!(family, 2 | 4 | 7 | 9 | 10 | 11 | 12 | 15 | 16);
        let (has_b, has_hash) = (matches!(family, 4 | 11 | 12 | 16), matches!(family, 5 | 6 | 8 | 9));
        let names = match family {
            3 => [app, env, name],
            13 => [app, String::new(), String::new()],
            14 => [app, env, String::new()],
            _ => Default::default(),
        };
        (
            family,
            tenant,
            names,
            if has_a { a } else { 0 },
            if has_b { b } else { 0 },
            if has_hash { hash } else { [0; 32] },
        )
    }

    proptest! {
        // Two readings of one key, or a key in the wrong range, would lose rows of a tenant.
        #[test]
        fn keys_round_trip_and_stay_in_their_tenants_range(owned in any_key()) {
            let bytes = key(&owned).encode();
            prop_assert_eq!(Key::decode(&bytes).unwrap(), key(&owned));
            let family = Family::ALL[usize::from(owned.0) - 1];
            let (from, to) = family.tenant_range(owned.1);
            prop_assert!(from <= bytes && bytes < to);
            let (from, to) = family.range();
            prop_assert!(from <= bytes && bytes < to);
        }

        // Scans rely on the byte order being the order of the fields.
        #[test]
        fn byte_order_is_field_order(a in any_key(), b in any_key(), same in any::<bool>()) {
            let b = if same { (a.0, a.1, b.2, b.3, b.4, b.5) } else { b };
            prop_assert_eq!(key(&a).encode().cmp(&key(&b).encode()), order(&a).cmp(&order(&b)));
        }

        // Bytes from a newer version or a damaged file must not pass for a key, and must not panic.
        #[test]
        fn foreign_bytes_are_refused_or_read_back_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(key) = Key::decode(&bytes) {
                prop_assert_eq!(key.encode(), bytes);
            }
        }
    }

    // A changed ordinal makes existing data unreadable.
    #[test]
    fn ordinals_are_what_is_on_disk() {
        let ordinals: Vec<u8> = Family::ALL.iter().map(|f| *f as u8).collect();
        assert_eq!(ordinals, (1..=16).collect::<Vec<u8>>());
        assert_eq!(
            Key::Version { tenant: 1, config: 2, number: 3 }.encode(),
            [[4].as_slice(), &1u64.to_be_bytes(), &2u64.to_be_bytes(), &3u64.to_be_bytes()].concat()
        );
        assert_eq!(&Key::ConfigName { tenant: 0, app: "a", env: "b", name: "c" }.encode()[9..], b"a\0b\0c");
    }
}
