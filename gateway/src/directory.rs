//! The mirror of identities: API keys and roles, and how long ago placement was heard.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use conflux_common::{
    grant::{Grant, Principal},
    ids::TenantName,
};
use conflux_proto::{internal, principal::grant_from_wire};
use parking_lot::RwLock;
use tokio::{sync::watch, time::Instant};

use crate::identity::{Credential, Identity, Refusal};

/// Cheap to clone; all clones see one directory.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    changed: watch::Sender<u64>,
    grace: Duration,
    /// What was made of keys under the present state; every change of identities empties it.
    principals: RwLock<HashMap<String, Arc<Principal>>>,
}

#[derive(Debug, Default)]
struct State {
    content: Content,
    /// Of the last change that was applied.
    seq: u64,
    /// When placement was last heard; none before the first whole copy.
    heard: Option<Instant>,
}

/// Keys and roles.
#[derive(Debug, Clone, Default)]
pub struct Content {
    keys: HashMap<String, Arc<internal::KeyRecord>>,
    /// By tenant (empty: built in for all) and name.
    roles: HashMap<(String, String), Vec<Grant>>,
}

/// A silence shorter than this is none: placement speaks once a second, and streams are reopened.
const HEARTBEATS: Duration = Duration::from_secs(5);

impl Directory {
    /// An empty one. `grace`: how long known credentials go on while placement is silent.
    pub fn new(grace: Duration) -> Self {
        Self(Arc::new(Shared {
            state: RwLock::default(),
            changed: watch::Sender::default(),
            grace,
            principals: RwLock::default(),
        }))
    }

    /// The sequence of the last change, bumped whenever keys or roles changed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Of the last change that was applied.
    pub fn seq(&self) -> u64 {
        self.0.state.read().seq
    }

    /// Notes that placement was heard and everything up to `seq` is applied.
    pub fn heard(&self, seq: u64) {
        let mut state = self.0.state.write();
        state.heard = Some(Instant::now());
        state.seq = state.seq.max(seq);
    }

    /// Applies the changes of one sequence number.
    pub fn change(&self, seq: u64, with: impl FnOnce(&mut Content)) {
        let mut state = self.0.state.write();
        with(&mut state.content);
        self.0.principals.write().clear();
        state.seq = seq;
        state.heard = Some(Instant::now());
        drop(state);
        self.0.changed.send_replace(seq);
    }

    /// The grants of a tenant's roles: its own, and the built-in ones. Unknown roles grant nothing.
    pub fn grants(&self, tenant: &TenantName, roles: &[String]) -> (Vec<Grant>, u64) {
        let state = self.0.state.read();
        (state.content.grants(tenant.as_str(), roles), state.seq)
    }

    /// The record of a key.
    pub fn key(&self, id: &str) -> Option<Arc<internal::KeyRecord>> {
        self.0.state.read().content.keys.get(id).cloned()
    }

    /// Whether an unknown credential may be called wrong, and a known one right: placement was heard lately.
    pub fn is_fresh(&self) -> bool {
        self.silence().is_some_and(|silence| silence <= HEARTBEATS)
    }

    /// Whether known credentials still count.
    pub fn within_grace(&self) -> bool {
        self.silence().is_some_and(|silence| silence <= HEARTBEATS.max(self.0.grace))
    }

    fn silence(&self) -> Option<Duration> {
        self.0.state.read().heard.map(|at| at.elapsed())
    }

    /// What a key's holder is and may do.
    pub fn key_principal(&self, record: &internal::KeyRecord, now: SystemTime) -> Result<Principal, Refusal> {
        check_expiry(record, now)?;
        self.0.state.read().principal(record)
    }

    /// The same of a key that is still known, made once for each state of the directory: nearly every request asks.
    pub fn principal_of(&self, id: &str, now: SystemTime) -> Result<Arc<Principal>, Refusal> {
        // Held to the end: what is kept is of this state, which every change empties.
        let state = self.0.state.read();
        let record = state.content.keys.get(id).ok_or(Refusal::Invalid)?;
        check_expiry(record, now)?;
        let known = self.0.principals.read().get(id).filter(|known| known.directory_seq == state.seq).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let principal = Arc::new(state.principal(record)?);
        self.0.principals.write().insert(id.to_owned(), principal.clone());
        Ok(principal)
    }

