//! The JSON of the operators' API. Stable: fields are only added. OVERVIEW.md lists them.

use conflux_common::grant::Grant;
use conflux_proto::{
    internal::{GroupMember, GroupRecord, KeyRecord, RoleRecord, TenantRecord, TenantState},
    principal::grant_from_wire,
};
use serde::Serialize;
use utoipa::ToSchema;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenant {
    name: String,
    id: u64,
    /// creating, stable, deleting, gone
    state: &'static str,
    shard: String,
    epoch: u64,
    incarnation: u64,
    description: String,
    created_ms: u64,
    /// The move under way; null: none.
    r#move: Option<u64>,
}

impl From<TenantRecord> for Tenant {
    fn from(t: TenantRecord) -> Self {
        let state = match t.state() {
            TenantState::Creating => "creating",
            TenantState::Stable => "stable",
            TenantState::Deleting => "deleting",
            TenantState::Gone => "gone",
            TenantState::Unspecified => "unknown",
        };
        Self {
            name: t.name,
            id: t.id,
            state,
            shard: t.shard,
            epoch: t.epoch,
            incarnation: t.incarnation,
            description: t.description,
            created_ms: t.created_ms,
            r#move: t.r#move.map(|m| m.id),
        }
    }
}

/// A shard group.
#[derive(Debug, Serialize, ToSchema)]
pub struct Shard {
    name: String,
    weight: u32,
    /// The leader's member name, as last reported.
    leader: Option<String>,
    /// The log index of the reported membership.
    log_index: u64,
    members: Vec<ShardMember>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ShardMember {
    name: String,
    node_id: u64,
    service_address: String,
    voter: bool,
}

impl From<GroupRecord> for Shard {
    fn from(g: GroupRecord) -> Self {
        let leader = g.members.iter().find(|m| m.node_id == g.leader).map(|m| m.name.clone());
        let member = |m: GroupMember| ShardMember {
            name: m.name,
            node_id: m.node_id,
            service_address: m.service_address,
            voter: m.voter,
        };
        let members = g.members.into_iter().map(member).collect();
        Self { name: g.name, weight: g.weight, leader, log_index: g.log_index, members }
    }
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// The part of the key between the first two underscores.
    id: String,
    /// The whole key, in the one answer that hands it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    tenant: Option<String>,
    operator: bool,
    roles: Vec<String>,
    description: String,
    created_ms: u64,
    /// null: never
    expires_ms: Option<u64>,
}

impl Key {
    /// With the whole key, for its holder.
    pub fn handed_out(self, key: Option<String>) -> Self {
        Self { key, ..self }
    }
}

impl From<KeyRecord> for Key {
    fn from(k: KeyRecord) -> Self {
        Self {
            id: k.id,
            key: None,
            tenant: (!k.operator).then_some(k.tenant),
            operator: k.operator,
            roles: k.roles,
            description: k.description,
            created_ms: k.created_ms,
            expires_ms: (k.expires_ms != 0).then_some(k.expires_ms),
        }
    }
}

/// A role: built in for all tenants, or one tenant's own.
#[derive(Debug, Serialize, ToSchema)]
pub struct Role {
    tenant: Option<String>,
    name: String,
    built_in: bool,
    grants: Vec<Grant>,
}

impl From<RoleRecord> for Role {
    fn from(r: RoleRecord) -> Self {
        let built_in = r.tenant.is_empty();
        Self {
            tenant: (!built_in).then_some(r.tenant),
            name: r.name,
            built_in,
            // Each was checked when it was stored.
            grants: r.grants.iter().filter_map(|g| grant_from_wire(g).ok()).collect(),
        }
    }
}

/// A page of tenants.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenants {
    /// In the order in which they were made.
    pub tenants: Vec<Tenant>,
    /// For the next page; null: this was the last.
    pub next_cursor: Option<String>,
}

/// All shard groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct Shards {
    /// By name.
    pub shards: Vec<Shard>,
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct Keys {
    /// Without their secrets.
    pub keys: Vec<Key>,
    /// For the next page; null: this was the last.
    pub next_cursor: Option<String>,
}

/// A page of roles.
#[derive(Debug, Serialize, ToSchema)]
pub struct Roles {
    /// The built-in ones first.
    pub roles: Vec<Role>,
    /// For the next page; null: this was the last.
    pub next_cursor: Option<String>,
}

/// A key that is refused from now on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Revoked {
    /// The key's.
    pub id: String,
    /// true
    pub revoked: bool,
}

/// A role that is gone.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedRole {
    /// Whose it was.
    pub tenant: String,
    /// What it was called.
    pub name: String,
    /// true
    pub deleted: bool,
}
