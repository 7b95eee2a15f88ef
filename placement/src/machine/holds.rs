//! What keeps tenants as they are for a while: a backup that is being taken, and a restored placement that has not heard
//! from its shards. Creation, deletion and every move ask [`is_held`] before they begin; what is under way ends.

use conflux_common::error::Code;
use conflux_proto::{
    log::{PutHold, placement_answer::Result as Answer},
    store::{Closed, Hold},
};
use conflux_raft::{FatalError, Read, Tx};

use super::{Effect, Stop, groups, invalid, refuse};
use crate::store::{
    Key,
    rows::{load, remove, save},
};

/// From this replicated level on.
pub const LEVEL: u32 = 2;
/// A hold ends so long after its last renewal at the latest.
pub const MAX_TTL_MS: u64 = 10 * 60 * 1000;
/// Of an id and of a purpose, in bytes.
const MAX_TEXT: usize = 200;

/// Why no tenant may be made, deleted or moved at this group time; none: it may. Deterministic.
pub fn is_held(rows: &impl Read, now_ms: u64) -> Result<Option<String>, FatalError> {
    if let Some(hold) = standing(rows, now_ms)? {
        let seconds = (hold.expires_ms - now_ms).div_ceil(1000);
        return Ok(Some(format!(
            "tenants are neither made, deleted nor moved while {} ({}) holds them: repeat it in a moment; at the latest in {seconds} s the \
             hold ends, unless it is renewed",
            hold.purpose, hold.principal
        )));
    }
    let Some(closed) = closed(rows)? else { return Ok(None) };
    let waits: Vec<String> =
        groups::all(rows)?.into_iter().map(|g| g.name).filter(|name| !closed.reported.contains(name)).collect();
    Ok(Some(format!(
        "placement was restored from a backup and waits for its shards to report: {}. start them; `conflux restored list` shows what is missing",
        waits.join(", ")
    )))
}

/// The hold that stands at this group time.
pub fn standing(rows: &impl Read, now_ms: u64) -> Result<Option<Hold>, FatalError> {
    let hold: Option<Hold> = load(rows, &Key::Hold)?;
    Ok(hold.filter(|hold| hold.expires_ms > now_ms))
}

/// What a restored placement waits for.
pub fn closed(rows: &impl Read) -> Result<Option<Closed>, FatalError> {
    load(rows, &Key::Closed)
}

pub(super) fn require_free(rows: &impl Read, now_ms: u64) -> Result<(), Stop> {
    match is_held(rows, now_ms)? {
        None => Ok(()),
        Some(why) => Err(refuse(Code::Unavailable, why)),
    }
}

/// Begins a hold, or renews the one of this id. One that has ended cannot be renewed: so a renewal proves that it stood
/// since it began.
pub(super) fn put(tx: &mut Tx<'_>, now_ms: u64, put: PutHold, principal: String) -> Result<Effect, Stop> {
    for (field, text) in [("id", &put.id), ("purpose", &put.purpose)] {
        if text.len() > MAX_TEXT || (text.is_empty() && (field == "id" || !put.renew)) {
            return Err(invalid(field, format!("1 to {MAX_TEXT} bytes")));
        }
    }
    if put.ttl_ms == 0 || put.ttl_ms > MAX_TTL_MS {
        return Err(invalid("ttl_ms", format!("1 to {MAX_TTL_MS}")));
    }
    let expires_ms = now_ms + put.ttl_ms;
    let hold = match standing(tx, now_ms)? {
        Some(hold) if hold.id == put.id => Hold { expires_ms, ..hold },
        Some(other) => {
            let why = format!("{} ({}) holds the tenants already", other.purpose, other.principal);
            return Err(refuse(Code::Unavailable, why));
        }
        None if put.renew => {
            return Err(refuse(
                Code::FailedPrecondition,
                "this hold has ended: what was done under it may not fit together",
            ));
        }
        None => Hold { id: put.id, purpose: put.purpose, principal, since_ms: now_ms, expires_ms },
    };
    save(tx, &Key::Hold, &hold);
    Ok(Effect::new(Answer::Hold(hold), []))
}

