//! The step of a changeset that makes a content the one that everybody is served: pure, for imports and promotions.
//!
//! Each step demands that its config is still as it was when the step was planned, so that nothing newer is overwritten; and there
//! is none where nothing would change, so that it is safe to do it all again.

use bytes::Bytes;
use conflux_common::{error::ApiError, release};
use conflux_proto::{
    log::{self, Step, step::Op},
    store,
};
use conflux_raft::Read;

use crate::{
    query::{self, TenantRow},
    store::version,
};

/// A content that is to be served by default.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub app: String,
    pub env: String,
    pub name: String,
    pub format: String,
    /// Empty: the format's own.
    pub media_type: String,
    pub content: Bytes,
    pub sha256: Bytes,
    /// Of the version, should one be made.
    pub description: String,
}

impl Wanted {
    fn is(&self, version: &store::Version) -> bool {
        version.sha256 == self.sha256 && version.format == self.format && version.media_type == self.media_type
    }
}

/// A config as it is now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Present {
    pub config: store::Config,
    /// What its default rule serves.
    pub default: Option<store::Version>,
    pub latest: Option<store::Version>,
}

impl Present {
    /// The config of this name; none: there is none.
    pub fn find(
        rows: &dyn Read,
        tenant: &TenantRow,
        app: &str,
        env: &str,
        name: &str,
    ) -> Result<Option<Self>, ApiError> {
        match query::config_by_name(rows, tenant, app, env, name) {
            Ok(config) => Self::of(rows, tenant, config).map(Some),
            Err(e) if e.code == conflux_common::error::Code::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub fn of(rows: &dyn Read, tenant: &TenantRow, config: store::Config) -> Result<Self, ApiError> {
        let rules = query::rules_of(&config.rules)?;
        let get = |number: u64| version::get(rows, tenant.id, config.id, number).map_err(query::failed);
        let default = release::default_rule(&rules).map(|rule| get(rule.version)).transpose()?.flatten();
        let latest = get(config.latest_version)?;
        Ok(Self { config, default, latest })
    }
}

/// The step that has `wanted` served by default; none: it is already. Rules with labels or a share stay.
pub(super) fn release(wanted: &Wanted, present: Option<&Present>) -> Option<Step> {
    let Some(present) = present else {
        return Some(Step { if_absent: true, op: Some(put(wanted)), ..Default::default() });
    };
    if present.default.as_ref().is_some_and(|version| wanted.is(version)) {
        return None;
    }
    let op = match &present.latest {
        Some(latest) if wanted.is(latest) => {
            Op::Rollback(log::Rollback { config_id: present.config.id, version: latest.number })
        }
        _ => put(wanted),
    };
    Some(Step { if_match: present.config.revision, op: Some(op), ..Default::default() })
}

/// The step that has `wanted` as the latest version, which is released to nobody by it; none: it is already.
pub(super) fn add(wanted: &Wanted, present: &Present) -> Option<Step> {
    if present.latest.as_ref().is_some_and(|version| wanted.is(version)) {
        return None;
    }
    let op = Op::CreateVersion(log::CreateVersion {
        config_id: present.config.id,
        content: wanted.content.clone(),
        sha256: wanted.sha256.clone(),
        description: wanted.description.clone(),
        format: wanted.format.clone(),
        ..Default::default()
    });
    Some(Step { if_match: present.config.revision, op: Some(op), ..Default::default() })
}

fn put(wanted: &Wanted) -> Op {
    Op::PutConfig(log::PutConfig {
        app: wanted.app.clone(),
        env: wanted.env.clone(),
        name: wanted.name.clone(),
        format: wanted.format.clone(),
        content: wanted.content.clone(),
        sha256: wanted.sha256.clone(),
        description: wanted.description.clone(),
        media_type: wanted.media_type.clone(),
        // Imports and promotions check it, and demand the config as it was then.
        checked: None,
    })
}

/// Bytes of contents in a step.
pub(super) fn content_bytes(step: &Step) -> usize {
    match &step.op {
        Some(Op::PutConfig(op)) => op.content.len(),
        Some(Op::CreateConfig(op)) => op.content.len(),
        Some(Op::CreateVersion(op)) => op.content.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use conflux_proto::v1;

    use super::*;

    fn wanted(content: &'static [u8]) -> Wanted {
        Wanted {
            app: "shop".into(),
            env: "test".into(),
            name: "a".into(),
            format: "plaintext".into(),
            media_type: String::new(),
            content: Bytes::from_static(content),
            sha256: hash(content),
            description: "from dev".into(),
        }
    }

    /// Any bytes do for a hash here.
    fn hash(content: &[u8]) -> Bytes {
        let mut hash = content.to_vec();
        hash.resize(32, 0);
        hash.into()
    }

    fn version(number: u64, content: &[u8]) -> store::Version {
        store::Version { number, sha256: hash(content), format: "plaintext".into(), ..Default::default() }
    }

    fn present(default: Option<&[u8]>, latest: &[u8]) -> Present {
        let rules = default.map(|_| v1::ReleaseRule { version: 1, ..Default::default() }).into_iter().collect();
        let config = store::Config { id: 7, revision: 12, latest_version: 2, rules, ..Default::default() };
        Present { config, default: default.map(|c| version(1, c)), latest: Some(version(2, latest)) }
    }

    /// A second import or promotion of the same must find nothing to do.
    #[test]
    fn what_is_served_already_needs_no_step() {
        assert_eq!(release(&wanted(b"x"), Some(&present(Some(b"x"), b"y"))), None);
        assert_eq!(add(&wanted(b"y"), &present(Some(b"x"), b"y")), None);
        let other_format = Wanted { format: "yaml".into(), ..wanted(b"x") };
        assert!(release(&other_format, Some(&present(Some(b"x"), b"y"))).is_some());
    }

    /// Whatever is done demands that the config is as it was compared.
    #[test]
    fn each_step_demands_what_was_seen() {
        let new = release(&wanted(b"x"), None).unwrap();
        assert!(new.if_absent && matches!(new.op, Some(Op::PutConfig(_))));
        let put = release(&wanted(b"z"), Some(&present(Some(b"x"), b"y"))).unwrap();
        assert!(put.if_match == 12 && matches!(put.op, Some(Op::PutConfig(_))));
        assert_eq!(content_bytes(&put), 1);
        let added = add(&wanted(b"z"), &present(None, b"y")).unwrap();
        assert!(added.if_match == 12 && matches!(added.op, Some(Op::CreateVersion(_))));
    }

    /// The latest version, not yet served: it is pointed at, not made again.
    #[test]
    fn a_version_that_is_there_is_not_made_again() {
        for default in [None, Some(b"x".as_slice())] {
            let step = release(&wanted(b"y"), Some(&present(default, b"y"))).unwrap();
            assert_eq!(step.op, Some(Op::Rollback(log::Rollback { config_id: 7, version: 2 })));
            assert_eq!((step.if_match, content_bytes(&step)), (12, 0));
        }
    }
}
