//! What a fetch asks for, where it is one that the edge may answer.

use conflux_common::{
    fetch::{self, KnownEtags},
    grant::{Action, Principal, Resource},
    ids::RevisionMark,
    labels::Labels,
};
use http::{HeaderMap, Method};

use crate::canonical::Target;

/// The longest name that a set is looked for under: application, environment and config with the slashes between.
const LONGEST: usize = 63 + 63 + 128 + 2;

/// A stale fetch of one config that its sender may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// `app/env/name`.
    pub what: &'a str,
    /// What the client carries.
    pub labels: Labels,
    /// What the client has already.
    pub known: KnownEtags,
    /// What the client has seen already.
    pub min_revision: Option<RevisionMark>,
}

impl<'a> Asked<'a> {
    /// Reads a request, of which the door knows that it is a fetch. None: a shard answers, also to say what is wrong with it.
    pub fn read(method: &Method, target: &'a Target, headers: &HeaderMap, principal: &Principal) -> Option<Self> {
        if method != Method::GET {
            return None;
        }
        let (_tenant, what) = target.path.strip_prefix("/api/v1/fetch/config/")?.split_once('/')?;
        let mut parts = what.split('/');
        let resource = Resource { app: parts.next(), env: parts.next(), name: Some(parts.next()?) };
        if what.len() > LONGEST || !principal.may(Action::Read, resource) {
            return None;
        }
        let min_revision = if target.query.is_some() { stale(target)? } else { None };
        Some(Self { what, labels: fetch::labels(headers).ok()?, known: KnownEtags::read(headers), min_revision })
    }
}

/// The revision that a query demands; None where the query demands anything that is not done here.
fn stale(target: &Target) -> Option<Option<RevisionMark>> {
    let (mut level, mut min_revision) = (None, None);
    for (name, value) in target.pairs().ok()? {
        let place = match name.as_str() {
            "consistency" => &mut level,
            "min_revision" => &mut min_revision,
            _ => return None,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    match (level.as_deref(), min_revision) {
        (Some("stale") | None, None) => Some(None),
        (Some("stale") | None, Some(text)) => text.parse().ok().map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use conflux_common::grant::Grant;

    use super::*;
    use crate::canonical::canonical;

    fn principal(pattern: &str) -> Principal {
        Principal {
            name: "key:k".into(),
            tenant: Some("acme".parse().unwrap()),
            operator: false,
            grants: vec![Grant { action: Action::Read, pattern: pattern.parse().unwrap() }],
            directory_seq: 1,
        }
    }

    fn read(method: Method, target: &str, headers: &[(&'static str, &str)]) -> Option<(String, Option<String>)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let target = canonical(target.as_bytes()).unwrap();
        let asked = Asked::read(&method, &target, &map, &principal("shop/*/*"))?;
        Some((asked.what.to_owned(), asked.min_revision.map(|m| m.to_string())))
    }

    /// Only what means the same here and at a shard; everything else a shard answers or refuses.
    #[test]
    fn only_plain_stale_fetches_of_one_config() {
        const PATH: &str = "/api/v1/fetch/config/acme/shop/prod/db.yaml";
        let plain = Some(("shop/prod/db.yaml".to_owned(), None));
        assert_eq!(read(Method::GET, PATH, &[]), plain);
        assert_eq!(read(Method::GET, &format!("{PATH}?consistency=stale"), &[]), plain);
        let demanded = read(Method::GET, &format!("{PATH}?min_revision=1.7&consistency=stale"), &[]).unwrap();
        assert_eq!(demanded.1.as_deref(), Some("1.7"));
        assert_eq!(read(Method::HEAD, PATH, &[]), None);
        for query in [
            "consistency=leader",
            "consistency=linearizable",
            "consistency=stale&consistency=stale",
            "consistency=",
            "min_revision=7",
            "min_revision=",
            "min_revision=1.7&min_revision=1.8",
            "other=1",
        ] {
            assert_eq!(read(Method::GET, &format!("{PATH}?{query}"), &[]), None, "{query}");
        }
        assert_eq!(read(Method::GET, "/api/v1/fetch/configs/acme/shop/prod", &[]), None);
        let twice = [("x-client-label-region", "eu"), ("x-client-label-region", "us")];
        assert_eq!(read(Method::GET, PATH, &twice), None, "a shard says what is wrong with it");
    }

    /// Who may not read a config is told by a shard that there is none.
    #[test]
    fn what_may_not_be_read_is_not_asked_for_here() {
        assert_eq!(read(Method::GET, "/api/v1/fetch/config/acme/bank/prod/db.yaml", &[]), None);
    }
}