/// Ends the hold of this id; one that has ended or is another's is no error.
pub(super) fn release(tx: &mut Tx<'_>, id: &str) -> Result<Effect, Stop> {
    let hold: Option<Hold> = load(tx, &Key::Hold)?;
    let own = hold.is_some_and(|hold| hold.id == id);
    if own {
        remove(tx, &Key::Hold);
    }
    Ok(Effect::new(Answer::Done(own), []))
}

#[cfg(test)]
mod tests {
    use conflux_proto::{
        internal::{GroupMember, GroupRecord},
        log::{CreateTenant, DeleteTenantRecord, PlacementCommand, placement_command::Op},
    };
    use conflux_raft::view::MemoryState;

    use super::*;
    use crate::machine;

    fn run(state: &mut MemoryState, now_ms: u64, op: Op) -> Result<Answer, String> {
        let command = PlacementCommand { principal: "operator:ann".into(), op: Some(op), ..Default::default() };
        match state.apply(|tx| machine::apply(tx, now_ms, command)).unwrap().answer.result.unwrap() {
            Answer::Refusal(why) => Err(format!("{}: {}", why.code, why.message)),
            answer => Ok(answer),
        }
    }

    fn hold(renew: bool, id: &str) -> Op {
        Op::PutHold(PutHold { id: id.into(), purpose: "a backup".into(), ttl_ms: 1000, renew })
    }

    fn create(name: &str) -> Op {
        Op::CreateTenant(CreateTenant { name: name.into(), ..Default::default() })
    }

    pub(in crate::machine) fn with_shard() -> MemoryState {
        let mut state = MemoryState::new();
        let member = GroupMember { node_id: 1, name: "a-1".into(), service_address: "h:1".into(), voter: true };
        let group = GroupRecord { name: "a".into(), members: vec![member], log_index: 1, ..Default::default() };
        run(&mut state, 0, Op::ReportGroup(group)).unwrap();
        state
    }

    /// While a backup is taken tenants stay as they are; a backup that died must not stop them for ever.
    #[test]
    fn a_hold_stands_until_it_ends() {
        let mut state = with_shard();
        run(&mut state, 10, create("old")).unwrap();
        run(&mut state, 100, hold(false, "x")).unwrap();
        let refused = run(&mut state, 500, create("acme")).unwrap_err();
        assert!(refused.starts_with("UNAVAILABLE") && refused.contains("a backup (operator:ann)"), "{refused}");
        let delete = Op::DeleteTenant(DeleteTenantRecord { name: "old".into() });
        assert!(run(&mut state, 500, delete.clone()).unwrap_err().starts_with("UNAVAILABLE"));
        assert!(run(&mut state, 500, hold(false, "y")).unwrap_err().starts_with("UNAVAILABLE"), "one at a time");
        run(&mut state, 900, hold(true, "x")).unwrap();
        assert!(run(&mut state, 1800, create("acme")).is_err(), "it was renewed");
        run(&mut state, 1900, create("acme")).unwrap();
        run(&mut state, 1900, delete).unwrap();
    }

    /// A renewal after the end would hide that something may have happened in between.
    #[test]
    fn what_has_ended_is_not_renewed() {
        let mut state = with_shard();
        run(&mut state, 100, hold(false, "x")).unwrap();
        assert!(run(&mut state, 1100, hold(true, "x")).unwrap_err().starts_with("FAILED_PRECONDITION"));
        run(&mut state, 1100, hold(false, "y")).unwrap();
        assert_eq!(run(&mut state, 1200, Op::ReleaseHold("x".into())).unwrap(), Answer::Done(false), "another's");
        assert_eq!(run(&mut state, 1200, Op::ReleaseHold("y".into())).unwrap(), Answer::Done(true));
        run(&mut state, 1200, create("acme")).unwrap();
    }
}
