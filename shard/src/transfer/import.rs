//! Copying a tenant to here: page by page from the source, each an entry of this shard's log.
//!
//! Where the copy stands is in the log as well: a new leader goes on there. Every page names the place that it follows on, so that a
//! late or repeated one has no effect.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Outcome},
    ids::TenantId,
    tls::TlsContext,
};
use conflux_proto::{
    internal::{ExportRowsRequest, ExportRowsResponse, MovePhase, TenantRecord},
    log::{self, ShardCommand, shard_command::Op},
};
use tokio::time::{Instant, sleep};

use super::{pace::Pace, source::Source, transit::Progress};
use crate::{
    machine::TenantState,
    propose::propose,
    query::{self, TenantRow},
    shard::Shard,
};

/// Bytes of rows in one entry; one row more always fits. An entry may have four mebibytes.
const PAGE: u32 = 2 << 20;
/// The source waits so long for news.
const WAIT_MS: u32 = 200;
/// One entry has so long.
const PROPOSE: Duration = Duration::from_secs(5);
/// After what went wrong.
const AGAIN: Duration = Duration::from_millis(100);

/// One tenant's way to here.
pub(super) struct Import {
    shard: Arc<Shard>,
    tls: TlsContext,
    pace: Arc<Pace>,
    id: TenantId,
    move_id: u64,
}

impl Import {
    pub(super) fn new(shard: Arc<Shard>, tls: TlsContext, pace: Arc<Pace>, id: TenantId, move_id: u64) -> Self {
        Self { shard, tls, pace, id, move_id }
    }

    /// Runs until the tenant is prepared, or the move has ended here, or another member leads.
    pub(super) async fn run(self) {
        tracing::info!(tenant = self.id.0, r#move = self.move_id, "importing");
        loop {
            match self.copy().await {
                Ok(()) => break,
                Err(error) => {
                    tracing::info!(tenant = self.id.0, r#move = self.move_id, %error, "the copy does not go on just now");
                    let lag = self.shard.transit.progress(self.id).lag;
                    self.shard.transit.note(self.id, Some(Progress { lag, trouble: error.message }));
                }
            }
            sleep(AGAIN).await;
            if self.shard.node.check_leader().is_err() {
                break;
            }
        }
        self.shard.transit.note(self.id, None);
    }

    /// Copies until there is nothing left to do.
    async fn copy(&self) -> Result<(), ApiError> {
        // What an entry of unknown outcome did is seen only after a barrier.
        self.shard.node.read_barrier(PROPOSE).await?;
        let Some(row) = self.row()? else { return Ok(()) };
        let (record, group) = self.shard.ownership.placed(self.id, Instant::now() + PROPOSE).await?;
        let (Some(from_epoch), Some(group)) = (record.and_then(|r| self.epoch_at_source(&r)), group) else {
            // The move is not under way any more: the look-ups of this shard end it.
            return Ok(());
        };
        let mut source = Source::new(&group, &self.tls)?;
        let mut asked = ExportRowsRequest {
            tenant_id: self.id.0,
            epoch: from_epoch,
            r#move: self.move_id,
            cursor: row.import_cursor.clone(),
            whole: row.import_whole,
            seq: row.import_seq,
            max_bytes: PAGE,
            wait_ms: WAIT_MS,
        };
        let mut page = source.page(&asked).await?;
        loop {
            let lag = if page.whole { page.touched_seq - page.seq.min(page.touched_seq) } else { page.touched_seq };
            self.shard.transit.note(self.id, Some(Progress { lag, trouble: String::new() }));
            let (cursor, whole, seq) = (page.cursor.clone(), page.whole, page.seq);
            let next = ExportRowsRequest { cursor, whole, seq, ..asked.clone() };
            if let Some(frozen) = page.frozen.take() {
                self.take_over(row.epoch, &asked, page).await?;
                let seal = log::Seal { r#move: self.move_id, tenant: Some(frozen) };
                return self.log(row.epoch, Op::Seal(seal)).await;
            }
            // The next page is read while this one is logged.
            let (logged, read) = tokio::join!(self.take_over(row.epoch, &asked, page), source.page(&next));
            logged?;
            if self.row()?.is_none() {
                return Ok(());
            }
            (asked, page) = (next, read?);
        }
    }

    /// The tenant's row while this move imports it.
    fn row(&self) -> Result<Option<TenantRow>, ApiError> {
        let row = self.shard.node.read(|view| query::tenant(view, self.id))??;
        let importing =
            |row: &TenantRow| query::state_of(row) == Some(TenantState::Importing) && row.move_id == self.move_id;
        Ok(row.filter(importing))
    }

    /// The source's epoch, while placement wants this move.
    fn epoch_at_source(&self, record: &TenantRecord) -> Option<u64> {
        let under_way = record.r#move.as_ref().filter(|m| m.id == self.move_id)?;
        matches!(under_way.phase(), MovePhase::Preparing | MovePhase::Freezing).then_some(under_way.from_epoch)
    }

    /// Logs a page that was asked for like this, if there is anything in it.
    async fn take_over(&self, epoch: u64, asked: &ExportRowsRequest, page: ExportRowsResponse) -> Result<(), ApiError> {
        if page.cursor == asked.cursor && page.whole == asked.whole && page.seq == asked.seq {
            return Ok(());
        }
        let bytes: usize = page.rows.iter().map(|r| r.key.len() + r.value.as_ref().map_or(0, |v| v.len())).sum();
        self.pace.take(bytes).await;
        metrics::counter!("conflux_shard_imported_bytes_total").increment(bytes as u64);
        let import = log::ImportRows {
            r#move: self.move_id,
            after_cursor: asked.cursor.clone(),
            after_seq: asked.seq,
            rows: page.rows,
            cursor: page.cursor,
            whole: page.whole,
            seq: page.seq,
        };
        self.log(epoch, Op::ImportRows(import)).await
    }

    async fn log(&self, epoch: u64, op: Op) -> Result<(), ApiError> {
        let seals = matches!(op, Op::Seal(_));
        let command = ShardCommand {
            tenant_id: self.id.0,
            epoch,
            principal: "shard:import".to_owned(),
            op: Some(op),
            ..Default::default()
        };
        conflux_common::failpoint::hit(if seals { "shard.before_seal" } else { "shard.before_import_rows" });
        let logged = propose(&self.shard.node, &command, PROPOSE).await;
        conflux_common::failpoint::hit(if seals { "shard.after_seal" } else { "shard.after_import_rows" });
        match logged {
            Ok(_) => Ok(()),
            Err(error) if error.outcome == Outcome::Unknown || !seals => Err(error),
            Err(error) => {
                tracing::error!(tenant = self.id.0, r#move = self.move_id, %error, "the copy is not what it should be");
                Err(error)
            }
        }
    }
}
