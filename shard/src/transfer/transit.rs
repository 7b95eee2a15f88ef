//! Which tenants are on their way, as the log tells it.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
    time::Duration,
};

use conflux_common::ids::TenantId;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    machine::{Notice, TenantState},
    query,
    shard::Node,
    store::tenant,
};

/// How an import goes, in the memory of who does it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Touched rows of the source that are not here yet, as last heard.
    pub lag: u64,
    /// Why it does not go on just now; empty: it does.
    pub trouble: String,
}

/// See the module.
#[derive(Default)]
pub struct Transit {
    /// Set while the process serves.
    node: Mutex<Option<Node>>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// None: the state was replaced, or has not been looked at.
    under_way: Option<BTreeSet<TenantId>>,
    /// What a frozen tenant's rows say was true then at the latest.
    frozen: HashMap<TenantId, Instant>,
    imports: HashMap<TenantId, Progress>,
}

pub(super) fn is_under_way(state: TenantState) -> bool {
    matches!(state, TenantState::Importing | TenantState::Prepared | TenantState::Frozen)
}

impl Transit {
    /// The node is opened after its state machine, which tells this.
    pub fn attach(&self, node: Node) {
        *self.node.lock() = Some(node);
    }

    /// Lets the node go, which holds its state machine, which holds this.
    pub fn detach(&self) {
        *self.node.lock() = None;
    }

    /// What was committed.
    pub fn committed(&self, notices: &[Notice]) {
        for notice in notices {
            let Notice::Tenant { tenant_id, state, .. } = notice else { continue };
            let now = Instant::now();
            // Another shard may go on from the freeze. What was confirmed before this entry was confirmed before the freeze.
            let age = self.node.lock().as_ref().map_or(Duration::MAX, |node| node.freshness().age);
            let mut own = self.state.lock();
            match now.checked_sub(age) {
                Some(since) if *state == TenantState::Frozen => own.frozen.insert(*tenant_id, since),
                _ => own.frozen.remove(tenant_id),
            };
            let known = own.under_way.as_mut().is_some_and(|set| match is_under_way(*state) {
                true => set.insert(*tenant_id),
                false => set.remove(tenant_id),
            });
            drop(own);
            if known {
                self.changed.notify_one();
            }
        }
    }

    /// A snapshot replaced the state.
    pub fn replaced(&self) {
        let mut state = self.state.lock();
        state.under_way = None;
        state.frozen.clear();
    }

    /// Wakes when a tenant sets out or arrives.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How old a frozen tenant's rows may be, whatever the age of the replica's state; `MAX`: nobody knows.
    pub fn frozen_for(&self, id: TenantId) -> Duration {
        self.state.lock().frozen.get(&id).map_or(Duration::MAX, |since| since.elapsed())
    }

    /// The tenants that are importing, prepared or frozen.
    pub fn under_way(&self, node: &Node) -> Vec<TenantId> {
        if let Some(known) = &self.state.lock().under_way {
            return known.iter().copied().collect();
        }
        // Empty first: what is committed while the rows are read is added to it.
        self.state.lock().under_way = Some(BTreeSet::new());
        let mut found = BTreeSet::new();
        let read = node.read(|view| {
            tenant::each(view, |row| {
                if query::state_of(&row).is_some_and(is_under_way) {
                    found.insert(TenantId(row.id));
                }
                Ok(ControlFlow::Continue(()))
            })
        });
        let mut state = self.state.lock();
        match read {
            Ok(Ok(())) => {
                let known = state.under_way.get_or_insert_default();
                known.extend(found);
                known.iter().copied().collect()
            }
            _ => {
                state.under_way = None;
                Vec::new()
            }
        }
    }

    /// It is not on its way any more. Told while the rows were looked through, it could have been missed.
    pub(super) fn forget(&self, id: TenantId) {
        if let Some(known) = &mut self.state.lock().under_way {
            known.remove(&id);
        }
    }

    /// How the import of this tenant goes.
    pub fn progress(&self, id: TenantId) -> Progress {
        self.state.lock().imports.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn note(&self, id: TenantId, progress: Option<Progress>) {
        let mut state = self.state.lock();
        match progress {
            Some(progress) => state.imports.insert(id, progress),
            None => state.imports.remove(&id),
        };
    }
}
