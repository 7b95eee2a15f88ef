//! What a watch is of: a tenant, an app, an environment or one config, and with labels only what changes for them.

use std::collections::BTreeMap;

use conflux_common::{
    error::ApiError,
    grant::Resource,
    headers::CLIENT_LABEL_PREFIX,
    ids::{AppName, ConfigName, EnvName},
    labels::Labels,
    release::evaluate,
};
use conflux_proto::v1;
use http::HeaderMap;
use serde::Deserialize;

use super::revision::Change;

/// A checked selection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    app: Option<AppName>,
    env: Option<EnvName>,
    name: Option<ConfigName>,
    /// With labels (an empty set too) it speaks only when the version that they resolve to changes.
    labels: Option<Labels>,
}

/// A selection and where to begin, as a client says it. As JSON: a WebSocket client's `subscribe`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wish {
    /// Empty: all.
    pub app: String,
    /// Empty: all; needs `app`.
    pub env: String,
    /// Empty: all; needs both.
    pub name: String,
    /// Of the client.
    pub labels: BTreeMap<String, String>,
    /// Speak by label though there is none.
    pub by_label: bool,
    /// A token or a mark; empty: from now.
    pub from: String,
}

impl Wish {
    /// Of a REST call. Labels come from the query (`label.<name>=`) and from `X-Client-Label-` headers;
    /// `Last-Event-ID`, with which browsers reconnect, is newer than the `from` of the URL.
    pub fn of_rest(query: Option<&str>, headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut wish = Wish::default();
        let mut seen = Vec::new();
        for (key, value) in pairs(query)? {
            if seen.contains(&key) {
                return Err(ApiError::invalid(key, "given twice"));
            }
            match key.as_str() {
                "app" => wish.app = value,
                "env" => wish.env = value,
                "name" => wish.name = value,
                "from" => wish.from = value,
                "by_label" => wish.by_label = flag(&value)?,
                _ => match key.strip_prefix("label.") {
                    Some(label) => wish.label(label, value)?,
                    None => return Err(unknown(&key)),
                },
            }
            seen.push(key);
        }
        for (header, value) in headers {
            if let Some(label) = header.as_str().strip_prefix(CLIENT_LABEL_PREFIX) {
                let value = value.to_str().map_err(|_| ApiError::invalid(header.as_str(), "only printable ASCII"))?;
                wish.label(label, value.to_owned())?;
            }
        }
        if let Some(last) = headers.get("last-event-id").filter(|v| !v.is_empty()) {
            let last = last.to_str().map_err(|_| ApiError::invalid("last-event-id", "only printable ASCII"))?;
            wish.from = last.to_owned();
        }
        Ok(wish)
    }

    fn label(&mut self, name: &str, value: String) -> Result<(), ApiError> {
        if let Some(other) = self.labels.insert(name.to_ascii_lowercase(), value.clone())
            && other != value
        {
            return Err(ApiError::invalid(format!("label.{name}"), "given twice, with different values"));
        }
        Ok(())
    }

    /// Checks it.
    pub fn selection(&self) -> Result<Selection, ApiError> {
        if !self.env.is_empty() && self.app.is_empty() {
            return Err(ApiError::invalid("env", "needs app: environments belong to an application"));
        }
        if !self.name.is_empty() && self.env.is_empty() {
            return Err(ApiError::invalid("name", "needs app and env: a config's name is one of an environment"));
        }
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let by_label = self.by_label || !self.labels.is_empty();
        Ok(Selection {
            app: given(&self.app).map(AppName::new).transpose()?,
            env: given(&self.env).map(EnvName::new).transpose()?,
            name: given(&self.name).map(ConfigName::new).transpose()?,
            labels: by_label.then(|| Labels::new(self.labels.clone())).transpose()?,
        })
    }
}

impl From<v1::WatchRequest> for Wish {
    fn from(asked: v1::WatchRequest) -> Self {
        let v1::WatchRequest { app, env, name, labels, by_label, from } = asked;
        Wish { app, env, name, labels, by_label, from }
    }
}

fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, ApiError> {
    let invalid = || ApiError::invalid("query", "not a valid query string");
    let uri: http::Uri = format!("/?{}", query.unwrap_or_default()).parse().map_err(|_| invalid())?;
    axum::extract::Query::try_from_uri(&uri).map(|q| q.0).map_err(|_| invalid())
}

fn flag(value: &str) -> Result<bool, ApiError> {
    value.parse().map_err(|_| ApiError::invalid("by_label", "true or false"))
}

fn unknown(key: &str) -> ApiError {
    let known = "a watch knows app, env, name, from, by_label and label.<name>";
    ApiError::invalid(key.chars().take(64).collect::<String>(), known)
}

impl Selection {
    /// What one must be allowed to read: all that it could ever speak of.
    pub fn resource(&self) -> Resource<'_> {
        Resource {
            app: self.app.as_ref().map(AppName::as_str),
            env: self.env.as_ref().map(EnvName::as_str),
            name: self.name.as_ref().map(ConfigName::as_str),
        }
    }

    /// Whether the watch speaks of this change.
    pub fn selects(&self, change: &Change) -> bool {
        let matches = |wanted: Option<&str>, is: &str| wanted.is_none_or(|w| w == is);
        let wanted = self.resource();
        matches(wanted.app, &change.event.app)
            && matches(wanted.env, &change.event.env)
            && matches(wanted.name, &change.event.name)
            && self.labels.as_ref().is_none_or(|labels| resolves_otherwise(change, labels))
    }
}

