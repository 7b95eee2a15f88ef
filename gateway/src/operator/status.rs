//! What all members of a group say of themselves, side by side; who cannot be reached is said in words.

mod problems;

use std::{sync::Arc, time::Duration};

use conflux_common::ids::GroupName;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    lanes::unary::{Outgoing, Unary},
    routes::{Group, Routes},
};

/// For one member's answer: a dead one must not hold the summary up.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The summary of every known group.
pub(super) async fn of_all(unary: &Unary, routes: &Routes, asking: &Outgoing) -> Value {
    let groups = routes.groups();
    let all = join_all(groups.iter().map(|group| of_group(unary, group, asking))).await;
    json!({ "groups": all })
}

/// One group: its leader's view of it, and each member's own.
pub(super) async fn of_group(unary: &Unary, group: &Arc<Group>, asking: &Outgoing) -> Value {
    let ask = |member: &crate::routes::Member| {
        let (group, name) = (group.name.clone(), member.name.clone());
        async move { (name.to_string(), view(unary, &group, &name, asking).await) }
    };
    let views = join_all(group.members.iter().map(ask)).await;
    summary(group, &views)
}

async fn view(
    unary: &Unary,
    group: &GroupName,
    member: &conflux_common::ids::MemberName,
    asking: &Outgoing,
) -> Result<Value, String> {
    let bytes = unary.ask_member(group, member, asking, PATIENCE).await?;
    serde_json::from_slice(&bytes).map_err(|_| "its answer cannot be read".into())
}

/// Puts the views together. The leader's counts; without a leader, that of the highest term.
fn summary(group: &Group, views: &[(String, Result<Value, String>)]) -> Value {
    let answered = || views.iter().filter_map(|(_, view)| view.as_ref().ok());
    let rank = |view: &&Value| (view["term"].as_u64().unwrap_or(0), view["state"] == "leader");
    let best = answered().max_by_key(rank).cloned().unwrap_or(Value::Null);
    let mut members: Vec<Value> = best["members"].as_array().cloned().unwrap_or_default();
    for known in &group.members {
        if !members.iter().any(|m| m["member"] == known.name.as_str()) {
            let node_id = (known.node_id != 0).then_some(known.node_id);
            members.push(json!({"member": known.name, "node_id": node_id, "service_address": known.address}));
        }
    }
    for member in &mut members {
        let own = views.iter().find(|(name, _)| member["member"] == name.as_str()).map(|(_, view)| view);
        match own {
            Some(Ok(view)) => member["status"] = view.clone(),
            Some(Err(why)) => member["error"] = json!(why),
            None => member["error"] = json!(unknown_address(group)),
        }
    }
    let mut summary = json!({
        "group": group.name,
        "answered": answered().count(),
        "leader": best["leader"],
        "term": best["term"],
        "last_log_index": best["last_log_index"],
        "committed_index": best["committed_index"],
        "membership_index": best["membership_index"],
        "level": best["level"],
        "members": members,
    });
    for member in summary["members"].as_array_mut().into_iter().flatten() {
        let found = problems::of_member(member, &best);
        member["problems"] = json!(found);
    }
    summary["problems"] = json!(problems::of_group(&summary));
    if best.is_null() {
        summary["error"] = json!("no member can be reached");
    } else if best["leader"].is_null() {
        summary["error"] = json!("no leader is known");
    }
    summary
}

fn unknown_address(group: &Group) -> &'static str {
    match group.is_configured() {
        true => "this gateway cannot ask it: it is not in the gateway's settings ([[placement]])",
        false => "this gateway does not know its address yet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Member;

    fn group() -> Group {
        let member = |n: u64| Member { node_id: n, name: format!("a-{n}").parse().unwrap(), address: format!("h:{n}") };
        Group { name: "a".parse().unwrap(), log_index: 1, term: 1, members: vec![member(1), member(2), member(3)] }
    }

    fn view(node: u64, state: &str, term: u64, leader: Option<u64>) -> Value {
        let member = |n: u64| json!({"member": format!("a-{n}"), "node_id": n, "voter": true, "matched_index": n});
        json!({"node_id": node, "state": state, "term": term, "leader": leader, "last_log_index": 9,
            "members": [member(1), member(2), member(3)]})
    }

    #[test]
    fn the_leaders_view_counts_and_each_member_shows_its_own() {
        // A deposed leader that has not noticed has the lower term.
        let views = vec![
            ("a-1".to_owned(), Ok(view(1, "leader", 4, Some(1)))),
            ("a-2".to_owned(), Ok(view(2, "leader", 5, Some(2)))),
            ("a-3".to_owned(), Err("connection refused".to_owned())),
        ];
        let summary = summary(&group(), &views);
        assert_eq!((&summary["leader"], &summary["term"], &summary["answered"]), (&json!(2), &json!(5), &json!(2)));
        assert_eq!(summary["members"][0]["status"]["state"], "leader");
        assert_eq!(summary["members"][2]["error"], "connection refused");
        assert_eq!(summary["members"][2]["node_id"], 3);
        assert!(summary.get("error").is_none());
    }

    #[test]
    fn a_group_that_cannot_be_reached_is_said_in_words() {
        let views: Vec<_> = (1..=3).map(|n| (format!("a-{n}"), Err("timed out".to_owned()))).collect();
        let summary = summary(&group(), &views);
        assert_eq!(summary["error"], "no member can be reached");
        assert_eq!(summary["members"].as_array().unwrap().len(), 3);
        assert_eq!(
            (&summary["members"][1]["error"], &summary["members"][1]["node_id"]),
            (&json!("timed out"), &json!(2))
        );
    }
}
