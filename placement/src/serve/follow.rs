//! What a follower of the changes is sent next. Pure: a position and the rows decide.
//!
//! A whole copy is read in chunks at different moments, and the changes since its beginning follow it: each change
//! carries whole records, so that one which the copy has already is harmless. Memory stays flat whatever the size, and
//! nothing is held between two chunks.

use std::ops::ControlFlow;

use conflux_proto::internal::{Change, ChangesRequest, ChangesResponse, GroupRecord, change};
use conflux_raft::{FatalError, Read};
use prost::Message;

use crate::{
    directory::roles::built_in,
    machine::history::{self, Stretch},
    store::{Family, Key, rows::counters},
};

/// The families of a whole copy, in the order in which they refer to each other.
const COPIED: [Family; 4] = [Family::Group, Family::Role, Family::Tenant, Family::ApiKey];
/// Bytes of rows in one frame of a copy; one more row may go beyond.
const CHUNK: usize = 256 << 10;
/// Frames of the history read at once.
const FRAMES: usize = 64;

/// Where a follower is.
#[derive(Debug)]
pub struct Follower(Position);

#[derive(Debug)]
enum Position {
    /// It has nothing, or too little: a copy begins.
    Start,
    /// Amid a copy that began at `seq`: the next row is the first one after `after`.
    Copying { seq: u64, after: Vec<u8> },
    /// It has everything up to this sequence.
    After(u64),
}

impl Follower {
    /// As the follower says of itself.
    pub fn new(request: &ChangesRequest) -> Self {
        Self(if request.has_after { Position::After(request.after) } else { Position::Start })
    }

    /// The sequence up to which it has everything; none amid a copy.
    pub fn caught_up_to(&self) -> Option<u64> {
        match self.0 {
            Position::After(seq) => Some(seq),
            _ => None,
        }
    }

    /// The next frames; none: it has everything.
    pub fn next(&mut self, rows: &impl Read) -> Result<Vec<ChangesResponse>, FatalError> {
        match &self.0 {
            Position::Start => self.begin(rows),
            Position::Copying { seq, after } => {
                let (seq, after) = (*seq, after.clone());
                self.copy(rows, seq, &after, false)
            }
            Position::After(seq) => match history::after(rows, *seq, FRAMES)? {
                Stretch::Gone => self.begin(rows),
                Stretch::Frames(frames) => {
                    if let Some((last, _)) = frames.last() {
                        self.0 = Position::After(*last);
                    }
                    let frame = |(seq, frame): (u64, conflux_proto::store::ChangeFrame)| ChangesResponse {
                        seq,
                        changes: frame.changes,
                        ..Default::default()
                    };
                    Ok(frames.into_iter().map(frame).collect())
                }
            },
        }
    }

    fn begin(&mut self, rows: &impl Read) -> Result<Vec<ChangesResponse>, FatalError> {
        let seq = counters(rows)?.change_seq;
        self.copy(rows, seq, &[], true)
    }

    fn copy(
        &mut self,
        rows: &impl Read,
        seq: u64,
        after: &[u8],
        reset: bool,
    ) -> Result<Vec<ChangesResponse>, FatalError> {
        let mut changes: Vec<Change> = Vec::new();
        if reset {
            changes.extend(built_in().map(|role| Change { change: Some(change::Change::Role(role)) }));
        }
        let last = chunk(rows, after, &mut changes)?;
        let complete = last.is_none();
        self.0 = match last {
            Some(after) => Position::Copying { seq, after },
            None => Position::After(seq),
        };
        Ok(vec![ChangesResponse { reset, complete, seq, changes, progress: false }])
    }
}

