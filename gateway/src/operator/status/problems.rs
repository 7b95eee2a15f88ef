//! What is not as it should be, in words for operators. Pure: the members' own views decide.

use serde_json::Value;

/// Entries that a healthy member may lack for a moment under load.
const BEHIND: u64 = 1024;

/// Of one member, with its own view under `status` or why there is none under `error`; `best` is the view that counts.
pub(super) fn of_member(member: &Value, best: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let own = &member["status"];
    if member["voter"].is_null() {
        found.push("it is in no membership (any more): stop it, or let it in (add-node)".to_owned());
    }
    if let Some(error) = member["error"].as_str() {
        found.push(format!("the gateway has no answer: {error}"));
    }
    if member["reachable"] == false {
        found.push("the leader has not heard from it for 2 s".to_owned());
    }
    if own.is_null() {
        return found;
    }
    if own["state"] == "standby" {
        found.push("its disk is empty and it waits to be let in".to_owned());
    } else if own["state"] == "stopped" {
        found.push("it is stopping".to_owned());
    } else if own["node_id"] != member["node_id"] {
        found.push(format!("its disk is that of node {}, which is no member: its data must go", own["node_id"]));
    } else if own["leader"].is_null() {
        found.push("it hears no leader".to_owned());
    }
    if own["disk"]["refuses_growth"] == true {
        let percent = &own["disk"]["free_percent"];
        found.push(format!("its disk is nearly full ({percent} % free): writes that grow are refused while it leads"));
    }
    let behind = best["committed_index"].as_u64().zip(own["applied_index"].as_u64());
    if let Some(behind) = behind.map(|(all, has)| all.saturating_sub(has)).filter(|behind| *behind > BEHIND) {
        found.push(format!("it lacks {behind} entries"));
    }
    found
}

/// Of the group as a whole.
pub(super) fn of_group(summary: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(error) = summary["error"].as_str() {
        found.push(error.to_owned());
    }
    let members = summary["members"].as_array().map_or(&[][..], Vec::as_slice);
    let voters: Vec<&Value> = members.iter().filter(|m| m["voter"] == true).collect();
    let there = voters.iter().filter(|m| m["error"].is_null() && m["status"]["state"] != "standby").count();
    let needed = voters.len() / 2 + 1;
    if !voters.is_empty() && there < needed {
        found.push(format!("no quorum: {there} of {} voters answer, {needed} are needed", voters.len()));
    } else if there == needed && there < voters.len() {
        found.push(format!("{there} of {} voters answer: none of them may fail now", voters.len()));
    }
    if voters.len() == 2 && there == 2 {
        found.push("only 2 voters: neither of them may fail. Add one".to_owned());
    }
    let learners = members.iter().filter(|m| m["voter"] == false).count();
    if learners > 0 {
        found.push(format!("{learners} of its members do not vote yet: they are catching up"));
    }
    let versions = || members.iter().filter_map(|m| m["status"]["version"].as_str());
    if versions().any(|v| Some(v) != versions().next()) {
        found.push("its members run different releases: finish the upgrade".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(n: u64) -> Value {
        json!({"member": format!("a-{n}"), "node_id": n, "voter": true, "reachable": true,
            "status": {"node_id": n, "state": "follower", "leader": 1, "applied_index": 5000, "version": "1"}})
    }

    /// An operator must be told each of these; of a healthy group there is nothing to tell.
    #[test]
    fn each_trouble_is_told() {
        let best = json!({"committed_index": 5000});
        assert_eq!(of_member(&member(1), &best), [""; 0]);
        type Row = (&'static str, fn(&mut Value));
        let table: [Row; 8] = [
            ("no answer: refused", |m| {
                m["error"] = json!("refused");
                m["status"] = Value::Null;
            }),
            ("not heard", |m| m["reachable"] = json!(false)),
            ("no membership", |m| m["voter"] = Value::Null),
            ("waits to be let in", |m| m["status"]["state"] = json!("standby")),
            ("node 9, which is no member", |m| m["status"]["node_id"] = json!(9)),
            ("hears no leader", |m| m["status"]["leader"] = Value::Null),
            ("3 % free", |m| m["status"]["disk"] = json!({"refuses_growth": true, "free_percent": 3})),
            ("lacks 4000 entries", |m| m["status"]["applied_index"] = json!(1000)),
        ];
        for (expected, spoil) in table {
            let mut m = member(1);
            spoil(&mut m);
            let told = of_member(&m, &best).join("; ");
            assert!(told.contains(expected), "{expected}: {told}");
        }
    }

    /// How near a group is to losing its quorum is what matters most.
    #[test]
    fn the_distance_to_the_end_of_the_quorum_is_told() {
        let group = |silent: usize| {
            let mut members: Vec<Value> = (1..=3).map(member).collect();
            for m in members.iter_mut().take(silent) {
                m["error"] = json!("refused");
            }
            of_group(&json!({"members": members})).join("; ")
        };
        assert_eq!(group(0), "");
        let two = json!({"members": [member(1), member(2)]});
        assert!(of_group(&two).join("; ").contains("only 2 voters"));
        assert!(group(1).contains("none of them may fail now"), "{}", group(1));
        assert!(group(2).contains("no quorum: 1 of 3 voters answer, 2 are needed"), "{}", group(2));
    }
}
