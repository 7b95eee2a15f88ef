//! Changes of a group's membership: asked for, then followed until they are done. Each may be repeated.

use std::time::Duration;

use conflux_common::error::{Code, Outcome};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::view::{self, GroupView};
use crate::{
    failure::{Failure, exit},
    output::{Output, plain},
};

/// Between two looks: another process can only be asked again.
const LOOK: Duration = Duration::from_millis(500);

/// What a command has come to.
#[derive(Debug)]
pub struct Done {
    pub text: String,
    pub value: Value,
}

impl Done {
    pub fn report(self, output: Output) -> anyhow::Result<()> {
        output.done(&self.text, self.value)
    }
}

/// Says where it is, each time that this has changed.
#[derive(Default)]
struct Progress(String);

impl Progress {
    fn tell(&mut self, text: String) {
        if self.0 != text {
            eprintln!("{}", plain(&text));
            self.0 = text;
        }
    }

    fn late(&self, waited: Duration) -> anyhow::Error {
        eprintln!("conflux: not done after {} s: {}. Repeat the command to go on waiting", waited.as_secs(), self.0);
        Failure::Told(exit::UNAVAILABLE).into()
    }
}

/// A refusal that says what to do itself: the usual advice for its code would be wrong here.
fn refused(message: &str) -> anyhow::Error {
    eprintln!("conflux: refused: {}", plain(message));
    Failure::Told(exit::CONFLICT).into()
}

