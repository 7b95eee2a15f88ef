//! Waits until every member says that it may be sent requests.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Duration,
};

use super::{plan::Role, ports::loopback, process::Process};

/// Between two rounds of questions. There is nothing to subscribe to before a member answers.
const ASK_EVERY: Duration = Duration::from_millis(150);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Asks `/readyz` of all until all have said yes. Shows how far it is.
pub async fn wait(processes: &[Process]) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build()?;
    let mut ready = vec![false; processes.len()];
    let mut progress = Progress::default();
    let mut rounds = tokio::time::interval(ASK_EVERY);
    loop {
        rounds.tick().await;
        for (process, ready) in processes.iter().zip(&mut ready) {
            if !*ready {
                let url = format!("http://{}/readyz", loopback(process.member.ports.metrics));
                *ready = client.get(url).send().await.is_ok_and(|answer| answer.status().is_success());
            }
        }
        progress.show(processes, &ready);
        if ready.iter().all(|r| *r) {
            progress.finish();
            return Ok(());
        }
    }
}

/// One line that is written over on a terminal, else a line for each change.
#[derive(Default)]
struct Progress {
    last: String,
}

impl Progress {
    fn show(&mut self, processes: &[Process], ready: &[bool]) {
        let mut groups: BTreeMap<(Role, String), (usize, usize)> = BTreeMap::new();
        for (process, ready) in processes.iter().zip(ready) {
            let name = process.member.group.clone().unwrap_or_else(|| "gateway".into());
            let (count, all) = groups.entry((process.member.role, name)).or_default();
            *all += 1;
            *count += usize::from(*ready);
        }
        let parts: Vec<String> =
            groups.iter().map(|((_, name), (ready, all))| format!("{name} {ready}/{all}")).collect();
        let text = format!("ready: {}", parts.join("  "));
        if text == self.last {
            return;
        }
        self.last = text;
        // Progress is no answer of the command: whether it can be shown does not matter.
        if std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", self.last);
        } else {
            eprintln!("{}", self.last);
        }
    }

    fn finish(&self) {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}
