//! A watcher is told every revision once and in order, over all its resumptions, and nothing that did not happen; a mark never
//! overtakes an event; in the end it has been told all.

use super::{Evidence, acknowledged_writes::event};
use crate::{
    history::Told,
    observe,
    world::{disks, hosts},
};

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for ((watcher, tenant), told) in evidence.history.watched.borrow().iter() {
        let wrong = |what: String| format!("{watcher} of tenant {tenant}: {what}");
        let home = evidence.homes.get(tenant).filter(|_| evidence.complete);
        let state = home.and_then(|home| disks::state(&hosts::members(home)[0]));
        let id = evidence.tenants[*tenant].id;
        let mut last = None;
        for told in told {
            match (told, last) {
                (Told::Joined(revision), _) => last = Some(*revision),
                (Told::Revision(revision, _), Some(before)) if *revision != before + 1 => {
                    return Err(wrong(format!("told {revision} after {before}")));
                }
                (Told::Revision(revision, events), _) => {
                    if let Some(state) = &state {
                        let happened = event(state, id, *revision).map(|(name, version, _)| (name, version));
                        let versions = events.iter().find(|(_, version)| *version > 0).cloned();
                        if happened != versions {
                            return Err(wrong(format!("told {events:?} of {revision}; there is {happened:?}")));
                        }
                    }
                    last = Some(*revision);
                }
                (Told::Mark(revision), Some(before)) if *revision > before => {
                    return Err(wrong(format!("a mark of {revision} after {before}: events were left out")));
                }
                (Told::Mark(_), _) => {}
            }
        }
        if let Some(state) = &state {
            let tenants = observe::tenants(state);
            let present = tenants.iter().find(|t| t.id == id).map_or(0, |t| t.revision);
            if last.is_some_and(|last| last != present) {
                return Err(wrong(format!("the last that it was told is {last:?}, the tenant is at {present}")));
            }
        }
    }
    Ok(())
}
