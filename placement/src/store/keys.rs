//! Every row of placement's state database.
//!
//! A key is one byte, the ordinal of its [`Family`] (stable for ever), and the fields in the order below: numbers as
//! eight bytes big-endian, so that they sort; names with a closing zero byte, which no name holds; free text after its
//! length in two bytes. Values are protobuf messages.

/// The families of rows. The number is the first byte of the key and is never used for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// `` -> `store.Counters`
    Counters = 0x01,
    /// `tenant id` -> `internal.TenantRecord`: live tenants (Creating, Stable, Deleting)
    Tenant = 0x10,
    /// `name in lower case` -> `store.TenantRef`: who has the name
    TenantName = 0x11,
    /// `tenant id` -> `store.TenantTombstone`: what is left of one that is gone
    Tombstone = 0x12,
    /// `tenant id` -> empty: tenants in Creating or Deleting, that move, or whose shard has not taken newer settings: the
    /// reconciler's work
    Pending = 0x13,
    /// `move id` -> `store.TenantRef`: whose record holds the move, as long as it is under way
    Move = 0x14,
    /// `move id` -> `internal.Move`: the last that have ended
    EndedMove = 0x15,
    /// `group name` -> `internal.GroupRecord`
    Group = 0x20,
    /// `group name` -> `internal.GroupRecord`: removed by an operator
    RemovedGroup = 0x21,
    /// `key id` -> `internal.KeyRecord`
    ApiKey = 0x30,
    /// `tenant name`, `key id` -> empty: the keys of a tenant; operators' keys under an empty name
    KeyOfTenant = 0x31,
    /// `tenant name`, `role name` -> `internal.RoleRecord`
    Role = 0x40,
    /// `principal`, `idempotency key` -> `store.AnswerRecord`
    Answer = 0x50,
    /// `expires ms`, `principal`, `idempotency key` -> empty: answers by the time at which they are forgotten
    AnswerExpiry = 0x51,
    /// `sequence` -> `store.ChangeFrame`
    Change = 0x60,
    /// `` -> `store.Hold`: tenants stay as they are while a backup is taken
    Hold = 0x78,
    /// `` -> `store.Closed`: restored, and waiting for the shards' reports
    Closed = 0x79,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 17] = [
        Family::Counters,
        Family::Tenant,
        Family::TenantName,
        Family::Tombstone,
        Family::Pending,
        Family::Move,
        Family::EndedMove,
        Family::Group,
        Family::RemovedGroup,
        Family::ApiKey,
        Family::KeyOfTenant,
        Family::Role,
        Family::Answer,
        Family::AnswerExpiry,
        Family::Change,
        Family::Hold,
        Family::Closed,
    ];

    /// The bounds of all its rows: from, to (exclusive).
    pub fn range(self) -> (Vec<u8>, Vec<u8>) {
        (vec![self as u8], vec![self as u8 + 1])
    }
}

/// One row's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // see [`Family`]
pub enum Key {
    Counters,
    Tenant(u64),
    TenantName(String),
    Tombstone(u64),
    Pending(u64),
    Move(u64),
    EndedMove(u64),
    Group(String),
    RemovedGroup(String),
    ApiKey(String),
    KeyOfTenant { tenant: String, key: String },
    Role { tenant: String, name: String },
    Answer { principal: String, key: String },
    AnswerExpiry { expires_ms: u64, principal: String, key: String },
    Change(u64),
    Hold,
    Closed,
}

impl Key {
    /// Which rows it belongs to.
    pub fn family(&self) -> Family {
        match self {
            Key::Counters => Family::Counters,
            Key::Tenant(_) => Family::Tenant,
            Key::TenantName(_) => Family::TenantName,
            Key::Tombstone(_) => Family::Tombstone,
            Key::Pending(_) => Family::Pending,
            Key::Move(_) => Family::Move,
            Key::EndedMove(_) => Family::EndedMove,
            Key::Group(_) => Family::Group,
            Key::RemovedGroup(_) => Family::RemovedGroup,
            Key::ApiKey(_) => Family::ApiKey,
            Key::KeyOfTenant { .. } => Family::KeyOfTenant,
            Key::Role { .. } => Family::Role,
            Key::Answer { .. } => Family::Answer,
            Key::AnswerExpiry { .. } => Family::AnswerExpiry,
            Key::Change(_) => Family::Change,
            Key::Hold => Family::Hold,
            Key::Closed => Family::Closed,
        }
    }

    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.family() as u8];
        match self {
            Key::Counters | Key::Hold | Key::Closed => {}
            Key::Tenant(n)
            | Key::Tombstone(n)
            | Key::Pending(n)
            | Key::Move(n)
            | Key::EndedMove(n)
            | Key::Change(n) => put_number(&mut out, *n),
            Key::TenantName(name) | Key::Group(name) | Key::RemovedGroup(name) | Key::ApiKey(name) => {
                put_name(&mut out, name);
            }
            Key::KeyOfTenant { tenant, key: name } | Key::Role { tenant, name } => {
                put_name(&mut out, tenant);
                put_name(&mut out, name);
            }
            Key::Answer { principal, key } => {
                put_text(&mut out, principal);
                put_text(&mut out, key);
            }
            Key::AnswerExpiry { expires_ms, principal, key } => {
                put_number(&mut out, *expires_ms);
                put_text(&mut out, principal);
                put_text(&mut out, key);
            }
        }
        out
    }

    /// Reads what [`Key::encode`] wrote; anything else is `None`.
    pub fn decode(bytes: &[u8]) -> Option<Key> {
        let (first, mut rest) = bytes.split_first()?;
        let family = Family::ALL.into_iter().find(|f| *f as u8 == *first)?;
        let rest = &mut rest;
        let key = match family {
            Family::Counters => Key::Counters,
            Family::Tenant => Key::Tenant(number(rest)?),
            Family::TenantName => Key::TenantName(name(rest)?),
            Family::Tombstone => Key::Tombstone(number(rest)?),
            Family::Pending => Key::Pending(number(rest)?),
            Family::Move => Key::Move(number(rest)?),
            Family::EndedMove => Key::EndedMove(number(rest)?),
            Family::Group => Key::Group(name(rest)?),
            Family::RemovedGroup => Key::RemovedGroup(name(rest)?),
            Family::ApiKey => Key::ApiKey(name(rest)?),
            Family::KeyOfTenant => Key::KeyOfTenant { tenant: name(rest)?, key: name(rest)? },
            Family::Role => Key::Role { tenant: name(rest)?, name: name(rest)? },
            Family::Answer => Key::Answer { principal: text(rest)?, key: text(rest)? },
            Family::AnswerExpiry => {
                Key::AnswerExpiry { expires_ms: number(rest)?, principal: text(rest)?, key: text(rest)? }
            }
            Family::Change => Key::Change(number(rest)?),
            Family::Hold => Key::Hold,
            Family::Closed => Key::Closed,
        };
        rest.is_empty().then_some(key)
    }

    /// The bounds of the rows of one tenant in a family whose keys begin with the tenant's name.
    pub fn of_tenant(family: Family, tenant: &str) -> (Vec<u8>, Vec<u8>) {
        let mut from = vec![family as u8];
        put_name(&mut from, tenant);
        let mut to = from.clone();
        if let Some(zero) = to.last_mut() {
            *zero = 1;
        }
        (from, to)
    }
}

