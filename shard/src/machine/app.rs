//! The order in which every command is checked and applied.

use std::sync::Arc;

use bytes::Bytes;
use conflux_common::error::ApiError;
use conflux_common::ids::{Epoch, Incarnation, Revision, TenantId};
use conflux_common::planted;
use conflux_proto::{
    internal::FeedEvent,
    log::{ShardCommand, shard_answer, shard_command::Op},
};
use conflux_raft::{App, Applied, Entry, FatalError, Tx, View, backup::Content};
use prost::Message;

use super::{
    change::{Change, Made},
    changeset, create_config, create_version, delete_config, drafts, expire, invariants, levels, lifecycle, moving,
    notice::{ChangeSink, Notice},
    promotion, prune, publish, put_config, remembered, rollback, scopes, set_releases,
    stop::{Stop, encode, is_final, refusal},
    tally, update_config,
};
use crate::{query, store::tenant};

/// The state machine of a shard group.
pub struct Machine {
    sink: Arc<dyn ChangeSink>,
}

impl Machine {
    /// Tells `sink` what is committed.
    pub fn new(sink: Arc<dyn ChangeSink>) -> Self {
        Self { sink }
    }
}

type Done = (Bytes, Vec<Notice>);

impl App for Machine {
    type Notice = Notice;

    const LEVEL: u32 = levels::HIGHEST;

    fn apply(&self, entry: &Entry<'_>, tx: &mut Tx<'_>) -> Result<Applied<Notice>, FatalError> {
        let (answer, notices) = apply(entry, tx)?;
        Ok(Applied { answer, notices })
    }

    fn committed(&self, notices: Vec<Notice>) {
        self.sink.committed(notices);
    }

    fn replaced(&self, view: &View<'_>) {
        if planted::has("keys_not_in_snapshot") {
            remembered::leave_out(view);
        }
        self.sink.replaced();
    }

    fn contents(&self, view: &View<'_>) -> Result<Vec<Content>, FatalError> {
        crate::backup::contents(view)
    }

    fn check(&self, tx: &Tx<'_>) -> Result<(), String> {
        invariants::check(tx)
    }
}

fn apply(entry: &Entry<'_>, tx: &mut Tx<'_>) -> Result<Done, FatalError> {
    let unknown =
        |why: String| FatalError(format!("log entry {}: {why}; this binary is older than the log", entry.index));
    let command = ShardCommand::decode(entry.command).map_err(|e| unknown(e.to_string()))?;
    // Applied as nothing, it would make this replica differ from the others without a word.
    let op = command.op.as_ref().ok_or_else(|| unknown("an unknown command".into()))?;
    let done = run(tx, &command, op, entry)?;
    tally::count(tx, command.tenant_id)?;
    Ok(done)
}

fn run(tx: &mut Tx<'_>, command: &ShardCommand, op: &Op, entry: &Entry<'_>) -> Result<Done, FatalError> {
    let own_part = match op {
        Op::Activate(op) => lifecycle::activate(tx, command, op),
        Op::DeleteTenant(_) => lifecycle::delete_tenant(tx, command),
        Op::SweepTenant(op) => lifecycle::sweep_tenant(tx, command, op),
        Op::Expire(op) => expire::expire(tx, command, op, entry),
        Op::ServeRestored(op) => lifecycle::serve_restored(tx, command, op),
        Op::Track(_)
        | Op::Freeze(_)
        | Op::Depart(_)
        | Op::BeginImport(_)
        | Op::ImportRows(_)
        | Op::Seal(_)
        | Op::TakeOver(_)
        | Op::EndMove(_)
        | Op::ForgetTouched(_) => moving::apply(tx, command, op),
        op => return write(tx, command, op, entry),
    };
    match own_part {
        Ok((answer, notices)) => Ok((encode(shard_answer::Result::Tenant(answer)), notices)),
        Err(Stop::Refused(error)) => Ok((encode(refusal(&error)), Vec::new())),
        Err(Stop::Fatal(e)) => Err(e),
    }
}

