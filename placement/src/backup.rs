//! What a backup of placement holds, and what a restored one begins with (ADR 4).

use std::ops::ControlFlow;

use conflux_proto::internal::{TenantRecord, TenantState};
use conflux_raft::{FatalError, Read, backup::Content};
use prost::Message;
use sha2::{Digest, Sha256};

pub use crate::machine::restored::prepare;
use crate::store::{Family, Key};

/// Each tenant's record, by id, and everything else as one, under id 0. Answers that are remembered for repeated calls are
/// left out: they go by time.
pub fn contents(rows: &impl Read) -> Result<Vec<Content>, FatalError> {
    let mut contents = Vec::new();
    let mut rest = Content { state: "placement".into(), ..Content::default() };
    let mut hash = Sha256::new();
    for family in Family::ALL {
        let (from, to) = family.range();
        let mut damaged = None;
        rows.scan(&from, &to, &mut |key, value| {
            match family {
                Family::Answer | Family::AnswerExpiry => return ControlFlow::Break(()),
                Family::Tenant => match of_tenant(key, value) {
                    Ok(content) => contents.push(content),
                    Err(e) => damaged = Some(e),
                },
                _ => {
                    rest.rows += 1;
                    rest.bytes += (key.len() + value.len()) as u64;
                    add(&mut hash, key, value);
                }
            }
            if damaged.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(e) = damaged {
            return Err(e);
        }
    }
    rest.sha256 = hex::encode(hash.finalize());
    contents.insert(0, rest);
    Ok(contents)
}

fn add(hash: &mut Sha256, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
}

fn of_tenant(key: &[u8], value: &[u8]) -> Result<Content, FatalError> {
    let record = TenantRecord::decode(value)
        .map_err(|e| FatalError(format!("row {:?} cannot be read: {e}", Key::decode(key))))?;
    let state = match record.state() {
        TenantState::Creating => "creating",
        TenantState::Stable if record.r#move.is_some() => "moving",
        TenantState::Stable => "stable",
        TenantState::Deleting => "deleting",
        _ => "unknown",
    };
    let mut hash = Sha256::new();
    add(&mut hash, key, value);
    Ok(Content {
        id: record.id,
        name: record.name,
        state: state.into(),
        shard: record.shard,
        epoch: record.epoch,
        incarnation: record.incarnation,
        revision: 0,
        rows: 1,
        bytes: (key.len() + value.len()) as u64,
        sha256: hex::encode(hash.finalize()),
    })
}
