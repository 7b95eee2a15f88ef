//! Which member led each group, and when: as the groups said it while the run went on.

use std::{sync::Arc, time::Duration};

use conflux_tests::Client;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::{
    ground::{Ground, ask},
    history::{Clock, Micros},
};

/// How often each group is asked, and how long it may take to answer.
const EVERY: Duration = Duration::from_millis(500);

/// A time during which a group named one leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Led {
    pub group: String,
    pub member: String,
    /// When it was first seen to lead, and last.
    pub began: Micros,
    pub ended: Micros,
}

/// Asks until it is dropped.
pub struct Leaders {
    led: Arc<Mutex<Vec<Led>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Leaders {
    /// Begins to ask each group.
    pub fn watch(ground: &Ground, clock: Clock) -> Self {
        let led: Arc<Mutex<Vec<Led>>> = Arc::default();
        let groups = ground.groups().into_iter();
        let tasks = groups
            .map(|group| tokio::spawn(follow(group, ground.operators.clone(), clock, Arc::clone(&led))))
            .collect();
        Self { led, tasks }
    }

    /// What was seen so far.
    pub fn led(&self) -> Vec<Led> {
        self.led.lock().clone()
    }
}

impl Drop for Leaders {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn follow(group: String, operators: Vec<Client>, clock: Clock, led: Arc<Mutex<Vec<Led>>>) {
    let path = format!("/_cluster/{group}/leader");
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for turn in 0usize.. {
        ticks.tick().await;
        let operator = std::slice::from_ref(&operators[turn % operators.len()]);
        let Ok(Ok(answer)) = tokio::time::timeout(EVERY, ask(operator, &path)).await else { continue };
        if let Some(member) = answer["member"].as_str() {
            note(&mut led.lock(), &group, member, clock.now());
        }
    }
}

/// Whoever led before may have done so up to now: nobody asked in between.
fn note(led: &mut Vec<Led>, group: &str, member: &str, now: Micros) {
    let last = led.iter_mut().rev().find(|l| l.group == group);
    match last {
        Some(last) if last.member == member => last.ended = now,
        _ => led.push(Led { group: group.to_owned(), member: member.to_owned(), began: now, ended: now }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leader that comes back must not look as if it had led all the time.
    #[test]
    fn each_reign_is_one_of_its_own() {
        let mut led = Vec::new();
        for (group, member, at) in [("a", "1", 1), ("b", "1", 2), ("a", "1", 3), ("a", "2", 4), ("a", "1", 5)] {
            note(&mut led, group, member, at);
        }
        let of_a: Vec<_> = led.iter().filter(|l| l.group == "a").map(|l| (&*l.member, l.began, l.ended)).collect();
        assert_eq!(of_a, [("1", 1, 3), ("2", 4, 4), ("1", 5, 5)]);
    }
}
