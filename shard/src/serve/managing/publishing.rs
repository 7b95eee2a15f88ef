//! Publishing: a version and the rules that release it; and the way back.

use std::sync::Arc;

use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code, FieldProblem},
    grant::Action,
    ids::ConfigId,
    release::{self, ReleaseRule},
};
use conflux_proto::{
    log::{self, shard_command::Op},
    release::strategy_from_wire,
    store, v1,
};
use conflux_raft::View;

use super::{
    Sent,
    checked::{self, Checked, Rechecks, settled},
    content::{check_schema, schema_for},
    seen::visible,
    usage::impact_of,
};
use crate::{
    machine::remembered::PUBLISH,
    query::{self, TenantRow},
    serve::{
        call::Call,
        conditions::{Conditions, Demand, Level},
        reading::{Stamp, Weight, read},
        writing::{Target, write},
    },
    shard::Shard,
    usage::impact::Impact,
};

/// What is to be published, and to whom.
#[derive(Debug, Clone)]
pub struct Publication {
    /// What.
    pub source: Source,
    /// Of a content; empty: the config's.
    pub format: String,
    /// For people.
    pub description: String,
    /// Of a content; empty: the config's.
    pub schema: String,
    /// To whom; must be there.
    pub strategy: Option<v1::Strategy>,
    /// After so many minutes to everybody; 0: not by itself.
    pub make_default_after_mins: u32,
}

/// Where the content of a publication comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// It was sent.
    Content(Bytes),
    /// A draft, which becomes a version.
    Draft(u64),
    /// A version that is there.
    Version(u64),
}

impl Source {
    /// What was given, which must be exactly one; 0 is no number.
    pub fn of(content: Option<Bytes>, draft: u64, version: u64) -> Result<Self, ApiError> {
        match (content, draft, version) {
            (Some(content), 0, 0) => Ok(Source::Content(content)),
            (None, draft, 0) if draft > 0 => Ok(Source::Draft(draft)),
            (None, 0, version) if version > 0 => Ok(Source::Version(version)),
            _ => Err(ApiError::invalid("content", "give exactly one of content, draft and version")),
        }
    }

    /// What one must be granted: whoever sends a content also writes.
    pub fn actions(&self) -> &'static [Action] {
        match self {
            Source::Content(_) => &[Action::Write, Action::Publish],
            Source::Draft(_) | Source::Version(_) => &[Action::Publish],
        }
    }
}

/// Makes a version, or takes one, and releases it: one entry.
pub async fn publish(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    asked: Publication,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    let mut rechecks = Rechecks::default();
    loop {
        let target = Target::Id(id, asked.source.actions());
        let op = publish_op(shard, call, PUBLISH, id, asked.clone()).await?;
        let outcome = write(shard, call, conditions, target, Op::Publish(op)).await;
        if !rechecks.again(&outcome) {
            return settled(outcome);
        }
    }
}

/// The operation, with its content checked against the leader's state.
pub(super) async fn publish_op(
    shard: &Arc<Shard>,
    call: &Call,
    operation: &'static str,
    id: ConfigId,
    asked: Publication,
) -> Result<log::Publish, ApiError> {
    strategy_from_wire(asked.strategy.as_ref())?;
    let op = log::Publish {
        config_id: id.0,
        description: asked.description.clone(),
        strategy: asked.strategy.clone(),
        make_default_after_mins: asked.make_default_after_mins,
        ..Default::default()
    };
    let of_content = [("format", &asked.format), ("schema", &asked.schema)];
    if let (Source::Draft(_) | Source::Version(_), Some((field, _))) =
        (&asked.source, of_content.into_iter().find(|(_, text)| !text.is_empty()))
    {
        return Err(ApiError::invalid(field, "only with content: a draft or version has its own"));
    }
    match asked.source.clone() {
        Source::Version(version) => Ok(log::Publish { version, ..op }),
        Source::Draft(draft) => {
            let Some((config, saved)) = look_up_draft(shard, call, id, draft).await? else {
                // Perhaps this very call published it, the first time: then its answer is remembered under the key.
                return Ok(log::Publish { draft, ..op });
            };
            let (sent, counts) = (sent_of(&saved), schema_for(&config, &saved.row.schema));
            let Checked { sha256, seen, .. } =
                checked::check(shard, call, operation, &sent.of(&config), &config.name, counts).await?;
            let (format, schema) = (saved.row.format, saved.row.schema);
            Ok(log::Publish { draft, sha256, format, schema, checked: Some(seen), ..op })
        }
        Source::Content(content) => {
            check_schema(&asked.schema).await?;
            let config = look_up(shard, call, id, asked.source.actions()).await?;
            let format = if asked.format.is_empty() { config.format.clone() } else { asked.format };
            let sent = Sent { content, format, media_type: String::new(), description: asked.description };
            let counts = schema_for(&config, &asked.schema);
            let Checked { format, sha256, seen } =
                checked::check(shard, call, operation, &sent, &config.name, counts).await?;
            let (format, checked) = (format.name().to_owned(), Some(seen));
            Ok(log::Publish { content: sent.content, sha256, format, schema: asked.schema, checked, ..op })
        }
    }
}

