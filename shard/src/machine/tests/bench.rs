//! A machine with rows in memory, and commands in one line each.

use std::sync::Arc;

use bytes::Bytes;
use conflux_common::{
    error::Code,
    ids::{Epoch, TenantId},
    labels::Labels,
};
use conflux_proto::{
    log::{
        Activate, CreateConfig, CreateVersion, DeleteConfig, DeleteTenant, Expire, Idempotency, PutConfig, Refusal,
        SetReleases, ShardAnswer, ShardCommand, SweepTenant, TenantAnswer, shard_answer, shard_command::Op,
    },
    store,
    v1::{Quotas, ReleaseRule, WriteResponse},
};
use conflux_raft::{App, Entry, Read, view::MemoryState};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{
    machine::{Machine, Notice},
    query,
    store::audit,
};

/// The tenant of most tests.
pub const TENANT: u64 = 7;

/// See the module.
pub struct Bench {
    pub machine: Machine,
    pub state: MemoryState,
    pub now_ms: u64,
    pub index: u64,
    pub level: u32,
    pub notices: Vec<Notice>,
}

impl Bench {
    /// Empty.
    pub fn new() -> Self {
        let machine = Machine::new(Arc::new(()));
        Self {
            machine,
            state: MemoryState::new(),
            now_ms: 1_000_000,
            index: 0,
            level: Machine::LEVEL,
            notices: Vec::new(),
        }
    }

