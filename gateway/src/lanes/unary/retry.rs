//! When a call is repeated, where, and when it is given up: pure, so that it can be checked as a table.

use std::time::Duration;

use conflux_common::{error::Hint, ids::Epoch, planted};

use crate::upstream::FailureKind;

/// Redirects that are followed at once; then a pause comes between, so that two members that name each other do not
/// make us spin.
const HOPS: u32 = 3;
/// Times that a route is looked up anew for one call.
const REFRESHES: u32 = 3;
/// Times that a shard is given a moment to learn what we know: about a second and a half.
const BEHIND: u32 = 10;
/// The first pause; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// An election takes about a second: five questions each second find the new leader soon enough.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What came of one try that is no answer for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Refused with a hint, which promises that it had no effect.
    Refused(Hint),
    /// Answered UNAVAILABLE without knowing whether it took effect: the leader lost its office half way.
    Unknown,
    /// No answer.
    Failed(FailureKind),
    /// No answer in the time of one try.
    TimedOut,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask this member at once: it is said to lead.
    Ask(String),
    /// Ask again after a pause: the leader if one is known by then, else any other member.
    Pause(Duration),
    /// Wait until the tenant's route is another, but no longer than this: then ask again.
    Hold(Duration),
    /// Learn the tenant's route, of at least this epoch, and go there.
    Refresh(Epoch),
    /// Tell the client.
    GiveUp,
}

/// The memory of one call.
#[derive(Debug, Clone)]
pub struct Attempts {
    /// A lost answer may be asked for again: a read, or a write under an idempotency key.
    repeatable: bool,
    epoch: Epoch,
    hops: u32,
    refreshes: u32,
    behind: u32,
    pauses: u32,
    /// A try may have taken effect.
    maybe_applied: bool,
}

impl Attempts {
    /// Nothing tried yet.
    pub fn new(repeatable: bool, epoch: Epoch) -> Self {
        Self { repeatable, epoch, hops: 0, refreshes: 0, behind: 0, pauses: 0, maybe_applied: false }
    }

    /// Whether a try may have taken effect.
    pub fn maybe_applied(&self) -> bool {
        self.maybe_applied
    }