/// A user's write: ownership, then what was answered to the same key before, then the condition and the operation (in the
/// operation's own file), then one revision for the whole, and the answer under the key.
fn write(tx: &mut Tx<'_>, command: &ShardCommand, op: &Op, entry: &Entry<'_>) -> Result<Done, FatalError> {
    let refused = |error: &ApiError| Ok((encode(refusal(error)), Vec::new()));

    // First of all: a tenant that is elsewhere answers nothing, not even what it answered once.
    let owned = match planted::has("unchecked_epoch") {
        true => {
            query::tenant(tx, TenantId(command.tenant_id)).transpose().unwrap_or_else(|| Err(query::wrong_epoch(0)))
        }
        false => query::check_owner(tx, TenantId(command.tenant_id), Epoch(command.epoch)),
    };
    let row = match owned.map_err(Stop::from) {
        Ok(row) => row,
        Err(Stop::Refused(error)) => return refused(&error),
        Err(Stop::Fatal(e)) => return Err(e),
    };

    // Before the condition: the second time, the first time's own change has made it fail.
    let slot = match remembered::look_up(tx, command, &row, entry.stamp_ms) {
        Ok(remembered::Found::Answer(answer)) => return Ok((answer, Vec::new())),
        Ok(remembered::Found::Slot(slot)) => slot,
        Err(Stop::Refused(error)) => return refused(&error),
        Err(Stop::Fatal(e)) => return Err(e),
    };

    let before = row.clone();
    let mut change = Change::new(tx, row, command, entry);
    let (mut row, events, answer, remember) = match perform(&mut change, op) {
        Ok(answer) => {
            let Made { tenant, events } = change.finish();
            (tenant, events, encode(answer), true)
        }
        // However far the operation came.
        Err(Stop::Refused(error)) => {
            tx.undo();
            (before.clone(), Vec::new(), encode(refusal(&error)), is_final(&error))
        }
        Err(Stop::Fatal(e)) => return Err(e),
    };
    if let Some(slot) = slot.filter(|_| remember) {
        slot.remember(tx, &mut row, answer.clone());
    }
    if row != before {
        tenant::put(tx, &row);
    }
    let notice = (row.revision > before.revision).then(|| revision_notice(&row, events));
    Ok((answer, notice.into_iter().collect()))
}

fn perform(change: &mut Change<'_, '_>, op: &Op) -> Result<shard_answer::Result, Stop> {
    let answer = match op {
        Op::ApplyChangeset(op) => {
            return Ok(shard_answer::Result::Changeset(changeset::apply_changeset(change, op)?));
        }
        Op::PutConfig(op) => put_config::put_config(change, op),
        Op::CreateConfig(op) => create_config::create_config(change, op),
        Op::CreateVersion(op) => create_version::create_version(change, op),
        Op::SetReleases(op) => set_releases::set_releases(change, op),
        Op::DeleteConfig(op) => delete_config::delete_config(change, op),
        Op::PutScope(op) => scopes::put_scope(change, op),
        Op::DeleteScope(op) => scopes::delete_scope(change, op),
        Op::Prune(op) => prune::prune(change, op),
        Op::UpdateConfig(op) => update_config::update_config(change, op),
        Op::SaveDraft(op) => drafts::save_draft(change, op),
        Op::DropDraft(op) => drafts::drop_draft(change, op),
        Op::Publish(op) => publish::publish(change, op),
        Op::Rollback(op) => rollback::rollback(change, op),
        Op::CancelPromotion(op) => promotion::cancel_promotion(change, op),
        Op::Promote(op) => promotion::promote(change, op),
        // `run` has taken the owner's commands; a new one that it does not know must stop the process, not pass for a write.
        _ => Err(Stop::Fatal(FatalError("an owner's command among users' writes".into()))),
    };
    answer.map(shard_answer::Result::Write)
}

fn revision_notice(row: &conflux_proto::store::Tenant, events: Vec<FeedEvent>) -> Notice {
    Notice::Revision {
        tenant_id: TenantId(row.id),
        epoch: Epoch(row.epoch),
        incarnation: Incarnation(row.incarnation),
        revision: Revision(row.revision),
        events,
    }
}
