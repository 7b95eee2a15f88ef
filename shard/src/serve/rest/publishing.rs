//! Publishing a version, and the way back.

use std::{collections::BTreeMap, sync::Arc};

use axum::{body::Body, extract::State, response::Response};
use conflux_common::{
    error::{ApiError, Code},
    labels::Labels,
};
use conflux_proto::v1;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    params::{Conditional, Demanded},
    shown::{self, Violation, Written},
    usage::ImpactReport,
};
use crate::{
    serve::{
        admission::Refused,
        answer, body,
        conditions::{Conditions, Level},
        managing::{self, Preview, Publication, Source},
    },
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new()
        .routes(routes!(publish))
        .routes(routes!(rollback))
        .routes(routes!(resolve))
        .routes(routes!(promotion, cancel))
}

/// To whom a version is released.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StrategyAsked {
    /// `all`: the one rule that is left serves it to everybody. `canary`: to a share, of the clients with these labels where there
    /// are any. `blue_green`, `targeted`: to the clients with these labels.
    #[schema(value_type = StrategyType)]
    r#type: String,
    labels: Option<BTreeMap<String, String>>,
    percentage: Option<ShareAsked>,
    /// Where the rule stands among the others. Else that of the rule that it replaces, else above all others.
    priority: Option<i32>,
}

/// A way to release.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes what is read as a text")]
enum StrategyType {
    All,
    Canary,
    BlueGreen,
    Targeted,
}

/// The share of a canary.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareAsked {
    /// Hundredths of a percent.
    #[schema(minimum = 1, maximum = 10_000)]
    basis_points: u32,
    /// The label by whose value a client is in or out; `client` by default.
    sticky_label: Option<String>,
}

impl From<StrategyAsked> for v1::Strategy {
    fn from(asked: StrategyAsked) -> Self {
        Self {
            r#type: asked.r#type,
            labels: asked.labels.unwrap_or_default(),
            percentage: asked.percentage.map(|p| v1::Percentage {
                basis_points: p.basis_points,
                sticky_label: p.sticky_label.unwrap_or_default(),
            }),
            priority: asked.priority,
        }
    }
}

/// What is to be published: one of content, draft and version.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublicationAsked {
    /// A new content, as text.
    content: Option<String>,
    /// The same in base64.
    content_base64: Option<String>,
    /// The number of a draft, which becomes a version.
    draft: Option<u64>,
    /// The number of a version that is there.
    version: Option<u64>,
    /// Of a content; else the config's.
    format: Option<String>,
    description: Option<String>,
    /// Of a content: holds for this version in the place of the config's.
    schema: Option<String>,
    strategy: StrategyAsked,
    /// After so many minutes the version becomes the default by itself, unless the rules change before.
    #[schema(minimum = 1, maximum = 527_040)]
    make_default_after_mins: Option<u32>,
}

/// The same as a step of a changeset, which names its config.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishStep {
    /// Of the config.
    pub id: String,
    content: Option<String>,
    content_base64: Option<String>,
    draft: Option<u64>,
    version: Option<u64>,
    format: Option<String>,
    description: Option<String>,
    schema: Option<String>,
    strategy: StrategyAsked,
    make_default_after_mins: Option<u32>,
}

impl From<PublishStep> for PublicationAsked {
    fn from(step: PublishStep) -> Self {
        Self {
            content: step.content,
            content_base64: step.content_base64,
            draft: step.draft,
            version: step.version,
            format: step.format,
            description: step.description,
            schema: step.schema,
            strategy: step.strategy,
            make_default_after_mins: step.make_default_after_mins,
        }
    }
}

impl PublicationAsked {
    /// What it says; `at` is where it stands in the body.
    pub fn read(self, at: &str) -> Result<Publication, ApiError> {
        let content = body::content(at, self.content, self.content_base64)?;
        let given_zero = [("draft", self.draft), ("version", self.version)].into_iter().find(|(_, n)| *n == Some(0));
        if let Some((field, _)) = given_zero {
            return Err(ApiError::invalid(body::below(at, field), "a number from 1"));
        }
        if self.make_default_after_mins == Some(0) {
            return Err(ApiError::invalid(body::below(at, "make_default_after_mins"), "minutes, from 1"));
        }
        let source = Source::of(content, self.draft.unwrap_or(0), self.version.unwrap_or(0))
            .map_err(|e| if at.is_empty() { e } else { e.within(at) })?;
        Ok(Publication {
            source,
            format: self.format.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            schema: self.schema.unwrap_or_default(),
            strategy: Some(self.strategy.into()),
            make_default_after_mins: self.make_default_after_mins.unwrap_or(0),
        })
    }
}

/// What a publication would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct Previewed {
    config_id: String,
    /// The version that would be released; a new one is the next.
    version: u64,
    /// The rules now.
    before: Vec<conflux_common::release::ReleaseRule>,
    /// The rules then.
    after: Vec<conflux_common::release::ReleaseRule>,
    /// What is wrong with the content: with any of these it would be refused.
    violations: Vec<Violation>,
    /// Whom it would reach.
    impact: ImpactReport,
}

impl From<Preview> for Previewed {
    fn from(p: Preview) -> Self {
        Self {
            config_id: p.config_id.to_string(),
            version: p.version,
            before: p.before,
            after: p.after,
            violations: p.violations.into_iter().map(Violation::from).collect(),
            impact: ImpactReport::from(&p.impact),
        }
    }
}