    /// The route was learnt anew.
    pub fn routed(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Decides what follows.
    pub fn next(&mut self, trouble: &Trouble) -> Next {
        match trouble {
            Trouble::Refused(Hint::NotLeader(Some(leader))) => {
                self.hops += 1;
                if self.hops.is_multiple_of(HOPS) { self.pause() } else { Next::Ask(leader.clone()) }
            }
            Trouble::Refused(Hint::NotLeader(None) | Hint::TryOther | Hint::Recheck) => self.pause(),
            Trouble::Refused(Hint::Frozen) => match self.pause() {
                Next::Pause(pause) => Next::Hold(pause),
                next => next,
            },
            Trouble::Refused(Hint::WrongEpoch(theirs)) => self.refresh(Epoch(*theirs)),
            Trouble::Failed(FailureKind::NotSent) => self.pause(),
            Trouble::Unknown | Trouble::Failed(FailureKind::Lost) | Trouble::TimedOut => {
                let planted = planted::has("unknown_as_refused");
                self.maybe_applied = !planted;
                if self.repeatable && !planted { self.pause() } else { Next::GiveUp }
            }
        }
    }

    fn refresh(&mut self, theirs: Epoch) -> Next {
        if theirs > self.epoch {
            self.refreshes += 1;
            return if self.refreshes > REFRESHES { Next::GiveUp } else { Next::Refresh(theirs) };
        }
        // The shard is behind what we know, as with a tenant that was just made: it looks up by itself.
        self.behind += 1;
        if self.behind > BEHIND { Next::GiveUp } else { self.pause() }
    }

    fn pause(&mut self) -> Next {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(10)).min(LONGEST_PAUSE);
        self.pauses += 1;
        Next::Pause(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Next {
        Next::Pause(Duration::from_millis(n))
    }

    fn hold(n: u64) -> Next {
        Next::Hold(Duration::from_millis(n))
    }

    fn run(repeatable: bool, troubles: &[Trouble]) -> (Vec<Next>, bool) {
        let mut attempts = Attempts::new(repeatable, Epoch(5));
        let next = troubles.iter().map(|t| attempts.next(t)).collect();
        (next, attempts.maybe_applied())
    }

    #[test]
    fn each_trouble_has_its_answer() {
        let leader = |m: &str| Trouble::Refused(Hint::NotLeader(Some(m.into())));
        let no_leader = Trouble::Refused(Hint::NotLeader(None));
        let wrong = |e| Trouble::Refused(Hint::WrongEpoch(e));
        let lost = Trouble::Failed(FailureKind::Lost);
        let unsent = Trouble::Failed(FailureKind::NotSent);
        let ask = |m: &str| Next::Ask(m.into());
        // Repeatable, what happened, what follows, whether it may have taken effect.
        type Row = (bool, Vec<Trouble>, Vec<Next>, bool);
        let table: Vec<Row> = vec![
            (true, vec![leader("b")], vec![ask("b")], false),
            // Two members that name each other: no spinning.
            (
                true,
                vec![leader("b"), leader("a"), leader("b"), leader("a")],
                vec![ask("b"), ask("a"), ms(10), ask("a")],
                false,
            ),
            // An election: growing pauses, up to a bound.
            (true, vec![no_leader.clone(); 7], vec![ms(10), ms(20), ms(40), ms(80), ms(160), ms(200), ms(200)], false),
            (false, vec![no_leader], vec![ms(10)], false),
            (true, vec![wrong(7)], vec![Next::Refresh(Epoch(7))], false),
            // The shard is behind, or has no such tenant: wait for it, but not for ever.
            (
                true,
                vec![wrong(0); 11],
                [10, 20, 40, 80, 160, 200, 200, 200, 200, 200].map(ms).into_iter().chain([Next::GiveUp]).collect(),
                false,
            ),
            // A route that changes each time: three look-ups at most.
            (
                true,
                vec![wrong(7), wrong(8), wrong(9), wrong(10)],
                vec![Next::Refresh(Epoch(7)), Next::Refresh(Epoch(8)), Next::Refresh(Epoch(9)), Next::GiveUp],
                false,
            ),
            // A lost answer is asked for again only where that is safe.
            (true, vec![lost.clone()], vec![ms(10)], true),
            (false, vec![lost], vec![Next::GiveUp], true),
            (true, vec![Trouble::TimedOut], vec![ms(10)], true),
            (false, vec![Trouble::TimedOut], vec![Next::GiveUp], true),
            (false, vec![Trouble::Unknown], vec![Next::GiveUp], true),
            // What never left had no effect.
            (false, vec![unsent.clone(), unsent], vec![ms(10), ms(20)], false),
            (true, vec![Trouble::Refused(Hint::TryOther)], vec![ms(10)], false),
            // A tenant on its way to another shard: no error, whoever asks.
            (false, vec![Trouble::Refused(Hint::Frozen); 2], vec![hold(10), hold(20)], false),
        ];
        for (repeatable, troubles, expected, maybe_applied) in table {
            assert_eq!(run(repeatable, &troubles), (expected, maybe_applied), "{repeatable} {troubles:?}");
        }
    }

    #[test]
    fn a_learnt_route_moves_the_floor() {
        // After a refresh the same hint is no news: it must not send us to placement in circles.
        let mut attempts = Attempts::new(true, Epoch(5));
        let wrong = Trouble::Refused(Hint::WrongEpoch(7));
        assert_eq!(attempts.next(&wrong), Next::Refresh(Epoch(7)));
        attempts.routed(Epoch(7));
        assert_eq!(attempts.next(&wrong), ms(10));
    }
}
