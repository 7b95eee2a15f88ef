//! Is there an order of a register's calls, true to real time, in which each answer is right? The search of Wing and Gong
//! with Lowe's memoization: a set of calls put in order and the value after them need be looked at once only.
//!
//! A write whose outcome stayed open may be put in order at any time after it began, or never.

use std::collections::HashSet;

use crate::history::{ABSENT, Ask, Call, Told};

/// Configurations looked at before the search gives up.
const BUDGET: usize = 4_000_000;

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    Violation,
    /// The budget was spent.
    Undecided,
}

/// The value after the call, if its answer is right on this value.
fn step(state: u64, call: &Call) -> Option<u64> {
    match (call.ask, call.told) {
        (Ask::Put { value }, Told::Wrote { .. } | Told::Open) => Some(value),
        (Ask::Swap { expected, value }, Told::Wrote { .. } | Told::Open) => (state == expected).then_some(value),
        (Ask::Swap { expected, .. }, Told::Refused) => (state != expected).then_some(state),
        (Ask::Read, Told::Saw { value, .. }) => (state == value).then_some(state),
        _ => None,
    }
}

/// Whether the call says anything about the order.
pub fn counts(call: &Call) -> bool {
    match (call.ask, call.told) {
        (_, Told::NotApplied) | (Ask::Stale { .. }, _) => false,
        (Ask::Read, Told::Saw { .. }) => true,
        (Ask::Read, _) => false,
        (Ask::Put { .. } | Ask::Swap { .. }, _) => true,
    }
}

/// A place in the list of beginnings and ends, in the order of time; linked both ways, so that a call is taken out and put
/// back in constant time. Place 0 is the head.
struct Timeline {
    /// Whose, and whether it is an end.
    places: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    end_of: Vec<Option<usize>>,
}

const NOWHERE: usize = usize::MAX;

impl Timeline {
    fn new(calls: &[&Call]) -> Self {
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
        for (i, call) in calls.iter().enumerate() {
            events.push((call.began, false, i));
            if call.told != Told::Open {
                events.push((call.ended, true, i));
            }
        }
        // At the same time: beginnings first, so that such calls count as concurrent.
        events.sort_unstable();
        let mut places = vec![(NOWHERE, false)];
        let mut end_of = vec![None; calls.len()];
        for (_, is_end, i) in events {
            if is_end {
                end_of[i] = Some(places.len());
            }
            places.push((i, is_end));
        }
        let count = places.len();
        let next = (0..count).map(|p| if p + 1 < count { p + 1 } else { NOWHERE }).collect();
        let previous = (0..count).map(|p| p.wrapping_sub(1)).collect();
        Self { places, next, previous, end_of }
    }

    fn out(&mut self, place: usize) {
        let (before, after) = (self.previous[place], self.next[place]);
        self.next[before] = after;
        if after != NOWHERE {
            self.previous[after] = before;
        }
    }

    fn back(&mut self, place: usize) {
        let (before, after) = (self.previous[place], self.next[place]);
        self.next[before] = place;
        if after != NOWHERE {
            self.previous[after] = place;
        }
    }

    fn take(&mut self, beginning: usize) {
        self.out(beginning);
        if let Some(end) = self.end_of[self.places[beginning].0] {
            self.out(end);
        }
    }

    fn restore(&mut self, beginning: usize) {
        if let Some(end) = self.end_of[self.places[beginning].0] {
            self.back(end);
        }
        self.back(beginning);
    }
}

/// Looks for an order of the calls of one register.
pub fn check(calls: &[Call]) -> Verdict {
    let calls: Vec<&Call> = calls.iter().filter(|c| counts(c)).collect();
    search(&calls)
}

fn search(calls: &[&Call]) -> Verdict {
    let mut timeline = Timeline::new(calls);
    let mut left = calls.iter().filter(|c| c.told != Told::Open).count();
    let mut ordered = vec![0u64; calls.len().div_ceil(64)];
    let mut seen: HashSet<(Vec<u64>, u64)> = HashSet::new();
    let mut stack: Vec<(usize, u64)> = Vec::new();
    let (mut state, mut at) = (ABSENT, timeline.next[0]);
    while left > 0 {
        // Past the end of a call that is not in the order nothing may be put before it.
        if at == NOWHERE || timeline.places[at].1 {
            let Some((beginning, before)) = stack.pop() else { return Verdict::Violation };
            let call = timeline.places[beginning].0;
            ordered[call / 64] &= !(1 << (call % 64));
            left += usize::from(calls[call].told != Told::Open);
            timeline.restore(beginning);
            (state, at) = (before, timeline.next[beginning]);
            continue;
        }
        let call = timeline.places[at].0;
        if let Some(after) = step(state, calls[call]) {
            ordered[call / 64] |= 1 << (call % 64);
            if seen.insert((ordered.clone(), after)) {
                if seen.len() > BUDGET {
                    return Verdict::Undecided;
                }
                stack.push((at, state));
                left -= usize::from(calls[call].told != Told::Open);
                timeline.take(at);
                (state, at) = (after, timeline.next[0]);
                continue;
            }
            ordered[call / 64] &= !(1 << (call % 64));
        }
        at = timeline.next[at];
    }
    Verdict::Linearizable
}

/// A small part of a register's history that is still no good: calls are left out one by one where what is left still has no order.
///
/// A write goes only with all who saw it, and only where no refusal is left: a refusal speaks of all values.
pub fn smallest(calls: &[Call]) -> Vec<Call> {
    let fails = |calls: &[Call]| check(calls) == Verdict::Violation;
    let mut left: Vec<Call> = calls.iter().filter(|c| counts(c)).cloned().collect();
    let without: Vec<Call> = left.iter().filter(|c| c.told != Told::Refused).cloned().collect();
    if fails(&without) {
        left = without;
    }
    let refusals = left.iter().any(|c| c.told == Told::Refused);
    loop {
        let before = left.len();
        let mut i = 0;
        while i < left.len() {
            let fewer = match left[i].writes() {
                _ if left[i].told == Told::Refused => None,
                None => Some(left.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, c)| c.clone()).collect()),
                Some(_) if refusals => None,
                Some(value) => Some(left.iter().filter(|c| !touches(c, value)).cloned().collect::<Vec<_>>()),
            };
            match fewer.filter(|f| fails(f)) {
                Some(fewer) => left = fewer,
                None => i += 1,
            }
        }
        if left.len() == before {
            left.sort_by_key(|c| c.began);
            return left;
        }
    }
}

/// Whether the call writes the value, saw it or was done over it.
fn touches(call: &Call, value: u64) -> bool {
    call.writes() == Some(value)
        || matches!(call.ask, Ask::Swap { expected, .. } if expected == value)
        || matches!(call.told, Told::Saw { value: seen, .. } if seen == value)
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