fn put_number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_be_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(0);
}

/// Texts are bounded far below 64 KiB where they come in; a longer one is cut rather than written unreadably.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(u16::MAX as usize)];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_be_bytes(*bytes))
}

fn name(rest: &mut &[u8]) -> Option<String> {
    let end = rest.iter().position(|b| *b == 0)?;
    let text = std::str::from_utf8(&rest[..end]).ok()?.to_owned();
    *rest = &rest[end + 1..];
    Some(text)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let (len, after) = rest.split_first_chunk::<2>()?;
    let (bytes, after) = after.split_at_checked(u16::from_be_bytes(*len) as usize)?;
    *rest = after;
    Some(std::str::from_utf8(bytes).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = Key> {
        let name = || "[A-Za-z0-9][A-Za-z0-9._-]{0,20}";
        let text = || "\\PC{0,40}";
        prop_oneof![
            Just(Key::Counters),
            any::<u64>().prop_map(Key::Tenant),
            name().prop_map(Key::TenantName),
            any::<u64>().prop_map(Key::Tombstone),
            any::<u64>().prop_map(Key::Pending),
            any::<u64>().prop_map(Key::Move),
            any::<u64>().prop_map(Key::EndedMove),
            name().prop_map(Key::Group),
            name().prop_map(Key::RemovedGroup),
            name().prop_map(Key::ApiKey),
            (name(), name()).prop_map(|(tenant, key)| Key::KeyOfTenant { tenant, key }),
            (name(), name()).prop_map(|(tenant, name)| Key::Role { tenant, name }),
            (text(), text()).prop_map(|(principal, key)| Key::Answer { principal, key }),
            (any::<u64>(), text(), text()).prop_map(|(expires_ms, principal, key)| Key::AnswerExpiry {
                expires_ms,
                principal,
                key
            }),
            any::<u64>().prop_map(Key::Change),
            Just(Key::Hold),
            Just(Key::Closed),
        ]
    }

    /// The ordinals are on disk: a changed one would make every database unreadable.
    #[test]
    fn ordinals_are_pinned_and_distinct() {
        let ordinals = Family::ALL.map(|f| f as u8);
        assert_eq!(
            ordinals,
            [0x01, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x20, 0x21, 0x30, 0x31, 0x40, 0x50, 0x51, 0x60, 0x78, 0x79]
        );
    }

    /// One pinned example of each shape, for the same reason.
    #[test]
    fn layouts_are_pinned() {
        assert_eq!(Key::Tenant(258).encode(), [0x10, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(Key::Role { tenant: "a".into(), name: "b".into() }.encode(), [0x40, b'a', 0, b'b', 0]);
        assert_eq!(
            Key::Answer { principal: "p".into(), key: "kk".into() }.encode(),
            [0x50, 0, 1, b'p', 0, 2, b'k', b'k']
        );
    }

    proptest! {
        /// What is written is read, and lies within the range of its family.
        #[test]
        fn keys_round_trip(key in any_key()) {
            let bytes = key.encode();
            let (from, to) = key.family().range();
            prop_assert!(from <= bytes && bytes < to);
            prop_assert_eq!(Key::decode(&bytes), Some(key));
        }

        /// No bytes make the reader panic, and it accepts only what would be written again.
        #[test]
        fn decoding_is_total(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(key) = Key::decode(&bytes) { prop_assert_eq!(key.encode(), bytes); }
        }

        /// Sequences are scanned in order, so keys must sort as the numbers do.
        #[test]
        fn numbers_sort(a: u64, b: u64) {
            prop_assert_eq!(a.cmp(&b), Key::Change(a).encode().cmp(&Key::Change(b).encode()));
        }

        /// A tenant's rows must not leak into the listing of one whose name begins alike.
        #[test]
        fn a_tenants_range_holds_its_rows_only(a in "[a-c]{1,3}", b in "[a-c]{1,3}", r in "[a-c]{1,3}") {
            let (from, to) = Key::of_tenant(Family::Role, &a);
            let key = Key::Role { tenant: b.clone(), name: r }.encode();
            prop_assert_eq!(from <= key && key < to, a == b);
        }
    }
}
