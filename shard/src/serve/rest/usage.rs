//! What is used, by how many clients, and whom a release would reach.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{body::Body, extract::State, response::Response};
use conflux_common::{
    error::ApiError,
    labels::Labels,
    release::{Kind, Percentage, ReleaseRule, Strategy},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    params::{Demanded, Paged},
};
use crate::{
    query::Filter,
    serve::{
        admission::Refused,
        answer, body,
        conditions::Level,
        managing::{self, Proposed, UsedConfig},
    },
    shard::Shard,
    usage::{LATELY, impact},
};

/// Days after which a config counts as unused where the caller names none.
const DEFAULT_DAYS: u64 = 30;
/// The most that may be asked for.
const MAX_DAYS: u64 = 3_650;

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(unused)).routes(routes!(reach))
}

/// The use of configs.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageList {
    configs: Vec<ConfigUsage>,
    /// For the next page; empty: this was the last.
    next_cursor: String,
    /// Clients seen within so many milliseconds are clients of late.
    lately_ms: u64,
}

/// What is known of a config's use. Kept in memory: a replica that starts anew begins to look anew.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigUsage {
    id: String,
    app: String,
    env: String,
    name: String,
    /// Milliseconds since the last fetch that was seen; absent: none was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fetched_ago_ms: Option<u64>,
    /// Fetches seen.
    fetches: u64,
    /// About how many different clients fetched it lately (standard error 6.5 %).
    clients: u64,
    /// Milliseconds for which the replica that answers has been told of fetches: it knows nothing of before.
    observed_ms: u64,
    /// How often a label set found no room in the memory of use, or was given up for another.
    dropped: u64,
    created_ms: u64,
}

impl From<&UsedConfig> for ConfigUsage {
    fn from(used: &UsedConfig) -> Self {
        let (c, seen) = (&used.config, &used.seen);
        Self {
            id: c.id.clone(),
            app: c.app.clone(),
            env: c.env.clone(),
            name: c.name.clone(),
            last_fetched_ago_ms: seen.last.map(ms),
            fetches: seen.fetches,
            clients: seen.clients.estimate(),
            observed_ms: ms(seen.observed),
            dropped: seen.dropped,
            created_ms: c.created_ms,
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn shape((configs, next_cursor): (Vec<UsedConfig>, String)) -> UsageList {
    UsageList { configs: configs.iter().map(ConfigUsage::from).collect(), next_cursor, lately_ms: ms(LATELY) }
}

/// Show what is fetched, and by how many clients.
///
/// From the gateways' reports, a few seconds old. Fetches of a whole environment count for each config in it.
#[utoipa::path(
    get, path = "/usage", tag = "usage",
    params(
        ("app" = Option<String>, Query, description = "Only this application."),
        ("env" = Option<String>, Query, description = "Only this environment."),
        Paged, Demanded
    ),
    responses((status = 200, description = "What is known.", body = UsageList))
)]
async fn list(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let filter = Filter { app: asked.param("app"), env: asked.param("env"), ..Default::default() };
    let (page, demand) = (asked.page()?, asked.demand(Level::Leader)?);
    asked.no_more_params()?;
    let (at, configs, next) = managing::usage(&shard, &asked.call, filter, page, demand).await?;
    Ok(answer::json(&at, &shape((configs, next))))
}

/// List configs that nobody fetches.
///
/// Those that are at least so many days old and were not fetched for as long. `observed_ms` says how far back the answer can know:
/// below the days asked for, "not fetched" is "not fetched since then".
#[utoipa::path(
    get, path = "/usage/unused", tag = "usage",
    params(
        ("days" = Option<u64>, Query, minimum = 0, maximum = 3650,
            description = "Not fetched for so many days; 30 by default. 0: never seen to be fetched, however young."),
        ("app" = Option<String>, Query, description = "Only this application."),
        ("env" = Option<String>, Query, description = "Only this environment."),
        Paged, Demanded
    ),
    responses((status = 200, description = "Those of the page that are not used.", body = UsageList))
)]
async fn unused(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let filter = Filter { app: asked.param("app"), env: asked.param("env"), ..Default::default() };
    let days = match asked.param("days").as_str() {
        "" => DEFAULT_DAYS,
        text => {
            let wrong = || ApiError::invalid("days", format!("0 to {MAX_DAYS}"));
            text.parse().ok().filter(|days| *days <= MAX_DAYS).ok_or_else(wrong)?
        }
    };
    let (page, demand) = (asked.page()?, asked.demand(Level::Leader)?);
    asked.no_more_params()?;
    let idle = Duration::from_secs(days * 24 * 3600);
    let (at, configs, next) = managing::unused(&shard, &asked.call, filter, idle, page, demand).await?;
    Ok(answer::json(&at, &shape((configs, next))))
}

