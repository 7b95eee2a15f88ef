//! From a strategy to rules (ADR 2): what publish, rollback and promotion make of the rules that stand.

use std::str::FromStr;

use super::{MAX_PRIORITY, MAX_RULES, Percentage, ReleaseRule, validate, validate::share};
use crate::{error::ApiError, labels::Labels};

/// Decides who is in a canary where nothing else is named.
pub const DEFAULT_STICKY_LABEL: &str = "client";
/// New rules keep so much room below them.
const STEP: i32 = 10;

/// To whom a version is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To everybody: no other rule is left.
    All,
    /// To a share, of clients with the labels where there are any.
    Canary,
    /// To one of two sides, which its labels name.
    BlueGreen,
    /// To the clients that its labels name.
    Targeted,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::All, Kind::Canary, Kind::BlueGreen, Kind::Targeted];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::All => "all",
            Kind::Canary => "canary",
            Kind::BlueGreen => "blue_green",
            Kind::Targeted => "targeted",
        }
    }
}

impl FromStr for Kind {
    type Err = ApiError;
    fn from_str(text: &str) -> Result<Self, ApiError> {
        let known = Kind::ALL.into_iter().find(|k| k.name() == text);
        known.ok_or_else(|| ApiError::invalid("strategy.type", "one of all, canary, blue_green, targeted"))
    }
}

/// How a version is released. Made by [`Strategy::new`], which checks that the parts go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strategy {
    kind: Kind,
    labels: Labels,
    percentage: Option<Percentage>,
    priority: Option<i32>,
}

impl Strategy {
    /// To everybody.
    pub fn all() -> Self {
        Self { kind: Kind::All, labels: Labels::default(), percentage: None, priority: None }
    }

    /// Refuses parts that do not go together. Fields of errors are `strategy..`. A canary's empty sticky label means
    /// [`DEFAULT_STICKY_LABEL`]. `priority`: none is that of the rule that is replaced, else above all others.
    pub fn new(
        kind: Kind,
        labels: Labels,
        percentage: Option<Percentage>,
        priority: Option<i32>,
    ) -> Result<Self, ApiError> {
        match kind {
            Kind::All if !labels.is_empty() => {
                return Err(ApiError::invalid("strategy.labels", "`all` takes none: use `targeted` to name clients"));
            }
            Kind::BlueGreen | Kind::Targeted if labels.is_empty() => {
                let why = format!("`{}` needs the labels that its clients carry", kind.name());
                return Err(ApiError::invalid("strategy.labels", why));
            }
            _ => {}
        }
        let percentage = match (kind, percentage) {
            (Kind::Canary, None) => {
                let why = "`canary` needs a share: {\"basis_points\": 1000} is 10 %";
                return Err(ApiError::invalid("strategy.percentage", why));
            }
            (Kind::Canary, Some(p)) => {
                let named = !p.sticky_label.is_empty();
                let sticky_label = if named { p.sticky_label } else { DEFAULT_STICKY_LABEL.to_owned() };
                let p = Percentage { sticky_label, ..p };
                share(&p, "strategy.percentage")?;
                if p.basis_points == 0 {
                    return Err(ApiError::invalid("strategy.percentage.basis_points", "1 to 10000"));
                }
                Some(p)
            }
            (_, Some(_)) => return Err(ApiError::invalid("strategy.percentage", "only `canary` takes a share")),
            (_, None) => None,
        };
        if priority.is_some_and(|p| !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&p)) {
            return Err(ApiError::invalid("strategy.priority", format!("{} to {MAX_PRIORITY}", -MAX_PRIORITY)));
        }
        Ok(Self { kind, labels, percentage, priority })
    }

    /// Whether it is to everybody at once.
    pub fn is_all(&self) -> bool {
        self.kind == Kind::All
    }

    /// Whether the rule is what this strategy releases to: the same labels, drawn by the same label.
    fn is_of(&self, rule: &ReleaseRule) -> bool {
        let drawn_by = |p: &Option<Percentage>| p.as_ref().map(|p| p.sticky_label.clone());
        rule.labels == self.labels && drawn_by(&rule.percentage) == drawn_by(&self.percentage)
    }
}

/// The rules that release `version` by this strategy. Refused where they would not all mean something.
pub fn plan(rules: &[ReleaseRule], version: u64, strategy: &Strategy) -> Result<Vec<ReleaseRule>, ApiError> {
    let place = rules.iter().position(|r| strategy.is_of(r));
    let kept = place.map(|i| rules[i].priority);
    let priority = match (strategy.priority.or(kept), strategy.kind) {
        (Some(priority), _) => priority,
        // Nothing is left for it to be above of.
        (None, Kind::All) => 0,
        (None, _) => above(rules)?,
    };
    let rule =
        ReleaseRule { labels: strategy.labels.clone(), version, priority, percentage: strategy.percentage.clone() };
    let mut after = if strategy.kind == Kind::All { Vec::new() } else { rules.to_vec() };
    match place.filter(|_| strategy.kind != Kind::All) {
        Some(i) => after[i] = rule,
        None => after.push(rule),
    }
    validate(&after)
        .map_err(|e| ApiError::invalid("strategy", format!("with it the rules would not stand: {}", e.message)))?;
    Ok(after)
}

fn above(rules: &[ReleaseRule]) -> Result<i32, ApiError> {
    let top = rules.iter().map(|r| r.priority).max().unwrap_or(0).saturating_add(STEP);
    let full = || {
        ApiError::invalid("strategy.priority", "no priority is left above the rules: give one, or set the rules anew")
    };
    (top <= MAX_PRIORITY).then_some(top).ok_or_else(full)
}

/// The rule for everybody. Of several, which [`validate`] refuses, the one that wins.
pub fn default_rule(rules: &[ReleaseRule]) -> Option<&ReleaseRule> {
    super::order(rules).into_iter().map(|i| &rules[i]).find(|r| r.is_default())
}

/// Points the default rule at the version, or makes one that no other rule is below.
pub fn serve_by_default(rules: &mut Vec<ReleaseRule>, version: u64) -> Result<(), ApiError> {
    let place = super::order(rules).into_iter().find(|i| rules[*i].is_default());
    if let Some(i) = place {
        rules[i].version = version;
        return Ok(());
    }
    if rules.len() >= MAX_RULES {
        let why = format!("at most {MAX_RULES} rules on a config, and there is none for everybody: take one away");
        return Err(ApiError::invalid("rules", why));
    }
    let lowest = rules.iter().map(|r| r.priority).min().unwrap_or(0).min(0);
    // A rule with labels is above one without at the same priority; a share of all clients is not.
    let level = rules.iter().any(|r| r.priority == lowest && r.labels.is_empty());
    let priority = if level { lowest.saturating_sub(1) } else { lowest };
    if priority < -MAX_PRIORITY {
        return Err(ApiError::invalid(
            "rules",
            "no priority is left below the rules for the default: set the rules anew",
        ));
    }
    rules.push(ReleaseRule { labels: Labels::default(), version, priority, percentage: None });
    Ok(())
}

/// The version becomes the default, and the rules that gave it to a part of the clients go.
pub fn promote(rules: &[ReleaseRule], version: u64) -> Result<Vec<ReleaseRule>, ApiError> {
    let mut after: Vec<ReleaseRule> =
        rules.iter().filter(|r| r.is_default() || r.version != version).cloned().collect();
    serve_by_default(&mut after, version)?;
    Ok(after)
}
