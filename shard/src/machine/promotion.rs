//! Promote and CancelPromotion: a version that becomes the default by itself.

use conflux_common::{
    error::{ApiError, Code},
    release,
};
use conflux_proto::{log, v1};

use super::{
    change::{Change, Kind},
    rules,
    stop::Stop,
    update_config::latest,
};
use crate::{query, store::version};

/// Makes the version the default. Logged by the leader when it is due; it does nothing unless the config still has exactly this
/// promotion, so that it happens once, however often and by whomever it is logged.
pub(super) fn promote(change: &mut Change<'_, '_>, op: &log::Promote) -> Result<v1::WriteResponse, Stop> {
    let mut config = change.config(op.config_id)?;
    let stands = config.promotion.as_ref().is_some_and(|p| (p.version, p.due_ms) == (op.version, op.due_ms));
    if !stands {
        let (version, sha256) = latest(change, &config)?;
        return Ok(change.unchanged(&config, version, &sha256));
    }
    if change.now_ms < op.due_ms {
        return Err(ApiError::new(Code::FailedPrecondition, "the promotion is not due yet").into());
    }
    let gone =
        || conflux_raft::FatalError(format!("version {} of config {} is promised and gone", op.version, config.id));
    let row = version::get(&*change.tx, change.tenant.id, config.id, op.version)?.ok_or_else(gone)?;
    let before = config.rules.clone();
    let after = match planned(&config.rules, op.version) {
        Ok(after) => after,
        Err(Stop::Refused(error)) => {
            // It would be due again and again: what cannot happen ends, and the record says why.
            rules::end_promotion(change.tx, change.tenant.id, &mut config);
            let answer = change.commit(Kind::Updated, config, before, row.number, &row.sha256)?;
            change.remark(&format!("the promotion ends without effect: {}", error.message));
            return Ok(answer);
        }
        Err(fatal) => return Err(fatal),
    };
    rules::set(change.tx, change.tenant.id, &mut config, after);
    Ok(change.commit(Kind::Released, config, before, row.number, &row.sha256)?)
}

fn planned(standing: &[v1::ReleaseRule], version: u64) -> Result<Vec<v1::ReleaseRule>, Stop> {
    rules::stored(&release::promote(&query::rules_of(standing)?, version)?)
}

/// The version does not become the default by itself. The rules stay as they are.
pub(super) fn cancel_promotion(
    change: &mut Change<'_, '_>,
    op: &log::CancelPromotion,
) -> Result<v1::WriteResponse, Stop> {
    let mut config = change.config(op.config_id)?;
    change.demand(Some(&config))?;
    if config.promotion.is_none() {
        return Err(ApiError::new(Code::NotFound, "no promotion is under way on this config").into());
    }
    rules::end_promotion(change.tx, change.tenant.id, &mut config);
    let (version, sha256) = latest(change, &config)?;
    let rules = config.rules.clone();
    let answer = change.commit(Kind::Updated, config, rules, version, &sha256)?;
    change.remark("the promotion is cancelled");
    Ok(answer)
}
