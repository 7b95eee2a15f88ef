//! `If-Match`, `If-None-Match` and the other things that a caller demands of an answer.

use conflux_common::{
    error::{ApiError, Code},
    ids::{Incarnation, Revision, RevisionMark},
};
use http::HeaderMap;

/// What a write demands of the config that it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Its last revision must be this one.
    pub if_match: Option<RevisionMark>,
    /// It must not exist.
    pub if_absent: bool,
}

impl Conditions {
    /// Reads `if-match` and `if-none-match` of a write, from HTTP headers or gRPC metadata.
    pub fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let if_match = single(headers, "if-match")?.map(config_etag).transpose()?;
        let if_absent = match single(headers, "if-none-match")? {
            None => false,
            Some("*") => true,
            Some(_) => return Err(ApiError::invalid("If-None-Match", "a write takes only `*`: create, never replace")),
        };
        if if_match.is_some() && if_absent {
            return Err(ApiError::invalid("If-Match", "with `If-None-Match: *` it can never hold: send one of them"));
        }
        Ok(Self { if_match, if_absent })
    }

    /// As a step of a changeset says it: an ETag (empty: any), or that it must not exist.
    pub fn of_step(if_match: &str, if_absent: bool) -> Result<Self, ApiError> {
        let if_match = (!if_match.is_empty()).then(|| config_etag(if_match)).transpose().map_err(|e| {
            let why = e.details.into_iter().next().map_or(e.message, |d| d.description);
            ApiError::invalid("if_match", why)
        })?;
        if if_match.is_some() && if_absent {
            return Err(ApiError::invalid("if_match", "with `if_absent` it can never hold: send one of them"));
        }
        Ok(Self { if_match, if_absent })
    }

    /// What the command carries: the revision, or 0 for none. A revision of another life of the tenant never matches.
    pub fn revision_within(&self, incarnation: Incarnation) -> Result<u64, ApiError> {
        match self.if_match {
            None => Ok(0),
            Some(RevisionMark { incarnation: given, revision: Revision(revision) })
                if given == incarnation && revision > 0 =>
            {
                Ok(revision)
            }
            Some(mark) => Err(ApiError::new(
                Code::FailedPrecondition,
                format!("If-Match \"{mark}\" is of no config in the present history {incarnation}: read it again"),
            )),
        }
    }
}

/// The one value of a header; two are ambiguous.
fn single<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::invalid(name, "given twice"));
    }
    first.map(|v| v.to_str().map(str::trim).map_err(|_| ApiError::invalid(name, "not ASCII"))).transpose()
}

/// A config's ETag, with its quotes or, as people type it, without.
fn config_etag(text: &str) -> Result<RevisionMark, ApiError> {
    let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    bare.parse().map_err(|_| {
        ApiError::invalid("If-Match", "one ETag as a config's answers carry it: \"<incarnation>.<revision>\", quoted")
    })
}

/// How current a read must be (DESIGN section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// This replica's state, with honest age.
    Stale,
    /// The leader's state; not linearizable.
    Leader,
    /// After a read barrier.
    Linearizable,
}

/// What a read demands of the state that it is answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// How current it must be.
    pub level: Level,
    /// It must reflect this revision of the tenant.
    pub min_revision: Option<RevisionMark>,
}

impl Demand {
    /// Reads the two parameters as REST writes them; empty or none: the default of the call.
    pub fn parse(consistency: Option<&str>, min_revision: Option<&str>, default: Level) -> Result<Self, ApiError> {
        let level = match consistency.unwrap_or("") {
            "" => default,
            "stale" => Level::Stale,
            "leader" => Level::Leader,
            "linearizable" => Level::Linearizable,
            _ => return Err(ApiError::invalid("consistency", "one of stale, leader, linearizable")),
        };
        let mark = |text: &str| {
            text.parse().map_err(|_| {
                ApiError::invalid("min_revision", "`<incarnation>.<revision>`, as X-Conflux-Revision showed it")
            })
        };
        let min_revision = min_revision.filter(|text| !text.is_empty()).map(mark).transpose()?;
        Ok(Self { level, min_revision })
    }

    /// Without a demand on the revision.
    pub fn at(level: Level) -> Self {
        Self { level, min_revision: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    /// A condition that is misread would let a write overwrite what its sender never saw.
    #[test]
    fn if_match_takes_one_config_etag_and_nothing_else() {
        let mark: RevisionMark = "2.7".parse().unwrap();
        for good in ["\"2.7\"", "2.7", " \"2.7\" "] {
            assert_eq!(Conditions::read(&headers(&[("if-match", good)])).unwrap().if_match, Some(mark), "{good}");
        }
        for bad in ["*", "W/\"2.7\"", "\"2.7\", \"2.8\"", "\"abc\"", "", "\"2.07\""] {
            let refused = Conditions::read(&headers(&[("if-match", bad)])).unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument, "{bad}");
        }
        assert!(Conditions::read(&headers(&[("if-match", "\"2.7\""), ("if-match", "\"2.8\"")])).is_err());
    }

    /// `If-None-Match: *` is the only one that a write can mean.
    #[test]
    fn if_none_match_of_a_write_is_a_star() {
        assert!(Conditions::read(&headers(&[("if-none-match", "*")])).unwrap().if_absent);
        assert!(Conditions::read(&headers(&[("if-none-match", "\"x\"")])).is_err());
        assert!(Conditions::read(&headers(&[("if-none-match", "*"), ("if-match", "\"1.1\"")])).is_err());
    }

    /// 0 means "no condition" in the command: neither it nor another life's revision may come through as that.
    #[test]
    fn a_revision_of_another_life_or_zero_never_matches() {
        let with = |text: &str| Conditions { if_match: Some(text.parse().unwrap()), if_absent: false };
        assert_eq!(with("2.7").revision_within(Incarnation(2)).unwrap(), 7);
        for (text, life) in [("2.7", 3), ("2.0", 2)] {
            let refused = with(text).revision_within(Incarnation(life)).unwrap_err();
            assert_eq!(refused.code, Code::FailedPrecondition);
        }
        assert_eq!(Conditions::default().revision_within(Incarnation(2)).unwrap(), 0);
    }

    /// A misspelt level must not silently become the default.
    #[test]
    fn demands_are_read_or_refused() {
        assert_eq!(Demand::parse(None, None, Level::Stale).unwrap(), Demand::at(Level::Stale));
        assert_eq!(Demand::parse(Some("linearizable"), None, Level::Stale).unwrap().level, Level::Linearizable);
        assert_eq!(Demand::parse(None, Some("1.5"), Level::Leader).unwrap().min_revision.unwrap().to_string(), "1.5");
        assert!(Demand::parse(Some("strong"), None, Level::Stale).is_err());
        assert!(Demand::parse(None, Some("5"), Level::Stale).is_err());
    }
}
