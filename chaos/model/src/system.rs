//! All parts together, and what can happen next.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::{
    client::Write,
    invariants,
    message::{Data, Epoch, Message, Move, Shard},
    placement::{Facts, Placement, Record},
    shard::{Entry, Owner, ShardState},
};

/// The rules that keep a move safe. Without one of them the model must fail.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A write is checked against ownership when it is applied, not only when it is proposed.
    pub epoch_at_apply: bool,
    /// The source looks the move up before it proposes Freeze.
    pub look_up_before_freeze: bool,
    /// A frozen source thaws only when a look-up says that the move is over.
    pub thaw_by_look_up: bool,
    /// Committed is written only over Freezing of the same move.
    pub compare_and_set_of_committed: bool,
    /// Deltas carry deleted rows.
    pub tombstones_in_deltas: bool,
}

impl Rules {
    /// As they are.
    pub const ALL: Rules = Rules {
        epoch_at_apply: true,
        look_up_before_freeze: true,
        thaw_by_look_up: true,
        compare_and_set_of_committed: true,
        tombstones_in_deltas: true,
    };
}

/// How far the exploration goes.
#[derive(Debug, Clone, Copy)]
pub struct Moves {
    /// The rules in force.
    pub rules: Rules,
    /// Moves that are begun: A to B, then from wherever the tenant is to the other.
    pub moves: usize,
    /// Moves that an operator or a budget may abort.
    pub aborts: u8,
    /// Leaders of shards that may die with their queue.
    pub crashes: u8,
    /// Writes after the first.
    pub writes: Write,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct System {
    /// The record.
    pub placement: Placement,
    /// A and B.
    pub shards: [ShardState; 2],
    /// All messages ever sent.
    pub network: BTreeSet<Message>,
    /// The client's writes up to this one were acknowledged.
    pub acknowledged: Write,
    /// What is left of [`Moves::aborts`].
    pub aborts: u8,
    /// What is left of [`Moves::crashes`].
    pub crashes: u8,
    /// For the invariants: a Freeze was proposed for a move that was not Freezing at that moment.
    pub needless_freeze: bool,
    /// For the invariants: a row was deleted at the source after it had been copied.
    pub deleted_after_copy: bool,
}

/// Entries that wait in one shard at a time.
const QUEUE: usize = 2;

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// An operator begins a move.
    Begin,
    /// The reconciler: from Preparing to Freezing.
    StartFreezing(Move),
    /// The reconciler: the commit point.
    Commit(Move),
    /// An operator, or a budget that is used up.
    Abort(Move),
    /// The reconciler: the destination serves.
    StartCleaning(Move),
    /// The reconciler: the move is over.
    Settle(Move),
    /// The destination asks the source for what it lacks.
    Copy(Move),
    /// A message arrives at a shard.
    Arrive(Shard, Message),
    /// A frozen shard looks up how its move stands.
    LookUp(Shard),
    /// A shard that has given the tenant away deletes it.
    Delete(Shard),
    /// The next entry of a shard's log is applied.
    Apply(Shard),
    /// A shard's leader dies with what it had proposed.
    Crash(Shard),
    /// The client's write reaches a shard, by a route that is or was right.
    Write(Shard, Write),
    /// An answer arrives.
    Acknowledge(Write),
}

impl System {
    /// A serves the tenant under epoch 1; one write is there.
    pub fn new(bounds: &Moves) -> Self {
        let mut a = ShardState { owner: Owner::Active { epoch: 1 }, ..ShardState::empty() };
        a.data.write(1);
        Self {
            placement: Placement { record: Record::Stable { shard: 0, epoch: 1 }, moves: Vec::new() },
            shards: [a, ShardState::empty()],
            network: BTreeSet::new(),
            acknowledged: 1,
            aborts: bounds.aborts,
            crashes: bounds.crashes,
            needless_freeze: false,
            deleted_after_copy: false,
        }
    }

    /// The data of the shard that placement says owns the tenant.
    pub fn owned(&self) -> &Data {
        &self.shards[self.placement.owner().0].data
    }

    fn said(&self, message: &Message) -> bool {
        self.network.contains(message)
    }

    fn say(&mut self, message: Message) {
        self.network.insert(message);
    }

