//! The mirror of tenants and groups: which group serves a tenant, and where that group's members are.

use std::{collections::HashMap, sync::Arc};

use conflux_common::ids::{Epoch, GroupName, Incarnation, MemberName, TenantId, TenantName};
use conflux_proto::internal;
use parking_lot::RwLock;
use tokio::sync::watch;

/// Where a tenant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRoute {
    /// Its name.
    pub name: TenantName,
    /// Its id, for ever.
    pub id: TenantId,
    /// Which life of its history.
    pub incarnation: Incarnation,
    /// Fences ownership.
    pub epoch: Epoch,
    /// The shard group that serves it.
    pub group: GroupName,
}

/// A process of a group, as the group's leader reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its Raft id: 0 where it is only known by configuration.
    pub node_id: u64,
    /// Its name, which its certificate carries too.
    pub name: MemberName,
    /// host:port of its service port.
    pub address: String,
}

/// A Raft group's membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `placement`, or a shard's name.
    pub name: GroupName,
    /// Of the group's own log: a newer membership wins.
    pub log_index: u64,
    /// Among reports of one membership the one of the higher term knows the later leader.
    pub term: u64,
    /// Voters and learners.
    pub members: Vec<Member>,
}

impl Group {
    /// Known from our own settings only: a group that reports has a term.
    pub fn is_configured(&self) -> bool {
        self.log_index == 0 && self.term == 0
    }

    /// The member of this name.
    pub fn member(&self, name: &MemberName) -> Option<&Member> {
        self.members.iter().find(|m| &m.name == name)
    }
}

/// Cheap to clone; all clones see one table.
#[derive(Debug, Clone, Default)]
pub struct Routes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: RwLock<Table>,
    changed: watch::Sender<u64>,
}

/// What the stream of changes built up.
#[derive(Debug, Default, Clone)]
pub struct Table {
    tenants: HashMap<TenantId, TenantRoute>,
    names: HashMap<TenantName, TenantId>,
    groups: HashMap<GroupName, Arc<Group>>,
    leaders: HashMap<GroupName, MemberName>,
}

impl Routes {
    /// The tenant of this name.
    pub fn tenant(&self, name: &TenantName) -> Option<TenantRoute> {
        let table = self.0.table.read();
        table.names.get(name).and_then(|id| table.tenants.get(id)).cloned()
    }

    /// The tenant of this id.
    pub fn tenant_by_id(&self, id: TenantId) -> Option<TenantRoute> {
        self.0.table.read().tenants.get(&id).cloned()
    }

    /// The members of a group.
    pub fn group(&self, name: &GroupName) -> Option<Arc<Group>> {
        self.0.table.read().groups.get(name).cloned()
    }

    /// Every group, by name.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let mut all: Vec<_> = self.0.table.read().groups.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Who is believed to lead a group.
    pub fn leader(&self, group: &GroupName) -> Option<MemberName> {
        self.0.table.read().leaders.get(group).cloned()
    }

    /// Remembers who leads a group, as an answer of a member said it; `None` forgets.
    pub fn note_leader(&self, group: &GroupName, leader: Option<MemberName>) {
        let mut table = self.0.table.write();
        match leader {
            Some(leader) => table.leaders.insert(group.clone(), leader),
            None => table.leaders.remove(group),
        };
    }

    /// Bumped with each change of the table.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Takes what a look-up answered, unless something newer is known.
    pub fn learn(&self, record: &internal::TenantRecord) -> Option<TenantRoute> {
        let learned = self.0.table.write().learn(record);
        self.bump();
        learned
    }

    /// Changes the table in one step.
    pub fn change(&self, with: impl FnOnce(&mut Table)) {
        with(&mut self.0.table.write());
        self.bump();
    }

    /// Puts a whole copy in place of the table. What was learnt of leaders stays.
    pub fn replace(&self, mut table: Table) {
        let mut present = self.0.table.write();
        // A group that is only in our own settings (placement) is in no copy; any other that is not was removed.
        for (name, group) in present.groups.drain().filter(|(_, group)| group.is_configured()) {
            table.groups.entry(name).or_insert(group);
        }
        for (group, leader) in present.leaders.drain() {
            if table.groups.contains_key(&group) {
                table.leaders.entry(group).or_insert(leader);
            }
        }
        *present = table;
        drop(present);
        self.bump();
    }