/// Whether to ask again: it had no effect, or asking twice does no harm.
fn passes(error: &Failure) -> bool {
    match error {
        Failure::NoAnswer { .. } => true,
        Failure::Refused { info, .. } => {
            matches!(info.code, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
                || info.outcome == Outcome::Unknown
        }
        _ => false,
    }
}

/// The status, asked for until it comes.
pub async fn patient_status(group: &GroupView<'_>, until: Instant) -> Result<Value, Failure> {
    loop {
        match group.status().await {
            Err(error) if passes(&error) && Instant::now() < until => tokio::time::sleep(LOOK).await,
            answer => return answer,
        }
    }
}

/// The same call again while it was not heard.
async fn patient(
    group: &GroupView<'_>,
    until: Instant,
    (method, path, body): (Method, &[&str], Option<Value>),
) -> Result<Value, Failure> {
    let path = [&["_cluster", group.group], path].concat();
    loop {
        let call = group.client.call(method.clone(), &path);
        let call = match &body {
            Some(body) => call.json(body),
            None => call,
        };
        match group.client.json(call).await {
            Err(error) if passes(&error) && Instant::now() < until => {
                eprintln!("{}", plain(&format!("asked again: {}", first_line(&error))));
                tokio::time::sleep(LOOK).await;
            }
            answer => return answer,
        }
    }
}

fn first_line(error: &Failure) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn done(group: &GroupView<'_>, text: String, mut value: Value) -> Done {
    value["group"] = json!(group.group);
    Done { text, value }
}

/// Lets a member in and waits until it votes.
pub async fn add(group: &GroupView<'_>, name: &str, timeout: Duration) -> anyhow::Result<Done> {
    let until = Instant::now() + timeout;
    let mut progress = Progress::default();
    let status = patient_status(group, until).await?;
    if view::member(&status, name).is_none() {
        let asked = (Method::POST, &["nodes"][..], Some(json!({"member": name})));
        match patient(group, until, asked).await {
            Ok(_) => progress.tell(format!("{name}: admitted; waiting for its process to ask")),
            // It asked faster than we looked.
            Err(Failure::Refused { info, .. }) if info.code == Code::FailedPrecondition => {}
            Err(error) => return Err(error.into()),
        }
    }
    loop {
        let status = patient_status(group, until).await?;
        match view::member(&status, name) {
            Some(m) if m["voter"] == true => {
                let voters =
                    status["members"].as_array().map_or(0, |all| all.iter().filter(|m| m["voter"] == true).count());
                let text = format!("{name} is a voter of {}: {voters} voters now", group.group);
                return Ok(done(group, text, json!({"member": name, "node_id": m["node_id"], "voters": voters})));
            }
            Some(m) => progress.tell(match view::lag(&status, m) {
                Some(lag) => format!("{name}: learner, lacks {lag} entries"),
                None => format!("{name}: learner, joined"),
            }),
            None => progress.tell(format!("{name}: admitted; waiting for its process to ask")),
        }
        if Instant::now() >= until {
            return Err(progress.late(timeout));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Removes a member and waits until the group does without it.
pub async fn remove(group: &GroupView<'_>, name: &str, timeout: Duration) -> anyhow::Result<Done> {
    let until = Instant::now() + timeout;
    let status = patient_status(group, until).await?;
    let was = view::member(&status, name).is_some();
    if view::leader(&status) == Some(name) {
        eprintln!("{}", plain(&format!("{name} leads: it hands over first")));
    }
    match patient(group, until, (Method::DELETE, &["nodes", name], None)).await {
        Ok(_) => {}
        Err(Failure::Refused { info, .. }) if info.code == Code::FailedPrecondition => {
            return Err(refused(&info.message));
        }
        Err(error) => return Err(error.into()),
    }
    let mut progress = Progress::default();
    loop {
        let status = patient_status(group, until).await?;
        if view::member(&status, name).is_none() {
            let text = match was {
                true => format!("{name} is no member of {} any more: stop its process", group.group),
                false => format!("{name} was no member of {}; a permission to join is taken back", group.group),
            };
            return Ok(done(group, text, json!({"member": name, "removed": was})));
        }
        progress.tell(format!("{name}: being removed"));
        if Instant::now() >= until {
            return Err(progress.late(timeout));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Adds `new`, and removes `old` once the new one votes.
pub async fn replace(group: &GroupView<'_>, (old, new): (&str, &str), timeout: Duration) -> anyhow::Result<Done> {
    if old == new {
        let text = "a member is not replaced by itself: start it with an empty data directory, and it returns";
        return Err(Failure::Usage(text.into()).into());
    }
    let began = Instant::now();
    let status = patient_status(group, began + timeout).await?;
    if view::member(&status, old).is_none() && view::member(&status, new).is_none() {
        return Err(Failure::Usage(format!("neither {old} nor {new} is a member of {}", group.group)).into());
    }
    let added = add(group, new, timeout).await?;
    eprintln!("{}", plain(&added.text));
    let left = timeout.saturating_sub(began.elapsed()).max(Duration::from_secs(30));
    remove(group, old, left).await?;
    let text = format!("{new} has taken the place of {old} in {}: stop the process of {old}", group.group);
    Ok(done(group, text, json!({"removed": old, "added": new, "node_id": added.value["node_id"]})))
}

/// Hands leadership over and says who leads.
pub async fn transfer(group: &GroupView<'_>, to: Option<&str>) -> anyhow::Result<Done> {
    let until = Instant::now() + Duration::from_secs(30);
    let body = to.map_or(json!({}), |to| json!({"to": to}));
    match patient(group, until, (Method::POST, &["leader", "transfer"], Some(body))).await {
        Ok(_) => {}
        Err(Failure::Refused { info, .. }) if info.code == Code::FailedPrecondition => {
            return Err(refused(&info.message));
        }
        Err(error) => return Err(error.into()),
    }
    loop {
        let status = patient_status(group, until).await?;
        match view::leader(&status) {
            Some(leader) => {
                let leader = leader.to_owned();
                return Ok(done(group, format!("{leader} leads {}", group.group), json!({"leader": leader})));
            }
            None if Instant::now() < until => tokio::time::sleep(LOOK).await,
            None => return Err(Progress("no leader is known".into()).late(Duration::from_secs(30))),
        }
    }
}
