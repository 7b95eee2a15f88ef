//! What Prometheus sees of a replica, labelled by group.

use std::time::Duration;

use crate::{error::ProposeError, status::GroupStatus};

/// The series of one group in this process.
pub(crate) struct Series {
    group: String,
    term: metrics::Gauge,
    leader: metrics::Gauge,
    last_log: metrics::Gauge,
    committed: metrics::Gauge,
    applied: metrics::Gauge,
    apply_lag: metrics::Gauge,
    snapshot: metrics::Gauge,
    purged: metrics::Gauge,
    voters: metrics::Gauge,
    learners: metrics::Gauge,
    level: metrics::Gauge,
    leader_changes: metrics::Counter,
    in_flight: metrics::Gauge,
    age: metrics::Gauge,
    log_bytes: metrics::Gauge,
    state_bytes: metrics::Gauge,
    disk_free: metrics::Gauge,
}

impl Series {
    pub(crate) fn new(group: &str) -> Self {
        let gauge = |name: &'static str| metrics::gauge!(name, "group" => group.to_owned());
        describe();
        Self {
            group: group.to_owned(),
            term: gauge("conflux_raft_term"),
            leader: gauge("conflux_raft_is_leader"),
            last_log: gauge("conflux_raft_last_log_index"),
            committed: gauge("conflux_raft_committed_index"),
            applied: gauge("conflux_raft_applied_index"),
            apply_lag: gauge("conflux_raft_apply_lag_entries"),
            snapshot: gauge("conflux_raft_snapshot_index"),
            purged: gauge("conflux_raft_purged_index"),
            voters: gauge("conflux_raft_voters"),
            learners: gauge("conflux_raft_learners"),
            level: gauge("conflux_raft_level"),
            leader_changes: metrics::counter!("conflux_raft_leader_changes_total", "group" => group.to_owned()),
            in_flight: gauge("conflux_raft_proposals_in_flight"),
            age: gauge("conflux_raft_state_age_seconds"),
            log_bytes: gauge("conflux_raft_log_bytes"),
            state_bytes: gauge("conflux_raft_state_bytes"),
            disk_free: gauge("conflux_raft_disk_free_ratio"),
        }
    }

    /// A leader that was not known before.
    pub(crate) fn leader_changed(&self) {
        self.leader_changes.increment(1);
    }

    /// Queue and freshness.
    pub(crate) fn load(&self, in_flight: usize, age: Duration) {
        self.in_flight.set(in_flight as f64);
        self.age.set(if age == Duration::MAX { f64::INFINITY } else { age.as_secs_f64() });
    }

    /// Sizes on disk.
    pub(crate) fn sizes(&self, log: u64, state: u64, free: f64) {
        self.log_bytes.set(log as f64);
        self.state_bytes.set(state as f64);
        self.disk_free.set(free);
    }

    /// How a proposal ended, and after how long.
    pub(crate) fn proposed<T>(&self, outcome: &Result<T, ProposeError>, took: Duration) {
        let outcome = match outcome {
            Ok(_) => "applied",
            Err(ProposeError::Unknown(_)) => "unknown",
            Err(ProposeError::NotLeader { .. }) => "not_leader",
            Err(ProposeError::Overloaded) => "overloaded",
            Err(_) => "refused",
        };
        let labels = [("group", self.group.clone()), ("outcome", outcome.to_owned())];
        metrics::histogram!("conflux_raft_propose_seconds", &labels).record(took.as_secs_f64());
    }

    pub(crate) fn record(&self, status: &GroupStatus) {
        self.term.set(status.term as f64);
        self.leader.set(f64::from(u8::from(status.state == "leader")));
        self.last_log.set(status.last_log_index as f64);
        self.committed.set(status.committed_index as f64);
        self.applied.set(status.applied_index as f64);
        self.snapshot.set(status.snapshot_index as f64);
        self.apply_lag.set(status.committed_index.saturating_sub(status.applied_index) as f64);
        self.purged.set(status.purged_index as f64);
        let voters = status.members.iter().filter(|m| m.voter).count();
        self.voters.set(voters as f64);
        self.learners.set((status.members.len() - voters) as f64);
        self.level.set(f64::from(status.level));
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("conflux_raft_apply_lag_entries", "Committed entries that this replica has not applied");
    describe_gauge!("conflux_raft_state_age_seconds", Unit::Seconds, "How old the local state may be");
    describe_gauge!("conflux_raft_proposals_in_flight", "Writes proposed and not yet applied");
    describe_gauge!("conflux_raft_log_bytes", Unit::Bytes, "Bytes of log that are not purged");
    describe_gauge!("conflux_raft_state_bytes", Unit::Bytes, "Bytes of the state's files");
    describe_gauge!("conflux_raft_disk_free_ratio", "Free part of the data directory's file system");
    describe_counter!("conflux_raft_leader_changes_total", "Leaders that this replica came to know");
    describe_histogram!("conflux_raft_propose_seconds", Unit::Seconds, "From proposing to the answer, by outcome");
}
