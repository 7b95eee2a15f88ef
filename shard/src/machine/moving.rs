//! A tenant on its way from one shard to another: what the state machine of either end does (docs/adr/0003-moves.md).
//!
//! Every command names its move. One that is not above the highest move that has ended here has no effect, however late it
//! comes. The leader has looked placement's record up before it proposed any of them; what happened since is checked here.
//!
//! | state here | command | becomes |
//! |---|---|---|
//! | active | Track | active, noting what is touched |
//! | active, tracked by this move | Freeze | frozen |
//! | frozen by this move | Depart | moved; its rows go by SweepTenant |
//! | none, or moved or absent without rows | BeginImport | importing |
//! | importing by this move | ImportRows that follow on | importing |
//! | importing by this move, whole, the same sum | Seal | prepared |
//! | prepared by this move | TakeOver | active under the new epoch |
//! | any, with no later move | EndMove | active again, or absent; its rows go by SweepTenant |

mod destination;
mod source;

use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    log::{ShardCommand, shard_command::Op},
    store,
};
use conflux_raft::{FatalError, Tx};

use super::{
    lifecycle::{Outcome, answer, enter, standing},
    notice::TenantState,
    stop::Stop,
    tally::counts_of,
};
use crate::store::tenant;

/// Applies a command of a move.
pub(super) fn apply(tx: &mut Tx<'_>, command: &ShardCommand, op: &Op) -> Outcome {
    let (row, state) = standing(tx, command.tenant_id)?;
    let at = At { row, state, id: command.tenant_id, epoch: command.epoch };
    match op {
        Op::Track(op) => source::track(tx, at.of(op.r#move)?, op),
        Op::Freeze(op) => source::freeze(tx, at.of(op.r#move)?, op.r#move),
        Op::Depart(op) => source::depart(tx, at.of(op.r#move)?, op),
        Op::BeginImport(op) => destination::begin_import(tx, at.of(op.r#move)?, op),
        Op::ImportRows(op) => destination::import_rows(tx, at.of(op.r#move)?, op),
        Op::Seal(op) => destination::seal(tx, at.of(op.r#move)?, op),
        Op::TakeOver(op) => destination::take_over(tx, at.of(op.r#move)?, op.r#move),
        Op::EndMove(op) => end_move(tx, at, op.r#move),
        Op::ForgetTouched(op) => source::forget_touched(tx, at, op.max_rows),
        _ => Err(Stop::Fatal(FatalError("no command of a move".into()))),
    }
}

/// Where the tenant stands here, and the epoch that the command names.
struct At {
    row: store::Tenant,
    state: Option<TenantState>,
    id: u64,
    epoch: u64,
}

impl At {
    /// Refuses a command of a move that has ended here.
    fn of(self, move_id: u64) -> Result<(Self, u64), Stop> {
        if move_id <= self.row.ended_move {
            let text = format!("move {move_id} has ended here; the last one is {}", self.row.ended_move);
            return Err(ApiError::new(Code::Aborted, text).into());
        }
        Ok((self, move_id))
    }

    /// The refusal of a command that does not fit the state.
    fn unfit<T>(&self, what: &str) -> Result<T, Stop> {
        let state = self.state.map_or("unknown", TenantState::name);
        let text = format!("{what} does not fit: the tenant is {state} here, move {}", self.row.move_id);
        Err(ApiError::new(Code::Aborted, text).into())
    }

    /// Whether it is in this state by this move.
    fn is(&self, state: TenantState, move_id: u64) -> bool {
        self.state == Some(state) && self.row.move_id == move_id
    }
}

/// No longer copied from here.
fn untracked(row: store::Tenant) -> store::Tenant {
    store::Tenant { tracked_move: 0, touched_seq: 0, moved_to: String::new(), ..row }
}

/// The move was given up: who has the tenant goes on with it, who was to get it forgets what came. Never refused for a
/// move that this shard has not heard of: whatever of it comes later finds it ended.
fn end_move(tx: &mut Tx<'_>, at: At, move_id: u64) -> Outcome {
    if move_id <= at.row.ended_move {
        return Ok((answer(&at.row, false, 0), Vec::new()));
    }
    let (ended_move, row) = (move_id, at.row.clone());
    match at.state {
        Some(TenantState::Active) if row.tracked_move > move_id => at.unfit("EndMove"),
        Some(TenantState::Active) => {
            let row = untracked(store::Tenant { ended_move, ..row });
            tenant::put(tx, &row);
            Ok((answer(&row, false, 0), Vec::new()))
        }
        Some(TenantState::Frozen) if row.move_id == move_id => {
            let row = untracked(store::Tenant { ended_move, move_id: 0, ..row });
            Ok(enter(tx, row, TenantState::Active))
        }
        Some(TenantState::Importing | TenantState::Prepared) if row.move_id == move_id => {
            Ok(enter(tx, store::Tenant { id: at.id, ended_move, ..counts_of(&row) }, TenantState::Absent))
        }
        Some(TenantState::Frozen | TenantState::Importing | TenantState::Prepared) => at.unfit("EndMove"),
        None => Ok(enter(tx, store::Tenant { id: at.id, ended_move, ..row }, TenantState::Absent)),
        Some(TenantState::Moved | TenantState::Absent | TenantState::Deleting | TenantState::Deleted) => {
            let row = store::Tenant { ended_move, ..row };
            tenant::put(tx, &row);
            Ok((answer(&row, false, 0), Vec::new()))
        }
    }
}