    fn bump(&self) {
        self.0.changed.send_modify(|n| *n += 1);
    }
}

impl Table {
    /// Applies one change; what is no concern of routes is passed over.
    pub fn apply(&mut self, change: &internal::change::Change) {
        use internal::change::Change;
        match change {
            Change::Tenant(record) => {
                self.learn(record);
            }
            Change::TenantGone(id) => self.forget(TenantId(*id)),
            Change::Group(record) => self.take_group(record),
            Change::GroupGone(name) => self.forget_group(name),
            Change::Key(_) | Change::KeyGone(_) | Change::Role(_) | Change::RoleGone(_) => {}
        }
    }

    fn forget(&mut self, id: TenantId) {
        if let Some(old) = self.tenants.remove(&id)
            && self.names.get(&old.name) == Some(&id)
        {
            self.names.remove(&old.name);
        }
    }

    /// The record's route, if it is (or stays) the newest known of this tenant and the tenant is served.
    fn learn(&mut self, record: &internal::TenantRecord) -> Option<TenantRoute> {
        let route = match route_of(record) {
            Ok(route) => route,
            Err(error) => {
                tracing::warn!(id = record.id, error, "placement sent a tenant that cannot be");
                return None;
            }
        };
        if let Some(known) = self.tenants.get(&route.id)
            && known.epoch > route.epoch
        {
            return Some(known.clone());
        }
        if record.state() == internal::TenantState::Gone {
            self.forget(route.id);
            return None;
        }
        if let Some(old) = self.names.insert(route.name.clone(), route.id)
            && old > route.id
        {
            // An older holder of a name that was given anew.
            self.names.insert(route.name.clone(), old);
        }
        self.tenants.insert(route.id, route.clone());
        Some(route)
    }

    fn take_group(&mut self, record: &internal::GroupRecord) {
        let group = match group_of(record) {
            Ok(group) => group,
            Err(error) => {
                tracing::warn!(group = record.name, error, "placement sent a group that cannot be");
                return;
            }
        };
        let newer = |known: &Arc<Group>| (known.log_index, known.term) > (group.log_index, group.term);
        if self.groups.get(&group.name).is_some_and(newer) {
            return;
        }
        if let Some(leader) = group.members.iter().find(|m| record.leader != 0 && m.node_id == record.leader) {
            self.leaders.insert(group.name.clone(), leader.name.clone());
        }
        self.groups.insert(group.name.clone(), Arc::new(group));
    }

    fn forget_group(&mut self, name: &str) {
        if let Ok(name) = GroupName::new(name) {
            self.groups.remove(&name);
            self.leaders.remove(&name);
        }
    }

    /// Adds a group that is known without the stream.
    pub fn add_group(&mut self, group: Group) {
        self.groups.insert(group.name.clone(), Arc::new(group));
    }
}

fn route_of(record: &internal::TenantRecord) -> Result<TenantRoute, String> {
    Ok(TenantRoute {
        name: TenantName::new(record.name.as_str()).map_err(|e| e.to_string())?,
        id: TenantId(record.id),
        incarnation: Incarnation(record.incarnation),
        epoch: Epoch(record.epoch),
        group: GroupName::new(record.shard.as_str()).map_err(|e| e.to_string())?,
    })
}

