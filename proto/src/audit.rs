//! The chain of a tenant's accepted changes (ADR 2): how a record is hashed and how the chain is checked. The shard makes the
//! chain and whoever reads it may check it, by the same functions.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::store::AuditRecord;

/// The hash of a record: SHA-256 over the previous record's hash and the record without its own, encoded as protobuf in the order
/// of its fields.
pub fn hash(record: &AuditRecord) -> Bytes {
    let bare = AuditRecord { hash: Bytes::new(), ..record.clone() };
    let mut hash = Sha256::new();
    hash.update(&record.previous_hash);
    hash.update(bare.encode_to_vec());
    Bytes::from(hash.finalize().to_vec())
}

/// Where a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("audit record {seq}: {why}")]
pub struct Broken {
    /// The number of the record at which it shows.
    pub seq: u64,
    /// What is wrong there.
    pub why: &'static str,
}

/// Checks a chain record by record, from the oldest.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    last: Option<(u64, Bytes)>,
}

impl Chain {
    /// The next record: it must be numbered next, follow the one before and be what its hash says. The first one is taken at
    /// its word for what it follows; number 1 follows nothing.
    pub fn next(&mut self, record: &AuditRecord) -> Result<(), Broken> {
        let broken = |why| Err(Broken { seq: record.seq, why });
        match &self.last {
            Some((seq, _)) if record.seq != seq + 1 => return broken("a record before it is missing"),
            Some((_, hash)) if record.previous_hash != *hash => {
                return broken("it does not follow the record before it");
            }
            None if record.seq <= 1 && !record.previous_hash.is_empty() => return broken("the first follows nothing"),
            _ => {}
        }
        if record.hash != hash(record) {
            return broken("it is not what its hash says: it was changed");
        }
        self.last = Some((record.seq, record.hash.clone()));
        Ok(())
    }

    /// The number and the hash of the last record; none: there was no record.
    pub fn end(&self) -> Option<(u64, &Bytes)> {
        self.last.as_ref().map(|(seq, hash)| (*seq, hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(n: u64) -> Vec<AuditRecord> {
        let mut records: Vec<AuditRecord> = Vec::new();
        for seq in 1..=n {
            let previous_hash = records.last().map(|r| r.hash.clone()).unwrap_or_default();
            let mut record = AuditRecord {
                seq,
                time_ms: seq,
                summary: format!("change {seq}"),
                previous_hash,
                ..Default::default()
            };
            record.hash = hash(&record);
            records.push(record);
        }
        records
    }

    fn check(records: &[AuditRecord]) -> Result<(), Broken> {
        let mut chain = Chain::default();
        records.iter().try_for_each(|r| chain.next(r))
    }

    type Tampering = fn(&mut Vec<AuditRecord>);

    /// Whoever changes, drops, swaps or adds a record must be found out, also when the record's own hash is made to fit.
    #[test]
    fn tampering_is_found() {
        assert_eq!(check(&chain(5)), Ok(()));
        assert_eq!(check(&chain(5)[2..]), Ok(()), "the oldest kept one follows what is gone");
        let tamperings: [(&str, u64, Tampering); 6] = [
            ("text", 3, |r| r[2].summary = "something else".into()),
            ("hash made to fit", 4, |r| {
                r[2].principal = "key:other".into();
                r[2].hash = hash(&r[2]);
            }),
            ("dropped", 4, |r| drop(r.remove(2))),
            ("swapped", 3, |r| r.swap(1, 2)),
            ("renumbered", 2, |r| r[1].seq = 9),
            ("a beginning that follows something", 1, |r| {
                r[0].previous_hash = vec![1; 32].into();
                r[0].hash = hash(&r[0]);
            }),
        ];
        for (what, seen_at, tamper) in tamperings {
            let mut records = chain(5);
            tamper(&mut records);
            let broken = check(&records).expect_err(what);
            assert!(broken.seq == seen_at || what == "renumbered" && broken.seq == 9, "{what}: {broken}");
        }
    }
}
