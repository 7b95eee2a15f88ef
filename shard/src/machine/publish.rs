//! Publish: a version and the rules that release it, together or not at all.

use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    release::{self, Strategy},
};
use conflux_proto::{log, release::strategy_from_wire, store, v1};

use super::{
    change::{Change, Kind},
    drafts,
    input::NewVersion,
    limits, precondition, rules,
    stop::Stop,
};
use crate::{
    query,
    store::{content, version},
};

/// Releases a new version, a draft or a version that is there, by the strategy. Content that the latest version has already makes
/// no other version; a publish that changes nothing at all makes no revision.
pub(super) fn publish(change: &mut Change<'_, '_>, op: &log::Publish) -> Result<v1::WriteResponse, Stop> {
    let mut config = change.config(op.config_id)?;
    let strategy = strategy_from_wire(op.strategy.as_ref())?;
    let promotion = promotion(change, op, &strategy)?;
    let source = source(op)?;
    change.demand(Some(&config))?;
    precondition::check_schema(op.checked.as_ref(), &op.schema, Some(&config))?;
    let before = config.clone();

    let (number, sha256) = match source {
        Source::Version(number) => known_version(change, &config, number)?,
        Source::Draft(number) => from_draft(change, &mut config, op, number)?,
        Source::Content => {
            let format = if op.format.is_empty() { config.format.clone() } else { op.format.clone() };
            let new = NewVersion {
                content: &op.content,
                sha256: &op.sha256,
                format: &format,
                description: &op.description,
                schema: &op.schema,
                media_type: "",
            };
            add(change, &mut config, &new)?
        }
    };
    let planned = release::plan(&query::rules_of(&before.rules)?, number, &strategy)?;
    let planned = rules::stored(&planned)?;
    if config == before && planned == before.rules && before.promotion.is_none() && promotion.is_none() {
        return Ok(change.unchanged(&config, number, &sha256));
    }
    rules::set(change.tx, change.tenant.id, &mut config, planned);
    let due_ms = promotion.as_ref().map_or(0, |p| p.due_ms);
    if let Some(promotion) = promotion {
        let promotion = store::Promotion { version: number, ..promotion };
        rules::promise(change.tx, change.tenant.id, &mut config, promotion);
    }
    let answer = change.commit(Kind::Released, config, before.rules, number, &sha256)?;
    if due_ms > 0 {
        change.remark(&format!("becomes the default after {} minutes", op.make_default_after_mins));
    }
    Ok(v1::WriteResponse { promotion_due_ms: due_ms, ..answer })
}

enum Source {
    Content,
    Draft(u64),
    Version(u64),
}

/// What is published: exactly one thing, with nothing said of it that it has already.
fn source(op: &log::Publish) -> Result<Source, Stop> {
    let given =
        [("content", !op.sha256.is_empty() && op.draft == 0), ("draft", op.draft > 0), ("version", op.version > 0)];
    let source = match given.map(|(_, given)| given) {
        [true, false, false] => Source::Content,
        [false, true, false] => Source::Draft(op.draft),
        [false, false, true] => Source::Version(op.version),
        _ => return Err(ApiError::invalid("content", "give exactly one of content, draft and version").into()),
    };
    let field = [("description", &op.description), ("format", &op.format), ("schema", &op.schema)];
    let extra = field.into_iter().find(|(_, text)| !text.is_empty());
    match (&source, extra) {
        (Source::Version(_), Some((field, _))) => {
            Err(ApiError::invalid(field, "a version has its own: leave it out").into())
        }
        _ => Ok(source),
    }
}

/// The promotion that is asked for, of no version yet.
fn promotion(
    change: &Change<'_, '_>,
    op: &log::Publish,
    strategy: &Strategy,
) -> Result<Option<store::Promotion>, Stop> {
    let minutes = op.make_default_after_mins;
    let refuse = |why: String| Err(ApiError::invalid("make_default_after_mins", why).into());
    match minutes {
        0 => Ok(None),
        _ if strategy.is_all() => refuse("`all` makes it the default at once".into()),
        _ if minutes > limits::MAX_PROMOTION_MINUTES => {
            refuse(format!("1 to {} minutes", limits::MAX_PROMOTION_MINUTES))
        }
        _ => Ok(Some(store::Promotion {
            version: 0,
            due_ms: change.now_ms.saturating_add(u64::from(minutes) * 60_000),
            created_by: change.command.principal.clone(),
            created_ms: change.now_ms,
        })),
    }
}

fn known_version(change: &Change<'_, '_>, config: &store::Config, number: u64) -> Result<(u64, Bytes), Stop> {
    let row = version::get(&*change.tx, change.tenant.id, config.id, number)?;
    let missing = || ApiError::invalid("version", format!("version {number} does not exist"));
    let row = row.ok_or_else(missing)?;
    Ok((row.number, row.sha256))
}

/// Makes the draft a version. It must be what was looked at when this was asked: the leader checked that.
fn from_draft(
    change: &mut Change<'_, '_>,
    config: &mut store::Config,
    op: &log::Publish,
    number: u64,
) -> Result<(u64, Bytes), Stop> {
    let draft = drafts::find(change, config, number)?;
    if draft.sha256 != op.sha256 || draft.format != op.format || draft.schema != op.schema {
        let text = format!("draft {number} was changed since: read it anew and publish it again");
        return Err(ApiError::new(Code::Aborted, text).with_detail("draft", "changed since").into());
    }
    let missing =
        || conflux_raft::FatalError(format!("the content of draft {number} of config {} is missing", config.id));
    let content = content::get(&*change.tx, change.tenant.id, &draft.sha256)?.ok_or_else(missing)?;
    let description = if op.description.is_empty() { &draft.description } else { &op.description };
    let new = NewVersion {
        content: &content,
        sha256: &draft.sha256,
        format: &draft.format,
        description,
        schema: &draft.schema,
        media_type: "",
    };
    let made = add(change, config, &new)?;
    drafts::remove(change, config.id, &draft)?;
    drafts::note(change, config, &draft, &format!("published as version {}", made.0));
    Ok(made)
}

/// A new version of this content, or the latest where it is the same.
fn add(change: &mut Change<'_, '_>, config: &mut store::Config, new: &NewVersion<'_>) -> Result<(u64, Bytes), Stop> {
    new.check()?;
    if !change.is_latest(config, new)? {
        change.add_version(config, new)?;
        config.format = new.format.to_owned();
    }
    Ok((config.latest_version, new.sha256.clone()))
}