    /// What an identity that was once verified is and may do now: revoked and expired ones are refused, roles are
    /// resolved anew. For watches, which outlive a request.
    pub fn recheck(&self, identity: &Identity, now: SystemTime) -> Result<Arc<Principal>, Refusal> {
        if !self.within_grace() {
            return Err(Refusal::Unknowable);
        }
        match &identity.credential {
            Credential::Key(id) => {
                let record = self.key(id).ok_or(Refusal::Invalid)?;
                self.key_principal(&record, now).map(Arc::new)
            }
            Credential::Token { tenant, roles, expires, .. } => {
                if now >= *expires {
                    return Err(Refusal::Invalid);
                }
                let (grants, directory_seq) = self.grants(tenant, roles);
                Ok(Arc::new(Principal { grants, directory_seq, ..(*identity.principal).clone() }))
            }
            Credential::Certificate(_) => Ok(identity.principal.clone()),
        }
    }
}

impl State {
    /// What the holder of this key is and may do.
    fn principal(&self, record: &internal::KeyRecord) -> Result<Principal, Refusal> {
        let tenant = match record.tenant.as_str() {
            "" => None,
            name => Some(TenantName::new(name).map_err(|_| Refusal::Invalid)?),
        };
        if tenant.is_none() && !record.operator {
            return Err(Refusal::Invalid);
        }
        let grants = tenant.as_ref().map(|t| self.content.grants(t.as_str(), &record.roles)).unwrap_or_default();
        let name = format!("key:{}", record.id);
        Ok(Principal { name, tenant, operator: record.operator, grants, directory_seq: self.seq })
    }
}

