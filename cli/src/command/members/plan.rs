//! How a group is restarted without its clients noticing: one member at a time, the leader last.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    super::{cell, items},
    change::{Done, patient_status},
    view::{self, GroupView},
};
use crate::{
    failure::{Failure, exit},
    output::{Output, line, plain},
};

const LOOK: Duration = Duration::from_millis(500);

/// One member's turn.
#[derive(Debug, PartialEq)]
struct Step {
    member: String,
    leads: bool,
    commands: Vec<String>,
}

pub async fn print(group: &GroupView<'_>, restart_with: &str, output: Output) -> anyhow::Result<()> {
    let status = group.status().await?;
    let wrong = view::problems(std::slice::from_ref(&status));
    if !wrong.is_empty() {
        wrong.iter().for_each(|problem| eprintln!("{}", plain(problem)));
        eprintln!("conflux: {} is not whole: mend that first, then ask again", group.group);
        return Err(Failure::Told(exit::UNAVAILABLE).into());
    }
    let steps = steps(group.group, &status, restart_with);
    if output == Output::Json {
        let shown = steps.iter().map(|s| json!({"member": s.member, "leads": s.leads, "commands": s.commands}));
        return output.done("", json!({"group": group.group, "steps": shown.collect::<Vec<_>>()}));
    }
    line(&format!(
        "# {}: {} members, one after another. Go on only when a step has succeeded.",
        group.group,
        steps.len()
    ))?;
    for (number, step) in (1..).zip(&steps) {
        let role = if step.leads { "the leader, last" } else { "a follower" };
        line(&format!("\n# {number}. {} ({role})", plain(&step.member)))?;
        for command in &step.commands {
            line(&plain(command))?;
        }
    }
    Ok(())
}

/// Followers in the order of their names, then the leader, who hands over to the first of them.
fn steps(group: &str, status: &Value, restart_with: &str) -> Vec<Step> {
    let leader = view::leader(status).unwrap_or_default();
    let mut members: Vec<&Value> = items(status, "members").iter().filter(|m| !m["voter"].is_null()).collect();
    members.sort_by_key(|m| (m["member"] == leader, cell(m, "member")));
    let heir = members.iter().find(|m| m["member"] != leader && m["voter"] == true).map(|m| cell(m, "member"));
    let step = |m: &Value| {
        let name = cell(m, "member");
        let address = cell(m, "service_address");
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let leads = name == leader;
        let mut commands = Vec::new();
        if let Some(heir) = heir.as_ref().filter(|_| leads) {
            commands.push(format!("conflux cluster {group} transfer-leader --to {heir}"));
        }
        commands.push(restart_with.replace("{member}", &name).replace("{host}", host));
        commands.push(format!("conflux cluster {group} restart-plan --check {name}"));
        Step { member: name, leads, commands }
    };
    members.into_iter().map(step).collect()
}

/// Waits until the member is back and has applied what was committed when this began.
pub async fn check(group: &GroupView<'_>, name: &str, timeout: Duration) -> anyhow::Result<Done> {
    let until = Instant::now() + timeout;
    let mut target = None;
    let mut told = String::new();
    loop {
        let status = patient_status(group, until).await?;
        if view::member(&status, name).is_none() && status["leader"].is_u64() {
            let text = format!("{name} is no member of {}", group.group);
            return Err(Failure::Usage(text).into());
        }
        let target = *target.get_or_insert(status["committed_index"].as_u64().unwrap_or(0));
        let why = match missing(&status, name, target) {
            None => {
                let own = &view::member(&status, name).unwrap_or(&Value::Null)["status"];
                let up = up_for(own);
                let text = format!("{name} is back (up for {up} s) and has everything up to entry {target}");
                let value = json!({"group": group.group, "member": name, "up_s": up, "index": target});
                return Ok(Done { text, value });
            }
            Some(why) => why,
        };
        if why != told {
            eprintln!("{}", plain(&format!("{name}: {why}")));
            told = why;
        }
        if Instant::now() >= until {
            eprintln!("conflux: not done after {} s; repeat the command to go on waiting", timeout.as_secs());
            return Err(Failure::Told(exit::UNAVAILABLE).into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What it still lacks, if anything.
fn missing(status: &Value, name: &str, target: u64) -> Option<String> {
    if !status["leader"].is_u64() {
        return Some("the group has no leader".into());
    }
    let Some(member) = view::member(status, name) else { return Some("it is no member".into()) };
    if let Some(error) = member["error"].as_str() {
        return Some(format!("no answer: {error}"));
    }
    let own = &member["status"];
    if own["leader"] != status["leader"] {
        return Some("it does not follow the leader yet".into());
    }
    if member["voter"] != true {
        return Some("it does not vote yet".into());
    }
    let applied = own["applied_index"].as_u64().unwrap_or(0);
    (applied < target).then(|| format!("it lacks {} entries", target - applied))
}

fn up_for(own: &Value) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    own["started_ms"].as_u64().map_or(0, |started| now.saturating_sub(started) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Value {
        let member = |n: u64| {
            json!({"member": format!("a-{n}"), "node_id": n, "voter": true, "service_address": format!("10.0.0.{n}:7"),
                "status": {"leader": 1, "applied_index": 50}})
        };
        json!({"leader": 1, "committed_index": 60, "members": [member(1), member(2), member(3)]})
    }

    /// A leader that is restarted first costs an election in the middle of everything; restarted last, it costs none.
    #[test]
    fn the_leader_is_last_and_hands_over_first() {
        let steps = steps("a", &status(), "ssh {host} restart {member}");
        assert_eq!(steps.iter().map(|s| s.member.as_str()).collect::<Vec<_>>(), ["a-2", "a-3", "a-1"]);
        assert_eq!(steps[0].commands, ["ssh 10.0.0.2 restart a-2", "conflux cluster a restart-plan --check a-2"]);
        assert_eq!(steps[2].commands[0], "conflux cluster a transfer-leader --to a-2");
    }

    /// Going on too early would stop a second member while the first one still lacks what the group has.
    #[test]
    fn a_member_is_back_when_it_has_everything() {
        let mut now = status();
        assert_eq!(missing(&now, "a-2", 60).unwrap(), "it lacks 10 entries");
        now["members"][1]["status"]["applied_index"] = json!(60);
        assert_eq!(missing(&now, "a-2", 60), None);
        now["members"][1]["status"]["leader"] = Value::Null;
        assert!(missing(&now, "a-2", 60).unwrap().contains("does not follow"));
        now["members"][1]["error"] = json!("refused");
        assert!(missing(&now, "a-2", 60).unwrap().contains("refused"));
    }
}
