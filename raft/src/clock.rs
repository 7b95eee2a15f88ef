//! Group time: what a leader stamps into each command (ADR 1, "Group time").
//!
//! [`GroupClock`] is pure: every method is told the present. All times are microseconds; `mono` is this process's
//! monotonic clock since an arbitrary moment, `wall` is since the Unix epoch.

use std::collections::BTreeMap;

use conflux_common::planted;

/// A clock is followed only while it is so near to the median of the members' clocks.
pub(crate) const TRUST_WITHIN_US: i64 = 2_000_000;
/// What a peer said of its clock is forgotten after so long.
const PEER_FRESH_US: u64 = 10_000_000;

/// 2020: below it no group has ever stamped anything, so there is nothing that a wrong clock could expire.
const NO_TIME_YET_US: u64 = 1_577_836_800_000_000;

/// One reading of both clocks of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Monotonic.
    pub(crate) mono: u64,
    /// Since the Unix epoch.
    pub(crate) wall: u64,
}

/// A peer's clock: how far its wall clock is from OUR monotonic clock, so that a jump of our own wall clock shows at
/// once, and not only when the peer is heard the next time.
#[derive(Debug, Clone, Copy)]
struct Peer {
    offset: i64,
    heard: u64,
}

/// Group time as this process knows it: the leader's stamps come from it, a follower estimates with it.
#[derive(Debug, Clone)]
pub(crate) struct GroupClock {
    group: u64,
    mono: u64,
    peers: BTreeMap<u64, Peer>,
}

impl GroupClock {
    /// Goes on from the last applied stamp.
    pub(crate) fn new(last_stamp: u64, now: Now) -> Self {
        Self { group: last_stamp, mono: now.mono, peers: BTreeMap::new() }
    }

    /// The group's time is known to be at least this: an applied stamp, or what the leader said.
    pub(crate) fn at_least(&mut self, group: u64, now: Now) {
        if group > self.estimate(now) {
            self.group = group;
            self.mono = now.mono.max(self.mono);
        }
    }

    /// Member `id` said what its wall clock shows.
    pub(crate) fn heard(&mut self, id: u64, peer_wall: u64, now: Now) {
        self.peers.insert(id, Peer { offset: offset(peer_wall, now.mono), heard: now.mono });
    }

    /// Group time by the monotonic clock alone; for followers.
    pub(crate) fn estimate(&self, now: Now) -> u64 {
        self.group.saturating_add(now.mono.saturating_sub(self.mono))
    }

    /// The leader's next stamp. `voters` are the present voters, this process (`own`) among them.
    pub(crate) fn stamp(&mut self, own: u64, voters: &[u64], now: Now) -> u64 {
        if !self.trusts(own, voters, now) {
            self.run_on(now);
            if self.group < NO_TIME_YET_US {
                // A new group whose leader has heard no peer yet: counted from 1970, all that it stamps would expire at
                // once when the peers are heard, the answers under idempotency keys among it.
                self.group = now.wall.max(self.group);
            }
            return self.group;
        }
        let elapsed = now.mono.saturating_sub(self.mono);
        // Forward at once: an outage is not an error. Backward never: half speed until the clock has caught up.
        self.group = now.wall.max(self.group.saturating_add(elapsed / 2));
        self.mono = now.mono.max(self.mono);
        self.group
    }

    fn run_on(&mut self, now: Now) {
        self.group = self.estimate(now);
        self.mono = now.mono.max(self.mono);
    }

    /// Whether this process's wall clock is near the median of the clocks of a majority.
    fn trusts(&self, own: u64, voters: &[u64], now: Now) -> bool {
        if planted::has("trusted_clock") {
            return true;
        }
        let own_offset = offset(now.wall, now.mono);
        let fresh = |id: &u64| {
            let peer = self.peers.get(id)?;
            (now.mono.saturating_sub(peer.heard) <= PEER_FRESH_US).then_some(peer.offset)
        };
        let mut offsets: Vec<i64> = voters.iter().filter(|id| **id != own).filter_map(fresh).collect();
        offsets.push(own_offset);
        if offsets.len() * 2 <= voters.len() {
            return false;
        }
        offsets.sort_unstable();
        // Of an even number, both middle ones must be near: else one wrong clock of two could decide.
        let middle = [offsets[(offsets.len() - 1) / 2], offsets[offsets.len() / 2]];
        middle.iter().all(|m| m.abs_diff(own_offset) <= TRUST_WITHIN_US as u64)
    }
}