fn sent_of(draft: &query::Draft) -> Sent {
    Sent {
        content: draft.content.clone().unwrap_or_default(),
        format: draft.row.format.clone(),
        media_type: String::new(),
        description: draft.row.description.clone(),
    }
}

/// The config's record on the leader, where the caller may do this with it.
pub(super) async fn look_up(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    actions: &'static [Action],
) -> Result<store::Config, ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        let found = visible(view, row, &caller, id)?;
        caller.require(actions, &found.app, &found.env, &found.name)?;
        Ok(found)
    };
    Ok(read(shard, call, Demand::at(Level::Leader), Weight::Point, from).await?.1)
}

/// The draft with its config, on the leader; none where there is no such draft.
async fn look_up_draft(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    number: u64,
) -> Result<Option<(store::Config, query::Draft)>, ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        let config = visible(view, row, &caller, id)?;
        caller.require(&[Action::Publish], &config.app, &config.env, &config.name)?;
        match query::draft(view, row, id, number) {
            Ok(draft) => Ok(Some((config, draft))),
            Err(e) if e.code == Code::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    };
    Ok(read(shard, call, Demand::at(Level::Leader), Weight::Point, from).await?.1)
}

/// What a publication would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The config, as it is.
    pub config_id: ConfigId,
    /// The version that would be released: a new one, the next.
    pub version: u64,
    /// The rules as they are.
    pub before: Vec<ReleaseRule>,
    /// The rules as they would be.
    pub after: Vec<ReleaseRule>,
    /// What is wrong with the content; with any it would be refused.
    pub violations: Vec<FieldProblem>,
    /// Whom it would reach, of the clients seen lately.
    pub impact: Impact,
}

/// Says what a publication would do, and does nothing.
pub async fn preview(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    asked: Publication,
) -> Result<(Stamp, Preview), ApiError> {
    let actions = asked.source.actions();
    let strategy = strategy_from_wire(asked.strategy.as_ref())?;
    // Whatever was answered under a key before: this is what would be done now.
    let unkeyed = Call { idempotency: None, ..call.clone() };
    let violations = match publish_op(shard, &unkeyed, PUBLISH, id, asked.clone()).await {
        Ok(_) => Vec::new(),
        // Of the content; whatever else is wrong would be refused here as well.
        Err(e) if e.code == Code::InvalidArgument => e.details,
        Err(e) => return Err(e),
    };
    let (caller, member) = (call.clone(), shard.clone());
    let from = move |view: &View<'_>, row: &TenantRow| {
        let config = visible(view, row, &caller, id)?;
        caller.require(actions, &config.app, &config.env, &config.name)?;
        let version = released_version(view, row, id, &config, &asked.source)?;
        let before = query::rules_of(&config.rules)?;
        let after = release::plan(&before, version, &strategy)?;
        let impact = impact_of(&member, caller.tenant, &config, &after)?;
        Ok(Preview { config_id: id, version, before, after, violations: violations.clone(), impact })
    };
    read(shard, call, Demand::at(Level::Leader), Weight::Scan, from).await
}

/// Which version a publication of this would release.
fn released_version(
    view: &View<'_>,
    row: &TenantRow,
    id: ConfigId,
    config: &store::Config,
    source: &Source,
) -> Result<u64, ApiError> {
    match source {
        Source::Version(number) => {
            query::get_version(view, row, id, *number, query::ShownVersion::Record).map(|v| v.number)
        }
        Source::Draft(number) => query::draft(view, row, id, *number).map(|_| config.latest_version + 1),
        Source::Content(_) => Ok(config.latest_version + 1),
    }
}

/// Points the default rule at an older version; 0: the one that it pointed at before.
pub async fn rollback(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    version: u64,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    let op = Op::Rollback(log::Rollback { config_id: id.0, version });
    write(shard, call, conditions, Target::Id(id, &[Action::Publish]), op).await
}

/// The version does not become the default by itself.
pub async fn cancel_promotion(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    let op = Op::CancelPromotion(log::CancelPromotion { config_id: id.0 });
    write(shard, call, conditions, Target::Id(id, &[Action::Publish]), op).await
}
