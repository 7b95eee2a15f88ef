//! `conflux move`: tenants on their way from one shard group to another. For operators.

use std::time::Duration;

use clap::Subcommand;
use conflux_common::error::Code;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Session, cell, instant, pages};
use crate::{
    client::Client,
    failure::{Failure, exit},
    output::{self, Output, Table},
};

const PATH: [&str; 4] = ["api", "v1", "admin", "moves"];
/// Between two looks at a move: there is nothing to subscribe to.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum MoveCommand {
    /// Move a tenant to another shard group, while it is in use
    #[command(after_help = "Examples:\n  conflux move start acme --to shard-b\n  \
        conflux move start acme --to shard-b --wait\n\n\
        Clients go on: writes wait for a moment while the tenant is handed over, watches stay open. The same command again\n\
        answers the move that is under way. With --wait: exit code 1 if the move was given up, and the reason.")]
    Start {
        tenant: String,
        /// The shard group that gets it
        #[arg(long)]
        to: String,
        /// Show how far it has come, until it ends
        #[arg(long)]
        wait: bool,
    },
    /// List moves, newest first; of those that have ended the last 1,000 are known
    #[command(after_help = "Examples:\n  conflux move list\n  conflux move list --state under_way\n  \
        conflux move list --tenant acme -o json")]
    List {
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<String>,
        /// under_way, ended; or preparing, freezing, committed, cleaning, aborted, done, given_up
        #[arg(long)]
        state: Option<String>,
    },
    /// Show a move, and how far it has come
    #[command(after_help = "Example:\n  conflux move show 17")]
    Show { id: u64 },
    /// Give a move up that is not committed: the tenant stays where it is
    #[command(after_help = "Example:\n  conflux move cancel 17\n\n\
        A committed move cannot be cancelled; move the tenant back.")]
    Cancel { id: u64 },
    /// Follow a move until it ends
    #[command(after_help = "Examples:\n  conflux move watch 17\n  conflux move watch 17 -o json\n\n\
        Exit codes: 0 done, 1 given up. Ctrl-C ends the watching, not the move.")]
    Watch { id: u64 },
}

pub async fn run(command: MoveCommand, session: Session) -> anyhow::Result<()> {
    let (client, output) = (session.operator()?, session.output);
    match command {
        MoveCommand::Start { tenant, to, wait } => {
            let begun = start(&client, &tenant, &to).await.map_err(with_reason)?;
            if wait {
                return watch(&client, id_of(&begun), output).await;
            }
            let text = format!("move {} of {tenant} to {to} is {}", cell(&begun, "id"), cell(&begun, "state"));
            output.done(&text, begun)
        }
        MoveCommand::List { tenant, state } => {
            let filter: Vec<(&str, &str)> = [("tenant", &tenant), ("state", &state)]
                .into_iter()
                .filter_map(|(name, value)| value.as_deref().map(|value| (name, value)))
                .collect();
            let moves = pages(&client, &PATH, &filter, "moves").await?;
            output.list(table(&moves), json!({"moves": moves}))
        }
        MoveCommand::Show { id } => {
            let found = show(&client, id).await?;
            output.list(details(&found), found)
        }
        MoveCommand::Cancel { id } => {
            let number = id.to_string();
            let path = [&PATH[..], &[&number, "cancel"]].concat();
            let now = client.json(client.call(Method::POST, &path)).await.map_err(with_reason)?;
            output.done(&format!("move {id}: {}", cell(&now, "step")), now)
        }
        MoveCommand::Watch { id } => watch(&client, id, output).await,
    }
}

/// What placement does not allow it explains itself; the usual advice for this code would be wrong.
fn with_reason(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Refused { info, .. } if info.code == Code::FailedPrecondition => {
            eprintln!("conflux: refused: {}", output::plain(&info.message));
            Failure::Told(exit::CONFLICT).into()
        }
        other => other.into(),
    }
}

/// Begins a move, or finds the same one under way.
pub async fn start(client: &Client, tenant: &str, to: &str) -> Result<Value, Failure> {
    client.json(client.call(Method::POST, &PATH).json(&json!({"tenant": tenant, "to": to}))).await
}

/// The move as it is now.
pub async fn show(client: &Client, id: u64) -> Result<Value, Failure> {
    client.json(client.call(Method::GET, &[&PATH[..], &[&id.to_string()]].concat())).await
}

pub fn id_of(m: &Value) -> u64 {
    m["id"].as_u64().unwrap_or_default()
}

/// Whether nothing happens about it any more.
pub fn has_ended(m: &Value) -> bool {
    matches!(m["state"].as_str(), Some("done" | "given_up"))
}