/// What would be released: a list of rules, or what a publish would be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposedRelease {
    /// The whole list of rules. Not together with the others.
    rules: Option<Vec<ReleaseRule>>,
    /// A version that is there; absent: the new one that a publish would make.
    #[schema(minimum = 1)]
    version: Option<u64>,
    /// As in a publish; absent: to all.
    strategy: Option<ProposedStrategy>,
    /// As in a publish: the content itself decides nothing here.
    content: Option<String>,
    content_base64: Option<String>,
    draft: Option<u64>,
    format: Option<String>,
    description: Option<String>,
    schema: Option<String>,
    /// As in a publish. What is shown is whom the strategy reaches now.
    make_default_after_mins: Option<u32>,
}

/// To whom it would be released.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposedStrategy {
    /// `all`, `canary`, `blue_green` or `targeted`.
    r#type: String,
    labels: Option<BTreeMap<String, String>>,
    percentage: Option<Percentage>,
    priority: Option<i32>,
}

impl ProposedRelease {
    fn checked(self) -> Result<Proposed, ApiError> {
        let of_publish = [
            self.content.is_some(),
            self.content_base64.is_some(),
            self.draft.is_some(),
            self.version.is_some(),
            self.strategy.is_some(),
            self.format.is_some(),
            self.description.is_some(),
            self.schema.is_some(),
            self.make_default_after_mins.is_some(),
        ];
        match self.rules {
            Some(_) if of_publish.contains(&true) => {
                Err(ApiError::invalid("rules", "either the rules, or what a publish is given: not both"))
            }
            Some(rules) => Ok(Proposed::Rules(rules)),
            None => {
                let strategy = self.strategy.map_or(Ok(Strategy::all()), ProposedStrategy::checked)?;
                Ok(Proposed::Release(self.version, strategy))
            }
        }
    }
}

impl ProposedStrategy {
    fn checked(self) -> Result<Strategy, ApiError> {
        let kind: Kind = self.r#type.parse()?;
        let labels =
            Labels::try_from(self.labels.unwrap_or_default()).map_err(|e| ApiError::invalid("strategy.labels", e))?;
        Strategy::new(kind, labels, self.percentage, self.priority)
    }
}

/// Whom a release would reach.
#[derive(Debug, Serialize, ToSchema)]
pub struct Impact {
    config_id: String,
    app: String,
    env: String,
    name: String,
    #[serde(flatten)]
    report: ImpactReport,
}

/// Whom new rules would reach, of the clients seen lately.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImpactReport {
    /// Those that would change first, then by the number of clients.
    label_sets: Vec<ReachedLabels>,
    /// Label sets that would be served another version.
    changing: usize,
    /// About how many clients were seen lately.
    clients: u64,
    /// About how many of them would be served another version, of those whose labels are known.
    clients_changing: u64,
    /// Milliseconds for which the replica that answers has been told of fetches.
    observed_ms: u64,
    /// Clients seen within so many milliseconds are shown.
    lately_ms: u64,
    /// How often a label set found no room, or was given up for another.
    dropped: u64,
    /// Where the report is not the whole truth; empty: nothing of note.
    notes: Vec<String>,
}

/// Clients that carry the same labels.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReachedLabels {
    labels: BTreeMap<String, String>,
    changes: bool,
    /// Absent: no rule serves them.
    #[serde(skip_serializing_if = "Option::is_none")]
    version_now: Option<u64>,
    /// Absent: no rule would serve them.
    #[serde(skip_serializing_if = "Option::is_none")]
    version_then: Option<u64>,
    /// About how many they are (standard error 6.5 %).
    clients: u64,
    fetches: u64,
    last_fetched_ago_ms: u64,
}

impl From<&impact::Impact> for ImpactReport {
    fn from(impact: &impact::Impact) -> Self {
        let reached = |r: &impact::Reached| ReachedLabels {
            labels: r.labels.clone().into(),
            changes: r.changes(),
            version_now: r.now,
            version_then: r.then,
            clients: r.clients,
            fetches: r.fetches,
            last_fetched_ago_ms: ms(r.last),
        };
        Self {
            label_sets: impact.label_sets.iter().map(reached).collect(),
            changing: impact.changing,
            clients: impact.clients,
            clients_changing: impact.clients_changing,
            observed_ms: ms(impact.observed),
            lately_ms: ms(LATELY),
            dropped: impact.dropped,
            notes: impact.notes.clone(),
        }
    }
}

/// Show whom a release would reach, before it is made.
///
/// For each set of labels that clients carried lately: what they are served, and what they would be served. Nothing is written.
#[utoipa::path(
    post, path = "/configs/{id}/impact", tag = "usage", params(Demanded), request_body = ProposedRelease,
    responses((status = 200, description = "Of the clients seen lately.", body = Impact))
)]
async fn reach(State(shard): State<Arc<Shard>>, mut asked: Asked, body: Body) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (proposed, _room) = body::read::<ProposedRelease>(&shard, &asked.call, &asked.headers, body).await?;
    let (at, config, impact) = managing::impact(&shard, &asked.call, id, proposed.checked()?, demand).await?;
    let report = ImpactReport::from(&impact);
    let (app, env, name) = (config.app, config.env, config.name);
    Ok(answer::json(&at, &Impact { config_id: config.id, app, env, name, report }))
}