    /// What a message makes a shard propose, after the look-ups that the rules demand.
    fn proposal(&self, to: Shard, message: &Message, rules: &Rules) -> Option<Entry> {
        let shard = &self.shards[to];
        let record = self.placement.record;
        let is_destination = |of: Move| self.placement.facts(of).destination == to;
        match message.clone() {
            Message::Import(of) => {
                let under_way = record == Record::Preparing(of) || record == Record::Freezing(of);
                (is_destination(of) && under_way && of > shard.ended).then_some(Entry::Import(of))
            }
            Message::First { of, history, row } => {
                (shard.owner == Owner::Importing { of, chunks: 0 }).then_some(Entry::First { of, history, row })
            }
            Message::Second { of, row } => {
                (shard.owner == Owner::Importing { of, chunks: 1 }).then_some(Entry::Second { of, row })
            }
            Message::Delta { of, from, writes, put, gone } => {
                let fits = shard.owner == Owner::Importing { of, chunks: 2 } && from == shard.data.history.len();
                fits.then_some(Entry::Delta { of, from, writes, put, gone })
            }
            Message::Frozen { of, data } => {
                let fits = shard.owner == Owner::Importing { of, chunks: 2 } && shard.data == data;
                fits.then_some(Entry::Seal { of, data })
            }
            Message::Freeze(of) => {
                let facts = self.placement.facts(of);
                let Owner::Active { epoch } = shard.owner else { return None };
                let asked = facts.source == to && of > shard.ended;
                let looked_up = record == Record::Freezing(of) && facts.epoch == epoch;
                (asked && (looked_up || !rules.look_up_before_freeze)).then_some(Entry::Freeze { of, epoch })
            }
            Message::Activate(of) => {
                let committed = record == Record::Committed(of) || record == Record::Cleaning(of);
                let waits = shard.owner == Owner::Prepared { of };
                (committed && waits && is_destination(of))
                    .then_some(Entry::Activate { of, epoch: self.placement.facts(of).next })
            }
            Message::End(of) => {
                let over = !matches!(record,
                    Record::Preparing(m) | Record::Freezing(m) | Record::Committed(m) | Record::Cleaning(m) if m == of);
                (over && !self.said(&Message::Ended(of, to))).then_some(Entry::End(of))
            }
            _ => None,
        }
    }

    /// What a frozen shard proposes after it has looked up how its move stands.
    fn verdict(&self, at: Shard, rules: &Rules) -> Option<Entry> {
        let Owner::Frozen { epoch, of } = self.shards[at].owner else { return None };
        let facts: Facts = self.placement.facts(of);
        match self.placement.record {
            Record::Freezing(m) if m == of => (!rules.thaw_by_look_up).then_some(Entry::End(of)),
            _ if self.placement.owner() == (at, epoch) => Some(Entry::End(of)),
            _ => Some(Entry::Depart { of, epoch: facts.next }),
        }
    }

    fn propose(&mut self, at: Shard, entry: Entry) -> bool {
        let queue = &mut self.shards[at].queue;
        let room = queue.len() < QUEUE && !queue.contains(&entry);
        if room {
            queue.push(entry);
        }
        room
    }
}

impl Model for Moves {
    type State = System;
    type Action = Action;

    fn init_states(&self) -> Vec<System> {
        vec![System::new(self)]
    }

    fn actions(&self, state: &System, actions: &mut Vec<Action>) {
        match state.placement.record {
            Record::Stable { .. } if state.placement.moves.len() < self.moves => actions.push(Action::Begin),
            Record::Stable { .. } => {}
            Record::Preparing(m) => {
                actions.extend([Action::StartFreezing(m), Action::Copy(m), Action::Abort(m)]);
            }
            Record::Freezing(m) => actions.extend([Action::Copy(m), Action::Abort(m)]),
            Record::Committed(m) => actions.push(Action::StartCleaning(m)),
            Record::Cleaning(m) | Record::Aborted(m) => actions.push(Action::Settle(m)),
        }
        for m in 1..=state.placement.moves.len() as Move {
            actions.push(Action::Commit(m));
        }
        for at in 0..2 {
            let arrivals = state.network.iter().filter(|message| state.proposal(at, message, &self.rules).is_some());
            actions.extend(arrivals.map(|message| Action::Arrive(at, message.clone())));
            actions.extend([Action::LookUp(at), Action::Delete(at), Action::Apply(at), Action::Crash(at)]);
        }
        let next = state.acknowledged + 1;
        if next <= self.writes + 1 {
            actions.extend([Action::Write(0, next), Action::Write(1, next), Action::Acknowledge(next)]);
        }
    }

