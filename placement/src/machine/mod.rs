//! What each command does to the rows. Deterministic: only the command, the rows and group time decide.
//!
//! A command is checked first and writes afterwards: a refused one leaves no row but, under an idempotency key, its
//! remembered answer. An accepted one that changed something gets the next dense sequence number, and its changes
//! become one frame of the [`history`].

pub mod answers;
pub mod credentials;
pub mod groups;
pub mod history;
pub mod holds;
pub mod moves;
pub mod restored;
pub mod tenants;

use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    internal::{Change, change},
    log::{
        PlacementAnswer, PlacementCommand, PlacementRefusal, placement_answer::Result as Answer, placement_command::Op,
    },
};
use conflux_raft::{FatalError, Tx};

use answers::Remembered;

/// What became of a command.
#[derive(Debug)]
pub struct Applied {
    /// For the one who proposed it.
    pub answer: PlacementAnswer,
    /// The sequence of its change, if it changed anything that others follow.
    pub seq: Option<u64>,
}

/// What an accepted command did beside its rows.
struct Effect {
    answer: Answer,
    changes: Vec<Change>,
}

impl Effect {
    fn new(answer: Answer, changes: impl IntoIterator<Item = change::Change>) -> Self {
        Self { answer, changes: changes.into_iter().map(|c| Change { change: Some(c) }).collect() }
    }
}

/// Why a command had no effect.
#[derive(Debug)]
enum Stop {
    Refused(PlacementRefusal),
    Fatal(FatalError),
}

impl From<FatalError> for Stop {
    fn from(e: FatalError) -> Self {
        Stop::Fatal(e)
    }
}

/// A refusal keeps of an error what replicas agree on: code, message, first field.
impl From<ApiError> for Stop {
    fn from(e: ApiError) -> Self {
        let (field, message) = match e.details.into_iter().next() {
            Some(problem) => (problem.field, problem.description),
            None => (String::new(), e.message),
        };
        Stop::Refused(PlacementRefusal { code: e.code.name().to_owned(), message, field })
    }
}

fn refuse(code: Code, message: impl Into<String>) -> Stop {
    Stop::from(ApiError::new(code, message))
}

fn invalid(field: impl Into<String>, description: impl Into<String>) -> Stop {
    Stop::from(ApiError::invalid(field, description))
}

/// Applies one command at this group time.
pub fn apply(tx: &mut Tx<'_>, now_ms: u64, command: PlacementCommand) -> Result<Applied, FatalError> {
    let call = answers::Call::of(&command);
    if let Some(call) = &call {
        match answers::find(tx, call, now_ms)? {
            Remembered::Nothing => {}
            Remembered::Answer(answer) => return Ok(Applied { answer: *answer, seq: None }),
            Remembered::Refused(why) => return Ok(Applied { answer: refusal(why), seq: None }),
        }
    }
    let applied = match run(tx, now_ms, command) {
        Ok(effect) => {
            let seq = if effect.changes.is_empty() { None } else { Some(history::append(tx, effect.changes)?) };
            Applied { answer: PlacementAnswer { result: Some(effect.answer) }, seq }
        }
        Err(Stop::Refused(why)) => Applied { answer: refusal(why), seq: None },
        Err(Stop::Fatal(e)) => return Err(e),
    };
    if let Some(call) = &call {
        answers::remember(tx, call, &applied.answer, now_ms)?;
    }
    answers::forget_expired(tx, now_ms)?;
    Ok(applied)
}

fn refusal(why: PlacementRefusal) -> PlacementAnswer {
    PlacementAnswer { result: Some(Answer::Refusal(why)) }
}

fn run(tx: &mut Tx<'_>, now_ms: u64, command: PlacementCommand) -> Result<Effect, Stop> {
    match command.op {
        Some(Op::ReportGroup(report)) => groups::report(tx, report),
        Some(Op::SetShardWeight(set)) => groups::set_weight(tx, &set),
        Some(Op::RemoveShard(name)) => groups::remove_shard(tx, &name),
        Some(Op::CreateTenant(create)) => tenants::create(tx, now_ms, create),
        Some(Op::DeleteTenant(delete)) => tenants::delete(tx, now_ms, &delete.name),
        Some(Op::AdvanceTenant(advance)) => tenants::advance(tx, now_ms, &advance),
        Some(Op::SetQuotas(set)) => tenants::set_quotas(tx, &set),
        Some(Op::ConfirmSettings(confirm)) => tenants::confirm_settings(tx, &confirm),
        Some(Op::PutHold(put)) => holds::put(tx, now_ms, put, command.principal),
        Some(Op::ReleaseHold(id)) => holds::release(tx, &id),
        Some(Op::AdoptTenant(adopt)) => restored::adopt(tx, now_ms, adopt),
        Some(Op::PutKey(key)) => credentials::put_key(tx, now_ms, key),
        Some(Op::RevokeKey(id)) => credentials::revoke_key(tx, &id),
        Some(Op::PutRole(role)) => credentials::put_role(tx, role),
        Some(Op::DeleteRole(name)) => credentials::delete_role(tx, name),
        Some(Op::StartMove(start)) => moves::start(tx, now_ms, command.principal, &start),
        Some(Op::AdvanceMove(step)) => moves::advance(tx, now_ms, &step),
        Some(Op::CancelMove(cancel)) => moves::cancel(tx, now_ms, &cancel),
        // The level keeps new operations out of the log until every member knows them; guessing would make replicas
        // diverge.
        None => {
            Err(Stop::Fatal(FatalError("an operation that this release does not know: install a newer one".into())))
        }
    }
}

#[cfg(test)]
mod tests;
