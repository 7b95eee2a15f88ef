//! The leader tells placement the committed membership of its group, so that gateways find its members.

use std::time::Duration;

use conflux_common::ids::GroupName;
use conflux_proto::internal::{GroupMember, GroupRecord};
use conflux_raft::GroupStatus;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{ownership::Placement, query, shard::Node};

/// Also without a change.
const EVERY: Duration = Duration::from_secs(5);
/// After a failed report.
const AGAIN: Duration = Duration::from_secs(1);
/// One report has so long.
const WITHIN: Duration = Duration::from_secs(3);

/// What is reported, where this member leads.
fn record(group: &GroupName, weight: u32, status: &GroupStatus) -> Option<GroupRecord> {
    let member = |m: &conflux_raft::MemberStatus| GroupMember {
        node_id: m.node_id,
        name: m.member.clone(),
        service_address: m.service_address.clone(),
        voter: m.voter,
    };
    (status.state == "leader").then(|| GroupRecord {
        name: group.to_string(),
        log_index: status.membership_index,
        members: status.members.iter().map(member).collect(),
        weight,
        leader: status.node_id,
        term: status.term,
        founding: status.founding.clone(),
        restored_ms: status.restored_ms,
        ..Default::default()
    })
}

/// Who reports.
pub struct Own {
    pub group: GroupName,
    pub weight: u32,
    pub node: Node,
}

/// The report tells the highest tenant id too, so that a placement that was restored never gives it out again.
fn with_highest(record: &GroupRecord, node: &Node) -> GroupRecord {
    let highest = node.read(|view| query::highest_tenant(view));
    let highest_tenant_id = match highest {
        Ok(Ok(highest)) => highest,
        // Whatever is wrong with the state is told by whoever serves it.
        Ok(Err(_)) | Err(_) => 0,
    };
    GroupRecord { highest_tenant_id, ..record.clone() }
}

/// Runs until the process stops.
pub async fn run(own: Own, placement: Placement, stopping: CancellationToken) {
    let Own { group, weight, node } = own;
    let mut status = node.status();
    loop {
        let now = record(&group, weight, &status.borrow_and_update());
        let wait = match &now {
            None => EVERY,
            Some(record) => match placement.report(with_highest(record, &node), Instant::now() + WITHIN).await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "placement does not take the membership report; trying again");
                    AGAIN
                }
            },
        };
        // The status changes with every entry; only another record is news.
        let news = status.wait_for(|status| record(&group, weight, status) != now);
        tokio::select! {
            () = stopping.cancelled() => return,
            waited = timeout(wait, news) => if let Ok(Err(_)) = waited { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use conflux_raft::MemberStatus;

    use super::*;

    /// Placement must hear of the members from their leader only, with the index that orders the reports.
    #[test]
    fn only_a_leader_reports() {
        let mut status = GroupStatus {
            node_id: 2,
            state: "leader",
            term: 3,
            leader: Some(2),
            last_log_index: 9,
            committed_index: 9,
            applied_index: 9,
            snapshot_index: 0,
            purged_index: 0,
            level: 1,
            supported_level: 1,
            version: "1",
            founding: "0a".into(),
            started_ms: 1,
            disk: Default::default(),
            membership_index: 4,
            restored_ms: 0,
            members: vec![MemberStatus {
                node_id: 2,
                member: "a-2".into(),
                raft_address: "h:1".into(),
                service_address: "h:2".into(),
                voter: true,
                matched_index: Some(9),
                reachable: Some(true),
            }],
        };
        let group: GroupName = "a".parse().unwrap();
        let record = record(&group, 100, &status).unwrap();
        assert_eq!((record.log_index, record.leader, record.members[0].service_address.as_str()), (4, 2, "h:2"));
        status.state = "follower";
        assert_eq!(super::record(&group, 100, &status), None);
    }
}