    /// With [`TENANT`] active at epoch 1.
    pub fn active() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.tenant(1, activate("acme")).unwrap().state, "active");
        bench
    }

    /// Applies a command; what must hold is checked each time.
    pub fn apply(&mut self, command: &ShardCommand) -> shard_answer::Result {
        self.index += 1;
        let bytes = command.encode_to_vec();
        let entry = Entry { index: self.index, stamp_ms: self.now_ms, level: self.level, command: &bytes };
        let machine = &self.machine;
        let applied = self.state.apply(|tx| {
            let applied = machine.apply(&entry, tx).unwrap();
            machine.check(tx).unwrap();
            applied
        });
        self.notices.extend(applied.notices);
        ShardAnswer::decode(applied.answer).unwrap().result.unwrap()
    }

    /// A write to [`TENANT`] at epoch 1.
    pub fn write(&mut self, op: Op) -> Result<WriteResponse, Refusal> {
        self.write_as(command(op))
    }

    /// A write.
    pub fn write_as(&mut self, command: ShardCommand) -> Result<WriteResponse, Refusal> {
        match self.apply(&command) {
            shard_answer::Result::Write(answer) => Ok(answer),
            shard_answer::Result::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// An owner's command of [`TENANT`].
    pub fn tenant(&mut self, epoch: u64, op: Op) -> Result<TenantAnswer, Refusal> {
        match self.apply(&ShardCommand { tenant_id: TENANT, epoch, op: Some(op), ..Default::default() }) {
            shard_answer::Result::Tenant(answer) => Ok(answer),
            shard_answer::Result::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// What an operator gives the tenant, as the shard learns it.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        let settings_seq = self.row().settings_seq + 1;
        let activate = Activate { name: "acme".into(), incarnation: 3, quotas: Some(quotas), settings_seq };
        self.tenant(1, Op::Activate(activate)).unwrap();
    }

    /// The audit records, oldest first.
    pub fn audit(&self) -> Vec<store::AuditRecord> {
        let mut records = Vec::new();
        self.state
            .read(|view| {
                audit::each(view, TENANT, 0, |record| {
                    records.push(record);
                    Ok(std::ops::ControlFlow::Continue(()))
                })
            })
            .unwrap();
        records
    }

    /// The tenant's row.
    pub fn row(&self) -> store::Tenant {
        self.state.read(|view| query::tenant(view, TenantId(TENANT)).unwrap().unwrap())
    }

    /// Reads as the active tenant at epoch 1.
    pub fn read<R>(&self, f: impl FnOnce(&dyn Read, &store::Tenant) -> R) -> R {
        self.state.read(|view| {
            let row = query::check_owner(view, TenantId(TENANT), Epoch(1)).unwrap();
            f(view, &row)
        })
    }

    /// What a client without labels is served.
    pub fn fetched(&self, name: &str) -> Result<(u64, Bytes), Code> {
        self.read(|view, row| query::fetch(view, row, "app", "env", name, &Labels::default()))
            .map(|f| (f.version, f.content))
            .map_err(|e| e.code)
    }

    /// The types of all retained events.
    pub fn history(&self) -> Vec<String> {
        let response = self.read(|view, row| query::history(view, row, row.event_floor, 0, 0)).unwrap();
        response.revisions.into_iter().flat_map(|r| r.events).map(|e| e.event.unwrap().r#type).collect()
    }

    /// Every row.
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        self.state
            .read(|view| {
                view.scan(&[0], &[255], &mut |key, value| {
                    rows.push((key.to_vec(), value.to_vec()));
                    std::ops::ControlFlow::Continue(())
                })
            })
            .unwrap();
        rows
    }
}

/// A command to [`TENANT`] at epoch 1.
pub fn command(op: Op) -> ShardCommand {
    ShardCommand { tenant_id: TENANT, epoch: 1, principal: "key:a".into(), op: Some(op), ..Default::default() }
}

/// The same under an idempotency key, with the fingerprint that a proposer would give.
pub fn keyed(key: &str, op: Op) -> ShardCommand {
    let fingerprint = Bytes::from(Sha256::digest(command(op.clone()).encode_to_vec()).to_vec());
    ShardCommand { idempotency: Some(Idempotency { key: key.into(), fingerprint, ttl_ms: 1_000 }), ..command(op) }
}

pub fn activate(name: &str) -> Op {
    Op::Activate(Activate { name: name.into(), incarnation: 3, ..Default::default() })
}

pub fn delete_tenant() -> Op {
    Op::DeleteTenant(DeleteTenant {})
}

pub fn sweep(max_rows: u32) -> Op {
    Op::SweepTenant(SweepTenant { max_rows })
}

pub fn expire(max_rows: u32) -> Op {
    Op::Expire(Expire { max_rows })
}

pub fn put(name: &str, content: &str) -> Op {
    Op::PutConfig(PutConfig {
        app: "app".into(),
        env: "env".into(),
        name: name.into(),
        format: "yaml".into(),
        content: Bytes::copy_from_slice(content.as_bytes()),
        sha256: hash(content),
        ..Default::default()
    })
}

/// With a first version where there is content.
pub fn create(name: &str, content: &str) -> Op {
    Op::CreateConfig(CreateConfig {
        app: "app".into(),
        env: "env".into(),
        name: name.into(),
        format: "yaml".into(),
        content: Bytes::copy_from_slice(content.as_bytes()),
        sha256: if content.is_empty() { Bytes::new() } else { hash(content) },
        tags: vec!["b".into(), "a".into(), "b".into()],
        ..Default::default()
    })
}

pub fn add_version(config_id: u64, content: &str) -> Op {
    Op::CreateVersion(CreateVersion {
        config_id,
        content: Bytes::copy_from_slice(content.as_bytes()),
        sha256: hash(content),
        ..Default::default()
    })
}

pub fn releases(config_id: u64, rules: Vec<ReleaseRule>) -> Op {
    Op::SetReleases(SetReleases { config_id, rules })
}

pub fn delete(config_id: u64) -> Op {
    Op::DeleteConfig(DeleteConfig { config_id })
}

/// A rule for clients with these labels.
pub fn rule(labels: &[(&str, &str)], version: u64, priority: i32) -> ReleaseRule {
    let labels = labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    ReleaseRule { labels, version, priority, percentage: None }
}

fn hash(content: &str) -> Bytes {
    Bytes::from(Sha256::digest(content.as_bytes()).to_vec())
}