fn offset(wall: u64, mono: u64) -> i64 {
    (wall as i64).saturating_sub(mono as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000;
    const EPOCH: u64 = 1_700_000_000 * S;
    const VOTERS: [u64; 3] = [1, 2, 3];

    fn at(mono: u64, wall: u64) -> Now {
        Now { mono, wall }
    }

    #[test]
    fn an_outage_is_caught_up_at_once_when_the_peers_agree() {
        // A group that was stopped for an hour must not run an hour late.
        let mut clock = GroupClock::new(EPOCH, at(0, EPOCH + 3600 * S));
        clock.heard(2, EPOCH + 3600 * S, at(0, EPOCH + 3600 * S));
        assert_eq!(clock.stamp(1, &VOTERS, at(S, EPOCH + 3601 * S)), EPOCH + 3601 * S);
    }

    #[test]
    fn a_new_group_begins_at_its_leaders_clock() {
        // The first command is often stamped before any peer was heard; what it makes must not expire when they are.
        let mut clock = GroupClock::new(0, at(0, EPOCH));
        assert_eq!(clock.stamp(1, &VOTERS, at(S, EPOCH + S)), EPOCH + S);
        assert_eq!(clock.stamp(1, &VOTERS, at(2 * S, EPOCH + 900 * S)), EPOCH + 2 * S, "from then on as ever");
    }

    #[test]
    fn a_wrong_clock_is_not_followed() {
        // The leader's clock jumps by a day: nothing may expire.
        let mut clock = GroupClock::new(EPOCH, at(0, EPOCH));
        clock.heard(2, EPOCH, at(0, EPOCH));
        clock.heard(3, EPOCH, at(0, EPOCH));
        assert_eq!(clock.stamp(1, &VOTERS, at(S, EPOCH + 86_400 * S)), EPOCH + S);
    }

    #[test]
    fn without_a_majority_the_monotonic_clock_counts() {
        let mut clock = GroupClock::new(EPOCH, at(0, EPOCH + 60 * S));
        assert_eq!(clock.stamp(1, &VOTERS, at(S, EPOCH + 61 * S)), EPOCH + S);
        clock.heard(2, EPOCH + 61 * S, at(S, EPOCH + 61 * S));
        assert_eq!(clock.stamp(1, &VOTERS, at(S, EPOCH + 61 * S)), EPOCH + 61 * S);
        // What was heard long ago counts no more.
        assert_eq!(clock.stamp(1, &VOTERS, at(13 * S, EPOCH + 90 * S)), EPOCH + 73 * S);
    }

    #[test]
    fn being_told_less_than_is_known_does_not_speed_it_up() {
        // The applied stamps are told all the time; the slow half must stay slow.
        let mut clock = GroupClock::new(EPOCH + 10 * S, at(0, EPOCH));
        for second in 1..=10 {
            let now = at(second * S, EPOCH + second * S);
            clock.at_least(EPOCH, now);
            assert_eq!(clock.stamp(1, &[1], now), EPOCH + 10 * S + second * S / 2);
        }
    }

    #[test]
    fn a_clock_behind_group_time_makes_it_slow_not_stand() {
        let mut clock = GroupClock::new(EPOCH + S, at(0, EPOCH));
        assert_eq!(clock.stamp(1, &[1], at(S, EPOCH + S)), EPOCH + S + S / 2);
        assert_eq!(clock.stamp(1, &[1], at(2 * S, EPOCH + 2 * S)), EPOCH + 2 * S);
        assert_eq!(clock.stamp(1, &[1], at(3 * S, EPOCH + 3 * S)), EPOCH + 3 * S);
    }

    proptest! {
        #[test]
        fn group_time_never_goes_back(
            steps in proptest::collection::vec((0u64..5 * S, -10_000_000i64..10_000_000, 0u64..4, -10_000_000i64..10_000_000), 1..60),
        ) {
            let mut mono = 0;
            let mut clock = GroupClock::new(EPOCH, at(0, EPOCH));
            let mut last = EPOCH;
            for (elapsed, own_error, peer, peer_error) in steps {
                mono += elapsed;
                let wall = (EPOCH + mono).saturating_add_signed(own_error);
                let now = at(mono, wall);
                if peer > 1 {
                    clock.heard(peer, (EPOCH + mono).saturating_add_signed(peer_error), now);
                }
                let stamp = clock.stamp(1, &VOTERS, now);
                prop_assert!(stamp >= last);
                prop_assert!(clock.estimate(now) >= stamp);
                last = stamp;
            }
        }

        #[test]
        fn one_wrong_clock_of_three_cannot_push_group_time(
            steps in proptest::collection::vec((1u64..3 * S, -(400 * S as i64)..400 * S as i64), 1..60),
        ) {
            // Two members are right, the leader's own clock shows anything: group time stays within the trusted bound.
            let mut mono = 0;
            let mut clock = GroupClock::new(EPOCH, at(0, EPOCH));
            for (elapsed, own_error) in steps {
                mono += elapsed;
                let right = EPOCH + mono;
                let now = at(mono, right.saturating_add_signed(own_error));
                clock.heard(2, right, now);
                clock.heard(3, right, now);
                let stamp = clock.stamp(1, &VOTERS, now);
                prop_assert!(stamp <= right + TRUST_WITHIN_US as u64, "{} ahead", stamp - right);
            }
        }
    }
}