/// Publish: make a version, or take one, and release it.
///
/// Version and rules change together, under one revision, or not at all. Content that the latest version has already makes no
/// other one. With `dry_run=true` nothing is done: the answer says what would be (`Previewed`).
#[utoipa::path(
    post, path = "/configs/{id}/publish", tag = "releases",
    params(("dry_run" = Option<bool>, Query, description = "Only say what it would do."), Conditional),
    request_body = PublicationAsked,
    responses(
        (status = 200, description = "Released, or with `dry_run` what would be.", body = PublishAnswer)
    )
)]
async fn publish(State(shard): State<Arc<Shard>>, mut asked: Asked, body: Body) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let dry_run = match asked.param("dry_run").as_str() {
        "" | "false" => false,
        "true" => true,
        _ => return Err(ApiError::invalid("dry_run", "true or false").into()),
    };
    asked.no_more_params()?;
    let conditions = Conditions::read(&asked.headers)?;
    let (new, _room) = body::read::<PublicationAsked>(&shard, &asked.call, &asked.headers, body).await?;
    let publication = new.read("")?;
    if dry_run {
        let (at, preview) = managing::preview(&shard, &asked.call, id, publication).await?;
        return Ok(answer::json(&at, &PublishAnswer::Previewed(preview.into())));
    }
    let made = managing::publish(&shard, &asked.call, id, publication, conditions).await?;
    let body = PublishAnswer::Written(Written::from(&made));
    Ok(answer::with_headers_of(&made, answer::plain(StatusCode::OK, &body)))
}

/// What a publish answers: the first with `dry_run`, the second without.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PublishAnswer {
    Previewed(Previewed),
    Written(Written),
}

/// Where to go back to.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackAsked {
    /// A version; else the one that the default rule pointed at before.
    #[schema(minimum = 1)]
    version: Option<u64>,
}

/// Roll back: point the default rule at an older version.
///
/// Rules with labels or a share stay. Without a default rule it makes one. A second rollback without a version takes the first one
/// back.
#[utoipa::path(
    post, path = "/configs/{id}/rollback", tag = "releases", params(Conditional), request_body = RollbackAsked,
    responses((status = 200, description = "It is the default now.", body = Written))
)]
async fn rollback(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let id = asked.part("id")?;
    let conditions = Conditions::read(&asked.headers)?;
    let (to, _room) = body::read::<RollbackAsked>(&shard, &asked.call, &asked.headers, body).await?;
    if to.version == Some(0) {
        return Err(ApiError::invalid("version", "a number from 1").into());
    }
    let made = managing::rollback(&shard, &asked.call, id, to.version.unwrap_or(0), conditions).await?;
    Ok(answer::written(&made, StatusCode::OK, None))
}

/// Which version a client is served, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resolved {
    /// 0: none of the rules admits this client.
    version: u64,
    /// In the order in which they are tried.
    rules: Vec<Verdict>,
}

/// What a rule is for this client.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verdict {
    rule: conflux_common::release::ReleaseRule,
    serves: bool,
    /// Why it serves, or why it does not.
    why: String,
}

/// Say which version a client with these labels is served, by which rule, and why not by the others.
///
/// `?label.region=eu&label.client=c-17`: the labels that the client would carry.
#[utoipa::path(
    get, path = "/configs/{id}/resolve", tag = "releases",
    params(
        ("label.NAME" = Option<String>, Query, description = "The client's label NAME; any number of them."),
        Demanded
    ),
    responses((status = 200, description = "The version, and every rule with its reason.", body = Resolved))
)]
async fn resolve(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let demand = asked.demand(Level::Leader)?;
    let labels = Labels::new(asked.params_below("label."))?;
    asked.no_more_params()?;
    let (at, found) = managing::resolve(&shard, &asked.call, id, labels, demand).await?;
    let verdict = |v: v1::RuleVerdict| {
        let rule = shown::rules(v.rule.as_slice()).pop()?;
        Some(Verdict { rule, serves: v.serves, why: v.why })
    };
    let rules = found.rules.into_iter().filter_map(verdict).collect();
    Ok(answer::json(&at, &Resolved { version: found.version, rules }))
}

/// Show the promotion that is under way.
///
/// 404 where none is: the version of a canary becomes the default by itself only where `publish` was told so.
#[utoipa::path(
    get, path = "/configs/{id}/promotion", tag = "releases", params(Demanded),
    responses((status = 200, description = "What becomes the default, and when.", body = shown::Promotion))
)]
async fn promotion(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, config) = managing::config(&shard, &asked.call, id, demand).await?;
    let none = || ApiError::new(Code::NotFound, "no promotion is under way on this config");
    let promised = config.promotion.as_ref().ok_or_else(none)?;
    Ok(answer::json_with_etag(&at, &config.etag, &shown::Promotion::from(promised)))
}

/// Cancel the promotion that is under way. The rules stay as they are.
#[utoipa::path(
    delete, path = "/configs/{id}/promotion", tag = "releases", params(Conditional),
    responses((status = 200, description = "It does not happen.", body = Written))
)]
async fn cancel(State(shard): State<Arc<Shard>>, asked: Asked) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let conditions = Conditions::read(&asked.headers)?;
    let made = managing::cancel_promotion(&shard, &asked.call, asked.part("id")?, conditions).await?;
    Ok(answer::written(&made, StatusCode::OK, None))
}
