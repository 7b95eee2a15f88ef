//! Commands of what users do with versions, in one line each.

use bytes::Bytes;
use conflux_proto::{
    log::{
        ApplyChangeset, CancelPromotion, DropDraft, Promote, Publish, Rollback, SaveDraft, ShardCommand, Step,
        UpdateConfig, shard_command::Op, step,
    },
    v1::{Percentage, Strategy},
};
use sha2::{Digest, Sha256};

pub fn hash(content: &str) -> Bytes {
    Bytes::from(Sha256::digest(content.as_bytes()).to_vec())
}

pub fn all() -> Option<Strategy> {
    Some(Strategy { r#type: "all".into(), ..Default::default() })
}

pub fn canary(basis_points: u32) -> Option<Strategy> {
    let percentage = Some(Percentage { basis_points, sticky_label: "client".into() });
    Some(Strategy { r#type: "canary".into(), percentage, ..Default::default() })
}

pub fn targeted(name: &str, value: &str) -> Option<Strategy> {
    let labels = [(name.to_owned(), value.to_owned())].into();
    Some(Strategy { r#type: "targeted".into(), labels, ..Default::default() })
}

/// Of a new content.
pub fn publish(config_id: u64, content: &str, strategy: Option<Strategy>) -> Publish {
    let (content, sha256) = (Bytes::copy_from_slice(content.as_bytes()), hash(content));
    Publish { config_id, content, sha256, strategy, ..Default::default() }
}

/// Of a version that is there.
pub fn publish_version(config_id: u64, version: u64, strategy: Option<Strategy>) -> Publish {
    Publish { config_id, version, strategy, ..Default::default() }
}

/// Of a draft, as a leader says it that saw this content in it.
pub fn publish_draft(config_id: u64, draft: u64, content: &str, strategy: Option<Strategy>) -> Publish {
    Publish { config_id, draft, sha256: hash(content), format: "yaml".into(), strategy, ..Default::default() }
}

pub fn promised(publish: Publish, minutes: u32) -> Publish {
    Publish { make_default_after_mins: minutes, ..publish }
}

pub fn rollback(config_id: u64, version: u64) -> Op {
    Op::Rollback(Rollback { config_id, version })
}

pub fn update(config_id: u64) -> UpdateConfig {
    UpdateConfig { config_id, ..Default::default() }
}

/// Number 0: a new one.
pub fn save_draft(config_id: u64, draft: u64, content: &str) -> Op {
    let (content, sha256) = (Bytes::copy_from_slice(content.as_bytes()), hash(content));
    Op::SaveDraft(SaveDraft { config_id, draft, content, sha256, format: "yaml".into(), ..Default::default() })
}

pub fn drop_draft(config_id: u64, draft: u64) -> Op {
    Op::DropDraft(DropDraft { config_id, draft })
}

pub fn cancel(config_id: u64) -> Op {
    Op::CancelPromotion(CancelPromotion { config_id })
}

pub fn promote(config_id: u64, version: u64, due_ms: u64) -> Op {
    Op::Promote(Promote { config_id, version, due_ms })
}

/// A write as a step of a changeset.
pub fn step_of(op: Op) -> Step {
    let op = match op {
        Op::PutConfig(op) => step::Op::PutConfig(op),
        Op::CreateConfig(op) => step::Op::CreateConfig(op),
        Op::CreateVersion(op) => step::Op::CreateVersion(op),
        Op::SetReleases(op) => step::Op::SetReleases(op),
        Op::DeleteConfig(op) => step::Op::DeleteConfig(op),
        Op::UpdateConfig(op) => step::Op::UpdateConfig(op),
        Op::Publish(op) => step::Op::Publish(op),
        Op::Rollback(op) => step::Op::Rollback(op),
        other => panic!("no step of a changeset: {other:?}"),
    };
    Step { op: Some(op), ..Default::default() }
}

pub fn changeset(steps: Vec<Step>) -> Op {
    Op::ApplyChangeset(ApplyChangeset { description: "several".into(), steps })
}

/// What the leader's upkeep logs.
pub fn by_upkeep(command: ShardCommand) -> ShardCommand {
    ShardCommand { principal: "shard:upkeep".into(), ..command }
}