/// Adds the next rows; the key of the last one, or none when there are no more.
fn chunk(rows: &impl Read, after: &[u8], changes: &mut Vec<Change>) -> Result<Option<Vec<u8>>, FatalError> {
    // Families are not in the order of their ordinals: those before that of `after` were copied.
    let done = after.first().map_or(0, |first| COPIED.iter().position(|f| *f as u8 == *first).unwrap_or(COPIED.len()));
    let (mut bytes, mut last, mut damaged) = (0, None, None);
    for (at, family) in COPIED.into_iter().enumerate().skip(done) {
        let (from, to) = family.range();
        let from = if at == done && !after.is_empty() { [after, &[0]].concat() } else { from };
        rows.scan(&from, &to, &mut |key, value| {
            match change_of(family, key, value) {
                Ok(change) => changes.push(Change { change: Some(change) }),
                Err(e) => damaged = Some(e),
            }
            bytes += value.len();
            if bytes < CHUNK && damaged.is_none() {
                return ControlFlow::Continue(());
            }
            last = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        if let Some(e) = damaged {
            return Err(e);
        }
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

fn change_of(family: Family, key: &[u8], value: &[u8]) -> Result<change::Change, FatalError> {
    fn parse<M: Message + Default>(key: &[u8], value: &[u8]) -> Result<M, FatalError> {
        M::decode(value).map_err(|e| FatalError(format!("row {:?} cannot be read: {e}", Key::decode(key))))
    }
    Ok(match family {
        Family::Group => change::Change::Group(parse::<GroupRecord>(key, value)?),
        Family::Role => change::Change::Role(parse(key, value)?),
        Family::Tenant => change::Change::Tenant(parse(key, value)?),
        Family::ApiKey => change::Change::Key(parse(key, value)?),
        other => return Err(FatalError(format!("{other:?} is not part of the stream"))),
    })
}

#[cfg(test)]
mod tests {
    use conflux_proto::{
        internal::TenantRecord,
        log::{PlacementCommand, placement_command::Op},
    };
    use conflux_raft::view::MemoryState;

    use super::*;
    use crate::{machine, store::rows::save};

    fn request(after: Option<u64>) -> ChangesRequest {
        ChangesRequest { after: after.unwrap_or(0), has_after: after.is_some() }
    }

    fn report(state: &mut MemoryState, name: &str, log_index: u64) -> u64 {
        let member = conflux_proto::internal::GroupMember {
            node_id: 1,
            name: format!("{name}-1"),
            service_address: "h:1".into(),
            voter: true,
        };
        let group = GroupRecord { name: name.into(), log_index, members: vec![member], ..Default::default() };
        let command = PlacementCommand { op: Some(Op::ReportGroup(group)), ..Default::default() };
        state.apply(|tx| machine::apply(tx, 1, command)).unwrap().seq.unwrap()
    }

    fn groups(frames: &[ChangesResponse]) -> Vec<(String, u64)> {
        let all = frames.iter().flat_map(|f| &f.changes);
        all.filter_map(|c| match &c.change {
            Some(change::Change::Group(g)) => Some((g.name.clone(), g.log_index)),
            _ => None,
        })
        .collect()
    }

    /// A newcomer gets a whole copy that is marked as such, then only what is new.
    #[test]
    fn a_copy_then_changes() {
        let mut state = MemoryState::new();
        report(&mut state, "a", 1);
        let mut follower = Follower::new(&request(None));
        let copy = state.read(|v| follower.next(v)).unwrap();
        assert_eq!((copy.len(), copy[0].reset, copy[0].complete, copy[0].seq), (1, true, true, 1));
        assert_eq!(groups(&copy), [("a".into(), 1)]);
        let roles = copy[0].changes.iter().filter(|c| matches!(c.change, Some(change::Change::Role(_)))).count();
        assert_eq!(roles, 4, "the built-in roles are part of it");
        assert!(state.read(|v| follower.next(v)).unwrap().is_empty());
        report(&mut state, "a", 2);
        report(&mut state, "b", 1);
        let next = state.read(|v| follower.next(v)).unwrap();
        assert_eq!(next.iter().map(|f| (f.seq, f.reset)).collect::<Vec<_>>(), [(2, false), (3, false)]);
        assert_eq!(follower.caught_up_to(), Some(3));
    }

    /// A reconnect goes on after the last sequence; one that is from another history starts over.
    #[test]
    fn resume_or_start_over() {
        let mut state = MemoryState::new();
        for index in 1..=5 {
            report(&mut state, "a", index);
        }
        let mut follower = Follower::new(&request(Some(3)));
        let next = state.read(|v| follower.next(v)).unwrap();
        assert_eq!(next.iter().map(|f| f.seq).collect::<Vec<_>>(), [4, 5]);
        assert!(!next[0].reset);
        let mut ahead = Follower::new(&request(Some(6)));
        assert!(state.read(|v| ahead.next(v)).unwrap()[0].reset);
    }

    /// A large copy comes in bounded frames, each row once, and what changed meanwhile follows it.
    #[test]
    fn a_large_copy_is_cut() {
        let mut state = MemoryState::new();
        report(&mut state, "a", 1);
        let count = 500;
        state.apply(|tx| {
            for id in 1..=count {
                let description = "x".repeat(4096);
                save(tx, &Key::Tenant(id), &TenantRecord { id, description, ..Default::default() });
            }
        });
        let mut follower = Follower::new(&request(None));
        let (mut frames, mut ids) = (Vec::new(), Vec::new());
        loop {
            let next = state.read(|v| follower.next(v)).unwrap();
            assert!(next.iter().all(|f| f.encoded_len() < CHUNK + 16_384));
            frames.extend(next);
            if frames.len() == 3 {
                // The group was copied already: its change must come after.
                report(&mut state, "a", 2);
            }
            if frames.last().unwrap().complete {
                break;
            }
            assert_eq!(follower.caught_up_to(), None);
        }
        for change in frames.iter().flat_map(|f| &f.changes) {
            if let Some(change::Change::Tenant(t)) = &change.change {
                ids.push(t.id);
            }
        }
        assert_eq!(ids, (1..=count).collect::<Vec<_>>());
        assert!(frames.len() > 5 && frames[0].reset && frames[1..].iter().all(|f| !f.reset && f.seq == 1));
        assert_eq!(groups(&state.read(|v| follower.next(v)).unwrap()), [("a".into(), 2)]);
    }
}