/// Whether a client with these labels is served another version (or none, or one at last) than before.
fn resolves_otherwise(change: &Change, labels: &Labels) -> bool {
    // Rules of a newer shard that this gateway cannot read: better told once too often.
    let Some(rules) = &change.rules else { return true };
    evaluate(change.config, &rules.before, labels) != evaluate(change.config, &rules.after, labels)
}

#[cfg(test)]
mod tests {
    use conflux_common::error::Code;
    use conflux_proto::internal;

    use super::*;

    fn change(place: [&str; 3], kind: &str, before: &[(&str, u64)], after: &[(&str, u64)]) -> Change {
        let rules = |rules: &[(&str, u64)]| {
            let rule = |(region, version): &(&str, u64)| v1::ReleaseRule {
                labels: (!region.is_empty()).then(|| ("region".to_owned(), (*region).to_owned())).into_iter().collect(),
                version: *version,
                priority: i32::from(!region.is_empty()),
                percentage: None,
            };
            rules.iter().map(rule).collect()
        };
        let [app, env, name] = place.map(str::to_owned);
        let event = v1::Event { app, env, name, r#type: kind.into(), config_id: "c3".into(), ..Default::default() };
        let (rules_before, rules_after) = (rules(before), rules(after));
        Change::from(internal::FeedEvent { event: Some(event), rules_before, rules_after })
    }

    fn rest(query: &str) -> Result<Selection, ApiError> {
        Wish::of_rest(Some(query), &HeaderMap::new())?.selection()
    }

    #[test]
    fn a_watch_speaks_of_its_part_only() {
        // Left: what is watched. Right: of shop/prod/a, shop/dev/a and bank/prod/a, which are told.
        for (query, told) in [
            ("", [true, true, true]),
            ("app=shop", [true, true, false]),
            ("app=shop&env=prod", [true, false, false]),
            ("app=shop&env=prod&name=a", [true, false, false]),
            ("app=shop&env=prod&name=b", [false, false, false]),
        ] {
            let selection = rest(query).unwrap();
            let of = |app, env| selection.selects(&change([app, env, "a"], "versioned", &[], &[]));
            assert_eq!([of("shop", "prod"), of("shop", "dev"), of("bank", "prod")], told, "{query}");
        }
    }

    #[test]
    fn a_watch_by_label_speaks_only_when_its_version_changes() {
        let eu = rest("label.region=eu").unwrap();
        let none = rest("by_label=true").unwrap();
        let place = ["shop", "prod", "a"];
        // Kind, rules before and after (region and version), whether region=eu and a client without labels are told.
        for (kind, before, after, told) in [
            ("versioned", &[("", 1)][..], &[("", 1)][..], (false, false)),
            ("released", &[("", 1)], &[("", 2)], (true, true)),
            ("released", &[("", 1)], &[("", 1), ("us", 2)], (false, false)),
            ("released", &[("", 1)], &[("", 1), ("eu", 2)], (true, false)),
            ("released", &[("", 1), ("eu", 2)], &[("", 3), ("eu", 2)], (false, true)),
            ("released", &[("", 1), ("eu", 1)], &[("", 1)], (false, false)),
            ("created", &[], &[("us", 1)], (false, false)),
            ("created", &[], &[("", 1)], (true, true)),
            ("deleted", &[("", 1)], &[], (true, true)),
            ("deleted", &[("us", 1)], &[], (false, false)),
            ("deleted", &[], &[], (false, false)),
            // Whatever the shard says of rules after it: what is deleted is served to nobody.
            ("deleted", &[("", 1)], &[("", 1)], (true, true)),
        ] {
            let change = change(place, kind, before, after);
            assert_eq!((eu.selects(&change), none.selects(&change)), told, "{kind} {before:?} -> {after:?}");
        }
    }

    #[test]
    fn rules_that_cannot_be_read_are_told() {
        // A shard may be newer than this gateway in a rolling upgrade; silence would lose a change.
        let mut change = change(["a", "b", "c"], "released", &[("", 1)], &[("", 1)]);
        change.rules = None;
        assert!(rest("label.region=eu").unwrap().selects(&change));
    }

    #[test]
    fn half_a_place_is_refused() {
        for query in [
            "env=prod",
            "name=a",
            "app=shop&name=a",
            "app=sh%2Fop",
            "app=-x",
            "nmae=a",
            "app=a&app=a",
            "label.=x",
            "label.region=eu&label.REGION=us",
            "by_label=yes",
        ] {
            let refused = rest(query).unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument, "{query}");
        }
    }

    #[test]
    fn a_reconnecting_browser_resumes_where_it_was() {
        // EventSource repeats the URL, `from` included, and adds the id of the last event that it saw.
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", "1.9".parse().unwrap());
        headers.insert("x-client-label-region", "eu".parse().unwrap());
        let wish = Wish::of_rest(Some("from=1.2&app=shop"), &headers).unwrap();
        assert_eq!((wish.from.as_str(), wish.app.as_str()), ("1.9", "shop"));
        assert_eq!(wish.selection().unwrap().labels.unwrap().get("region"), Some("eu"));
    }
}
