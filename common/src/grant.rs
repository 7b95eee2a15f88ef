//! Who may do what: one pure function for the shard and the gateway (DESIGN section 9).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::TenantName;

/// What one may do with a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Fetch content, watch, see rules and versions.
    Read,
    /// Create configs and versions.
    Write,
    /// Delete configs.
    Delete,
    /// See that configs exist.
    List,
    /// Change what is released.
    Publish,
}

impl Action {
    /// Every action, in the order in which they are shown.
    pub const ALL: [Action; 5] = [Action::Read, Action::Write, Action::Delete, Action::List, Action::Publish];

    /// As written in roles.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Read => "read",
            Action::Write => "write",
            Action::Delete => "delete",
            Action::List => "list",
            Action::Publish => "publish",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A role asks for something that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// Not one of the five.
    #[error("action {0:?}: one of read, write, delete, list, publish")]
    Action(String),
    /// Not three segments, or with characters that no name has.
    #[error("pattern {0:?}: `app/env/name`, each a name in which `*` stands for any characters")]
    Pattern(String),
}

impl FromStr for Action {
    type Err = InvalidGrant;
    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        Action::ALL.into_iter().find(|a| a.name() == text).ok_or_else(|| InvalidGrant::Action(text.to_owned()))
    }
}

/// `app/env/name`, each segment a name in which `*` stands for any characters of that segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourcePattern([String; 3]);

impl FromStr for ResourcePattern {
    type Err = InvalidGrant;
    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let refuse = || InvalidGrant::Pattern(text.chars().take(300).collect());
        let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        let parts: [String; 3] = parts.try_into().map_err(|_| refuse())?;
        let plain = |p: &String| {
            !p.is_empty()
                && p.len() <= 128
                && p.bytes().filter(|b| *b == b'*').count() <= 4
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@+-*".contains(&b))
        };
        if parts.iter().all(plain) { Ok(Self(parts)) } else { Err(refuse()) }
    }
}

impl TryFrom<String> for ResourcePattern {
    type Error = InvalidGrant;
    fn try_from(text: String) -> Result<Self, InvalidGrant> {
        text.parse()
    }
}

impl From<ResourcePattern> for String {
    fn from(pattern: ResourcePattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for ResourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.0[0], self.0[1], self.0[2])
    }
}

/// What a call is about. A missing part means all of them: only a grant for all covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resource<'a> {
    /// The application.
    pub app: Option<&'a str>,
    /// The environment.
    pub env: Option<&'a str>,
    /// The config's name.
    pub name: Option<&'a str>,
}

impl<'a> Resource<'a> {
    /// One config.
    pub fn config(app: &'a str, env: &'a str, name: &'a str) -> Self {
        Self { app: Some(app), env: Some(env), name: Some(name) }
    }
}

impl ResourcePattern {
    /// Whether everything that the resource means is covered.
    pub fn covers(&self, resource: Resource<'_>) -> bool {
        let segment = |pattern: &str, part: Option<&str>| match part {
            None => pattern == "*",
            Some(text) => wildcard(pattern.as_bytes(), text.as_bytes()),
        };
        segment(&self.0[0], resource.app) && segment(&self.0[1], resource.env) && segment(&self.0[2], resource.name)
    }
}

impl ResourcePattern {
    /// Whether something in this application (and environment, if one is given) may be covered.
    pub fn reaches(&self, app: &str, env: Option<&str>) -> bool {
        let matches = |pattern: &str, text: &str| wildcard(pattern.as_bytes(), text.as_bytes());
        matches(&self.0[0], app) && env.is_none_or(|env| matches(&self.0[1], env))
    }
}

/// Greedy matching with one step back: linear for one `*`, bounded by [`ResourcePattern`]'s limits for more.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            back = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = back {
            back = Some((star, from + 1));
            p = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// What.
    pub action: Action,
    /// On what: `app/env/name`, each a name in which `*` stands for any characters.
    #[schema(value_type = String, examples("shop/prod/*"))]
    pub pattern: ResourcePattern,
}

/// Who asks, as the gateway verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Stable and unique: `key:<id>`, `jwt:<issuer>#<subject>`, `operator:<name>`.
    pub name: String,
    /// The tenant that the credential is bound to; none for operators.
    pub tenant: Option<TenantName>,
    /// May call the operators' API.
    pub operator: bool,
    /// What it may do inside its tenant.
    pub grants: Vec<Grant>,
    /// Of which directory change these grants are.
    pub directory_seq: u64,
}

impl Principal {
    /// Whether the credential covers this tenant at all.
    pub fn covers(&self, tenant: &TenantName) -> bool {
        self.tenant.as_ref() == Some(tenant)
    }

    /// Whether it may do this inside its tenant.
    pub fn may(&self, action: Action, resource: Resource<'_>) -> bool {
        self.grants.iter().any(|g| g.action == action && g.pattern.covers(resource))
    }

    /// Whether it may do this with anything that is, or could be, in this application (and environment).
    pub fn may_within(&self, action: Action, app: &str, env: Option<&str>) -> bool {
        self.grants.iter().any(|g| g.action == action && g.pattern.reaches(app, env))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> ResourcePattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_missing_part_is_only_covered_by_all() {
        assert!(pattern("*/*/*").covers(Resource::default()));
        assert!(!pattern("shop/*/*").covers(Resource::default()));
        assert!(pattern("shop/*/*").covers(Resource { app: Some("shop"), ..Default::default() }));
        assert!(!pattern("shop/prod/*").covers(Resource { app: Some("shop"), ..Default::default() }));
    }

    #[test]
    fn a_star_stays_in_its_segment() {
        assert!(pattern("shop/prod/db-*").covers(Resource::config("shop", "prod", "db-main.yaml")));
        assert!(!pattern("shop/prod/db-*").covers(Resource::config("shop", "prod", "main.yaml")));
        assert!("a/b".parse::<ResourcePattern>().is_err());
        assert!("a/b/c/d".parse::<ResourcePattern>().is_err());
        assert!("a//c".parse::<ResourcePattern>().is_err());
    }

    #[test]
    fn an_application_is_reached_through_any_part_of_it() {
        let narrow = pattern("shop*/prod/db-*");
        assert!(narrow.reaches("shop", None) && narrow.reaches("shop-2", Some("prod")));
        assert!(!narrow.reaches("bank", None) && !narrow.reaches("shop", Some("dev")));
    }

    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => naive(&pattern[1..], text) || (!text.is_empty() && naive(pattern, &text[1..])),
            (Some(p), Some(t)) if p == t => naive(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn wildcard_agrees_with_the_naive_one(p in "[ab*]{0,6}", t in "[ab]{0,8}") {
            prop_assert_eq!(wildcard(p.as_bytes(), t.as_bytes()), naive(p.as_bytes(), t.as_bytes()));
        }
    }
}
