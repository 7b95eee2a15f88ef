//! The release set of one config: its rules, and the versions that they point at, ready to be sent.

use std::sync::Arc;

use bytes::Bytes;
use conflux_common::{
    error::ApiError,
    fetch::Head,
    ids::{Epoch, Incarnation, Revision, RevisionMark},
    labels::Labels,
    release::{self, ReleaseRule},
};
use conflux_proto::{internal::ReleaseSetResponse, release::from_wire};

use super::tenants::Followed;
use crate::watch::Vouched;

/// What an entry takes beside its texts and contents: its places in tables, headers, counts.
const ENTRY_BYTES: usize = 512;
/// The same of a version or a rule.
const PART_BYTES: usize = 384;

/// See the module. Or the knowledge that a shard must be asked, which is true for as long.
pub struct Set {
    /// Of which life of the feed: true only while the feed goes on without a gap.
    tenant: Arc<Followed>,
    starts: u64,
    epoch: Epoch,
    /// Which state of the tenant it reflects.
    pub mark: RevisionMark,
    held: Option<Held>,
    size: usize,
}

struct Held {
    config: u64,
    rules: Vec<ReleaseRule>,
    versions: Vec<Version>,
}

/// A version as it is served.
pub struct Version {
    number: u64,
    /// Quoted.
    pub etag: String,
    /// What the headers say of it.
    pub head: Head,
    /// As it was put.
    pub content: Bytes,
}

impl Set {
    /// What a shard said, asked for `what` (the length of which counts) while the feed was in this life.
    pub fn new(
        tenant: &Arc<Followed>,
        vouched: &Vouched,
        what: &str,
        said: &ReleaseSetResponse,
    ) -> Result<Self, ApiError> {
        let mark = RevisionMark { incarnation: Incarnation(said.incarnation), revision: Revision(said.revision) };
        let mut size = ENTRY_BYTES + 2 * what.len();
        let held = if said.config_id == 0 || said.too_large { None } else { Some(Held::new(said, &mut size)?) };
        Ok(Self { tenant: tenant.clone(), starts: vouched.starts, epoch: vouched.epoch, mark, held, size })
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether it is of what is followed now: no move, no gap, no restore in between.
    pub fn is_of(&self, tenant: &Arc<Followed>, now: &Vouched) -> bool {
        self.may_be_of(tenant)
            && self.starts == now.starts
            && self.epoch == now.epoch
            && self.mark.incarnation == now.mark.incarnation
    }

    /// Whether it is of this tenant, followed since before it was filled.
    pub fn may_be_of(&self, tenant: &Arc<Followed>) -> bool {
        Arc::ptr_eq(&self.tenant, tenant)
    }

    /// Its place in [`Set::version`] that a client with these labels is served. None: a shard says that there is nothing.
    pub fn resolve(&self, labels: &Labels) -> Option<usize> {
        let held = self.held.as_ref()?;
        let number = release::evaluate(held.config, &held.rules, labels)?;
        held.versions.iter().position(|version| version.number == number)
    }

    /// The version at this place.
    pub fn version(&self, place: usize) -> Option<&Version> {
        self.held.as_ref()?.versions.get(place)
    }
}

impl Held {
    fn new(said: &ReleaseSetResponse, size: &mut usize) -> Result<Self, ApiError> {
        let mut versions = Vec::with_capacity(said.versions.len());
        for version in &said.versions {
            *size += PART_BYTES + version.content.len() + 2 * (version.media_type.len() + version.hash.len());
            versions.push(Version {
                number: version.number,
                etag: version.etag.clone(),
                head: Head::new(version.number, &version.etag, &version.hash, &version.media_type),
                // Copied: what came is part of a message, all of which it would hold.
                content: Bytes::copy_from_slice(&version.content),
            });
        }
        for rule in &said.rules {
            // Each text has its own allocation.
            let labels: usize = rule.labels.iter().map(|(name, value)| name.len() + value.len() + 96).sum();
            *size += PART_BYTES + labels;
        }
        let rules = said.rules.iter().map(from_wire).collect::<Result<_, _>>()?;
        Ok(Self { config: said.config_id, rules, versions })
    }
}