fn group_of(record: &internal::GroupRecord) -> Result<Group, String> {
    let member = |m: &internal::GroupMember| {
        Ok::<_, String>(Member {
            node_id: m.node_id,
            name: MemberName::new(m.name.as_str()).map_err(|e| e.to_string())?,
            address: m.service_address.clone(),
        })
    };
    Ok(Group {
        name: GroupName::new(record.name.as_str()).map_err(|e| e.to_string())?,
        log_index: record.log_index,
        term: record.term,
        members: record.members.iter().map(member).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use conflux_proto::internal::{TenantState, change::Change};

    use super::*;

    fn tenant(id: u64, name: &str, shard: &str, epoch: u64, state: TenantState) -> Change {
        Change::Tenant(internal::TenantRecord {
            id,
            name: name.into(),
            incarnation: 1,
            shard: shard.into(),
            epoch,
            state: state as i32,
            ..Default::default()
        })
    }

    fn group(name: &str, log_index: u64, leader: u64) -> Change {
        let member = |id: u64| internal::GroupMember {
            node_id: id,
            name: format!("{name}-{id}"),
            service_address: format!("127.0.0.1:{id}"),
            voter: true,
        };
        Change::Group(internal::GroupRecord {
            name: name.into(),
            log_index,
            members: vec![member(1), member(2)],
            weight: 1,
            leader,
            ..Default::default()
        })
    }

    fn routes(changes: &[Change]) -> Routes {
        let routes = Routes::default();
        routes.change(|t| changes.iter().for_each(|c| t.apply(c)));
        routes
    }

    #[test]
    fn an_older_record_never_replaces_a_newer_one() {
        // A lagging placement replica must not send requests back to where a tenant was.
        let stable = TenantState::Stable;
        let routes = routes(&[tenant(1, "acme", "a", 3, stable), tenant(1, "acme", "b", 2, stable)]);
        assert_eq!(routes.tenant(&"acme".parse().unwrap()).unwrap().group.as_str(), "a");
        routes.change(|t| t.apply(&tenant(1, "acme", "b", 4, stable)));
        assert_eq!(routes.tenant(&"acme".parse().unwrap()).unwrap().group.as_str(), "b");
    }

    #[test]
    fn a_name_follows_its_newest_holder() {
        // A name is free again after its tenant is gone; the old holder's end must not take the new one's route away.
        let name = "acme".parse().unwrap();
        let routes =
            routes(&[tenant(1, "acme", "a", 1, TenantState::Deleting), tenant(7, "acme", "b", 1, TenantState::Stable)]);
        assert_eq!(routes.tenant(&name).unwrap().id, TenantId(7));
        routes.change(|t| t.apply(&Change::TenantGone(1)));
        assert_eq!(routes.tenant(&name).unwrap().id, TenantId(7));
        routes.change(|t| t.apply(&Change::TenantGone(7)));
        assert_eq!(routes.tenant(&name), None);
    }

    #[test]
    fn leaders_come_with_groups_and_from_answers() {
        let name: GroupName = "a".parse().unwrap();
        let routes = routes(&[group("a", 5, 2)]);
        assert_eq!(routes.leader(&name).unwrap().as_str(), "a-2");
        routes.note_leader(&name, Some("a-1".parse().unwrap()));
        routes.change(|t| t.apply(&group("a", 4, 2)));
        assert_eq!(routes.leader(&name).unwrap().as_str(), "a-1", "an older membership says nothing");
        routes.note_leader(&name, None);
        assert_eq!(routes.leader(&name), None);
    }

    #[test]
    fn a_removed_group_is_forgotten_and_may_come_again() {
        let name: GroupName = "a".parse().unwrap();
        let routes = routes(&[group("a", 5, 2), Change::GroupGone("a".into())]);
        assert!(routes.group(&name).is_none() && routes.leader(&name).is_none());
        // A new group of that name begins with small log indexes.
        routes.change(|t| t.apply(&group("a", 1, 1)));
        assert_eq!(routes.group(&name).unwrap().log_index, 1);
    }

    #[test]
    fn a_whole_copy_forgets_what_is_not_in_it() {
        let routes = routes(&[tenant(1, "acme", "a", 1, TenantState::Stable), group("a", 1, 1), group("gone", 1, 1)]);
        routes.change(|t| t.add_group(Group { name: "p".parse().unwrap(), log_index: 0, term: 0, members: vec![] }));
        let mut copy = Table::default();
        copy.apply(&tenant(2, "globex", "a", 1, TenantState::Stable));
        copy.apply(&group("a", 1, 0));
        routes.replace(copy);
        assert_eq!(routes.tenant(&"acme".parse().unwrap()), None);
        assert!(routes.tenant(&"globex".parse().unwrap()).is_some());
        assert_eq!(routes.leader(&"a".parse().unwrap()).unwrap().as_str(), "a-1", "what is known of groups stays");
        assert!(routes.group(&"gone".parse().unwrap()).is_none(), "it was removed while nobody listened");
        assert!(routes.group(&"p".parse().unwrap()).is_some(), "what the settings say stays");
    }
}