    fn next_state(&self, last: &System, action: Action) -> Option<System> {
        let mut state = last.clone();
        let happens = step(&mut state, action, self);
        (happens && state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::all()
    }
}

/// Whether the action can happen; `state` is what it makes.
fn step(state: &mut System, action: Action, bounds: &Moves) -> bool {
    let record = state.placement.record;
    match action {
        Action::Begin => {
            let Record::Stable { shard, epoch } = record else { return false };
            let next: Epoch = state.placement.fresh_epoch();
            state.placement.moves.push(Facts { source: shard, destination: 1 - shard, epoch, next });
            let of = state.placement.moves.len() as Move;
            state.placement.record = Record::Preparing(of);
            state.say(Message::Import(of));
            true
        }
        Action::StartFreezing(of) => {
            let ready = state.said(&Message::CaughtUp(of));
            state.placement.record = Record::Freezing(of);
            state.say(Message::Freeze(of));
            ready
        }
        Action::Commit(of) => {
            let as_expected = record == Record::Freezing(of) || !bounds.rules.compare_and_set_of_committed;
            let again = state.said(&Message::Activate(of));
            let ready = state.said(&Message::Prepared(of));
            state.placement.record = Record::Committed(of);
            state.say(Message::Activate(of));
            ready && as_expected && !again
        }
        Action::Abort(of) => {
            let may = state.aborts > 0;
            state.aborts = state.aborts.saturating_sub(1);
            state.placement.record = Record::Aborted(of);
            state.say(Message::End(of));
            may
        }
        Action::StartCleaning(of) => {
            state.placement.record = Record::Cleaning(of);
            state.said(&Message::Active(of))
        }
        Action::Settle(of) => {
            let facts = state.placement.facts(of);
            let (shard, epoch, ready) = match record {
                Record::Cleaning(_) => (facts.destination, facts.next, state.said(&Message::Clean(of))),
                _ => (facts.source, facts.epoch, (0..2).all(|s| state.said(&Message::Ended(of, s)))),
            };
            state.placement.record = Record::Stable { shard, epoch };
            ready
        }
        Action::Copy(of) => {
            let facts = state.placement.facts(of);
            let sent = state.shards[facts.source].send(of, &state.shards[facts.destination]);
            // One of each kind and place is enough: it may arrive at any time.
            let fresh = sent.filter(|message| !state.network.iter().any(|m| m.same_place(message)));
            fresh.map(|message| state.say(message)).is_some()
        }
        Action::Arrive(at, message) => {
            let Some(entry) = state.proposal(at, &message, &bounds.rules) else { return false };
            if let Entry::Freeze { of, .. } = entry {
                state.needless_freeze |= record != Record::Freezing(of);
            }
            state.propose(at, entry)
        }
        Action::LookUp(at) => {
            let Some(entry) = state.verdict(at, &bounds.rules) else { return false };
            state.propose(at, entry)
        }
        Action::Delete(at) => {
            let shard = &state.shards[at];
            let left = matches!(shard.owner, Owner::Moved { .. }) && !state.said(&Message::Clean(shard.ended));
            left && state.propose(at, Entry::Clean)
        }
        Action::Apply(at) => {
            if state.shards[at].queue.is_empty() {
                return false;
            }
            let entry = state.shards[at].queue.remove(0);
            let copied = matches!(state.shards[1 - at].owner, Owner::Importing { chunks: 1.., .. });
            let before = state.shards[at].data.history.len();
            let deletes = matches!(entry, Entry::Write { write: 2, .. });
            let said = state.shards[at].apply(at, entry, &bounds.rules);
            state.deleted_after_copy |= deletes && copied && state.shards[at].data.history.len() > before;
            if let Some(message) = said {
                state.say(message);
            }
            true
        }
        Action::Crash(at) => {
            let may = state.crashes > 0 && !state.shards[at].queue.is_empty();
            state.crashes = state.crashes.saturating_sub(1);
            state.shards[at].queue.clear();
            may
        }
        Action::Write(at, write) => match state.shards[at].owner {
            Owner::Active { epoch } => {
                let answered = state.said(&Message::Done(write));
                !answered && state.propose(at, Entry::Write { write, epoch })
            }
            _ => false,
        },
        Action::Acknowledge(write) => {
            state.acknowledged = write;
            state.network.remove(&Message::Done(write))
        }
    }
}
