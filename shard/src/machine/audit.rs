//! The audit record of a change (ADR 2): what it says, and how it joins the chain.

use std::fmt::Write;

use conflux_common::planted;
use conflux_proto::{
    audit,
    log::ShardCommand,
    store,
    v1::{self, ReleaseRule},
};
use conflux_raft::Tx;

use super::{limits, remembered};
use crate::{query, store::audit as row};

/// One thing that a change did; a changeset does several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// `app/env/name`, `app/env` or `app`.
    pub target: String,
    /// The config's id; empty: of no config.
    pub config_id: String,
    /// What was done, for people.
    pub summary: String,
}

/// Adds the record of what this command did, if it did anything, and moves the end of the tenant's chain. The tenant's row is the
/// caller's to write.
pub(super) fn append(tx: &mut Tx<'_>, tenant: &mut store::Tenant, command: &ShardCommand, now_ms: u64, notes: &[Note]) {
    if notes.is_empty() {
        return;
    }
    let lines = |part: fn(&Note) -> &str| bounded(notes.iter().map(part).collect::<Vec<_>>().join("\n"));
    let mut record = store::AuditRecord {
        seq: tenant.audit_seq + 1,
        time_ms: now_ms,
        principal: command.principal.clone(),
        operation: remembered::operation(command).to_owned(),
        target: lines(|n| &n.target),
        config_id: lines(|n| &n.config_id),
        summary: lines(|n| &n.summary),
        request_id: command.request_id.clone(),
        trace_id: command.trace_id.clone(),
        revision: tenant.revision,
        previous_hash: match tenant.audit_seq % 100 == 99 && planted::has("broken_chain") {
            true => Default::default(),
            false => tenant.audit_hash.clone(),
        },
        hash: Default::default(),
    };
    record.hash = audit::hash(&record);
    tenant.audit_seq = record.seq;
    tenant.audit_hash = record.hash.clone();
    row::put(tx, tenant.id, &record);
}

/// What is too long is cut, at a whole character.
fn bounded(mut text: String) -> String {
    if text.len() > limits::MAX_AUDIT_TEXT {
        let mut end = limits::MAX_AUDIT_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(" ..");
    }
    text
}

/// What a change of a config did: its kind, the version that it made or released, and what became of the rules.
pub(super) fn summary(
    kind: &str,
    config: &store::Config,
    rules_before: &[ReleaseRule],
    version: Option<&store::Version>,
) -> String {
    let mut parts = vec![kind.to_owned()];
    if let Some(v) = version {
        let hash = query::shown_hash(&v.sha256);
        // Twelve hex digits tell contents apart for people; the whole hash is on the version.
        let hash = hash.get(..19).unwrap_or(&hash);
        parts.push(format!("version {} ({}, {} bytes, {hash})", v.number, v.format, v.size));
    }
    let mut rules = Vec::new();
    for rule in &config.rules {
        match rules_before.iter().find(|old| same_clients(old, rule)) {
            Some(old) if old == rule => {}
            Some(old) => rules.push(format!("{}: {} -> {}", clients(rule), outcome(old), outcome(rule))),
            None => rules.push(format!("{}: {}", clients(rule), outcome(rule))),
        }
    }
    let gone = rules_before.iter().filter(|old| !config.rules.iter().any(|rule| same_clients(old, rule)));
    rules.extend(gone.map(|old| format!("{}: {} -> none", clients(old), outcome(old))));
    if !rules.is_empty() {
        parts.push(rules.join(", "));
    }
    parts.join("; ")
}

fn same_clients(a: &ReleaseRule, b: &ReleaseRule) -> bool {
    let label = |r: &ReleaseRule| r.percentage.as_ref().map(|p| p.sticky_label.clone());
    a.labels == b.labels && label(a) == label(b)
}

/// Whom a rule serves: `default`, or its labels.
fn clients(rule: &ReleaseRule) -> String {
    let mut text = match rule.labels.is_empty() {
        true => "default".to_owned(),
        false => rule.labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" "),
    };
    if let Some(v1::Percentage { sticky_label, .. }) = &rule.percentage {
        let _ = write!(text, " by {sticky_label}");
    }
    text
}

/// What it serves them.
fn outcome(rule: &ReleaseRule) -> String {
    let mut text = format!("version {}", rule.version);
    if let Some(v1::Percentage { basis_points, .. }) = &rule.percentage {
        let _ = write!(text, " for {}.{:02} %", basis_points / 100, basis_points % 100);
    }
    if rule.priority != 0 {
        let _ = write!(text, " at priority {}", rule.priority);
    }
    text
}