/// A line for each step, or for programs the whole move as one line of JSON.
pub fn tell(m: &Value, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => output::line(&sentence(m)),
        Output::Json => output::line(&m.to_string()),
    }
}

/// Where a move stands, for people.
fn sentence(m: &Value) -> String {
    let mut text = format!(
        "move {} {} {} -> {}  {}: {}",
        cell(m, "id"),
        cell(m, "tenant"),
        cell(m, "from"),
        cell(m, "to"),
        cell(m, "state"),
        cell(m, "step")
    );
    if m["state"] == "done" {
        text.push_str(&format!("; {} bytes, writes waited {} ms", cell(m, "bytes"), cell(m, "pause_ms")));
    }
    if m["reason"].is_string() {
        text.push_str(&format!("; {}", cell(m, "reason")));
    }
    output::plain(&text)
}

/// Tells each change of one or several moves once.
#[derive(Default)]
pub struct Teller(std::collections::HashMap<u64, Value>);

impl Teller {
    pub fn tell(&mut self, m: &Value, output: Output) -> anyhow::Result<()> {
        let said = json!([m["state"], m["step"], m["reason"]]);
        if self.0.get(&id_of(m)) == Some(&said) {
            return Ok(());
        }
        self.0.insert(id_of(m), said);
        tell(m, output)
    }
}

async fn watch(client: &Client, id: u64, output: Output) -> anyhow::Result<()> {
    let mut teller = Teller::default();
    let mut troubled = false;
    loop {
        match show(client, id).await {
            Ok(m) => {
                troubled = false;
                teller.tell(&m, output)?;
                if has_ended(&m) {
                    let done = m["state"] == "done";
                    return if done { Ok(()) } else { Err(Failure::Told(exit::FAILED).into()) };
                }
            }
            // Placement elects a leader, or a gateway restarts: the move does not mind.
            Err(e) if e.may_pass() => {
                if !std::mem::replace(&mut troubled, true) {
                    eprintln!("conflux: {e}; looking again");
                }
            }
            Err(e) => return Err(e.into()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn table(moves: &[Value]) -> Table {
    let mut table = Table::new(&["ID", "TENANT", "FROM", "TO", "STATE", "STARTED", "BYTES", "PAUSE MS", "STEP"]);
    for m in moves {
        let text = |key| cell(m, key);
        let why = if m["reason"].is_string() { text("reason") } else { text("step") };
        table.row([
            text("id"),
            text("tenant"),
            text("from"),
            text("to"),
            text("state"),
            instant(m, "started_ms"),
            text("bytes"),
            text("pause_ms"),
            why,
        ]);
    }
    table
}

fn details(m: &Value) -> Table {
    let mut table = Table::new(&["WHAT", "VALUE"]);
    for key in ["id", "tenant", "from", "to", "from_epoch", "to_epoch", "state", "step", "reason", "principal"] {
        table.row([key.to_owned(), cell(m, key)]);
    }
    for key in ["started_ms", "ended_ms"] {
        table.row([key.trim_end_matches("_ms").to_owned(), instant(m, key)]);
    }
    for key in ["bytes", "pause_ms"] {
        table.row([key.to_owned(), cell(m, key)]);
    }
    let progress = &m["progress"];
    if progress.is_object() {
        for key in ["bytes_copied", "bytes_total", "lag"] {
            table.row([key.to_owned(), cell(progress, key)]);
        }
        for side in ["source", "destination"] {
            let (said, trouble) = (cell(&progress[side], "state"), cell(&progress[side], "trouble"));
            let rows = cell(&progress[side], "rows");
            let text = [said, trouble].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(": ");
            table.row([side.to_owned(), format!("{text} ({rows} rows)")]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever waits for a move reads why it was given up, and each step once.
    #[test]
    fn a_move_is_told_with_its_reason() {
        let m = json!({"id": 4, "tenant": "acme", "from": "a", "to": "b", "state": "given_up", "step": "given up, the tenant stayed on a",
            "reason": "the disk is full", "bytes": 0, "pause_ms": null});
        let text = sentence(&m);
        assert!(text.contains("acme a -> b") && text.ends_with("the disk is full"), "{text}");
        assert!(has_ended(&m) && !has_ended(&json!({"state": "aborted"})));
        let done = json!({"id": 4, "state": "done", "step": "done", "bytes": 10, "pause_ms": 35, "reason": null});
        assert!(sentence(&done).contains("writes waited 35 ms"), "{}", sentence(&done));
        let shown = details(&json!({"id": 4, "progress": {"bytes_copied": 5, "source": {"state": "active", "rows": 3}, "destination": {}}})).render();
        assert!(shown.contains("active (3 rows)"), "{shown}");
    }
}