fn check_expiry(record: &internal::KeyRecord, now: SystemTime) -> Result<(), Refusal> {
    let expired = record.expires_ms != 0 && millis(now) >= record.expires_ms;
    if expired { Err(Refusal::Invalid) } else { Ok(()) }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Content {
    /// Applies one change; says whether it was one of identities.
    pub fn apply(&mut self, change: &internal::change::Change) -> bool {
        use internal::change::Change;
        match change {
            Change::Key(record) => {
                self.keys.insert(record.id.clone(), Arc::new(record.clone()));
            }
            Change::KeyGone(id) => {
                self.keys.remove(id);
            }
            Change::Role(record) => {
                let grants = record.grants.iter().filter_map(|grant| match grant_from_wire(grant) {
                    Ok(grant) => Some(grant),
                    Err(error) => {
                        tracing::warn!(role = record.name, %error, "placement sent a grant that cannot be");
                        None
                    }
                });
                self.roles.insert((record.tenant.clone(), record.name.clone()), grants.collect());
            }
            Change::RoleGone(role) => {
                self.roles.remove(&(role.tenant.clone(), role.name.clone()));
            }
            Change::Tenant(_) | Change::TenantGone(_) | Change::Group(_) | Change::GroupGone(_) => return false,
        }
        true
    }

    fn grants(&self, tenant: &str, roles: &[String]) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::new();
        for role in roles {
            let own = self.roles.get(&(tenant.to_owned(), role.clone()));
            let Some(found) = own.or_else(|| self.roles.get(&(String::new(), role.clone()))) else { continue };
            for grant in found {
                if !grants.contains(grant) {
                    grants.push(grant.clone());
                }
            }
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use conflux_proto::internal::{KeyRecord, RoleRecord, change::Change};

    use super::*;

    fn role(tenant: &str, name: &str, action: &str, pattern: &str) -> Change {
        let grants = vec![internal::Grant { action: action.into(), pattern: pattern.into() }];
        Change::Role(RoleRecord { tenant: tenant.into(), name: name.into(), grants })
    }

    fn directory(changes: &[Change]) -> Directory {
        let directory = Directory::new(Duration::from_secs(900));
        directory.change(1, |content| {
            for change in changes {
                content.apply(change);
            }
        });
        directory
    }

    fn grants(directory: &Directory, tenant: &str, roles: &[&str]) -> Vec<String> {
        let roles: Vec<String> = roles.iter().map(|r| (*r).to_owned()).collect();
        let (grants, _) = directory.grants(&tenant.parse().unwrap(), &roles);
        grants.iter().map(|g| format!("{} {}", g.action, g.pattern)).collect()
    }

    #[test]
    fn a_role_is_the_tenants_own_or_built_in_and_never_anothers() {
        let directory = directory(&[
            role("", "reader", "read", "*/*/*"),
            role("acme", "deployer", "publish", "shop/*/*"),
            role("globex", "deployer", "delete", "*/*/*"),
        ]);
        assert_eq!(grants(&directory, "acme", &["reader", "deployer"]), ["read */*/*", "publish shop/*/*"]);
        assert!(grants(&directory, "initech", &["deployer", "nobody"]).is_empty());
    }

    #[test]
    fn an_expired_key_is_refused() {
        let record = |expires_ms| KeyRecord { id: "k".into(), tenant: "acme".into(), expires_ms, ..Default::default() };
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let directory = directory(&[]);
        assert!(directory.key_principal(&record(1000), at(999)).is_ok());
        assert_eq!(directory.key_principal(&record(1000), at(1000)), Err(Refusal::Invalid));
        assert!(directory.key_principal(&record(0), at(u64::from(u32::MAX))).is_ok());
        let nobodys = KeyRecord { id: "k".into(), ..Default::default() };
        assert_eq!(
            directory.key_principal(&nobodys, at(0)),
            Err(Refusal::Invalid),
            "neither a tenant's nor an operator's"
        );
    }

    #[test]
    fn what_was_made_of_a_key_goes_with_every_change() {
        // A role that was taken away must not be kept by a request that came before.
        let key = |roles: &[&str]| {
            let roles = roles.iter().map(|r| (*r).to_owned()).collect();
            Change::Key(KeyRecord {
                id: "k".into(),
                tenant: "acme".into(),
                roles,
                expires_ms: 1000,
                ..Default::default()
            })
        };
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let directory = directory(&[key(&["r"]), role("acme", "r", "read", "*/*/*")]);
        let apply = |seq, change: Change| {
            directory.change(seq, |content| {
                content.apply(&change);
            });
        };
        let first = directory.principal_of("k", at(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &directory.principal_of("k", at(2)).unwrap()), "made once");
        assert_eq!(directory.principal_of("k", at(1000)), Err(Refusal::Invalid), "its time is looked at each time");
        apply(2, role("acme", "r", "read", "shop/*/*"));
        assert_eq!(directory.principal_of("k", at(3)).unwrap().grants[0].pattern.to_string(), "shop/*/*");
        apply(3, key(&[]));
        assert!(directory.principal_of("k", at(3)).unwrap().grants.is_empty());
        directory.heard(7);
        assert_eq!(directory.principal_of("k", at(3)).unwrap().directory_seq, 7, "a shard compares it");
        apply(8, Change::KeyGone("k".into()));
        assert_eq!(directory.principal_of("k", at(3)), Err(Refusal::Invalid));
    }

    #[test]
    fn an_identity_is_checked_again_by_what_is_known_now() {
        // For watches: a revoked key ends them, a changed role changes them.
        let key = || {
            Change::Key(KeyRecord {
                id: "k".into(),
                tenant: "acme".into(),
                roles: vec!["r".into()],
                ..Default::default()
            })
        };
        let directory = directory(&[key(), role("acme", "r", "read", "*/*/*")]);
        let record = directory.key("k").unwrap();
        let principal = Arc::new(directory.key_principal(&record, SystemTime::now()).unwrap());
        let identity = Identity { principal, credential: Credential::Key("k".into()) };
        directory.change(2, |content| {
            content.apply(&role("acme", "r", "read", "shop/*/*"));
        });
        let again = directory.recheck(&identity, SystemTime::now()).unwrap();
        assert_eq!((again.grants[0].pattern.to_string().as_str(), again.directory_seq), ("shop/*/*", 2));
        directory.change(3, |content| {
            content.apply(&Change::KeyGone("k".into()));
        });
        assert_eq!(directory.recheck(&identity, SystemTime::now()), Err(Refusal::Invalid));
    }
}
