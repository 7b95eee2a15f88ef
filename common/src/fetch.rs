//! How a fetch is asked for and answered over HTTP: one implementation for the shards, and for the gateway where it answers
//! by itself (DESIGN section 7), so that nobody can tell from an answer who gave it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    error::ApiError,
    headers,
    ids::{Epoch, RevisionMark},
    labels::Labels,
};

/// The labels in `X-Client-Label-<Name>`.
pub fn labels(from: &HeaderMap) -> Result<Labels, ApiError> {
    let mut pairs = Vec::new();
    for (name, value) in from {
        let Some(label) = name.as_str().strip_prefix(headers::CLIENT_LABEL_PREFIX) else { continue };
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| ApiError::invalid(name.as_str(), "the value is not UTF-8"))?;
        pairs.push((label.to_owned(), text.to_owned()));
    }
    Labels::new(pairs)
}

/// `If-None-Match` of a read: a list of ETags, weak ones too, or `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownEtags(Vec<String>);

impl KnownEtags {
    /// At most so many ETags are looked at.
    const MAX: usize = 64;

    /// Reads the header, which may be there several times.
    pub fn read(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        Self(values.flat_map(Self::split).take(Self::MAX).collect())
    }

    /// Reads one value, as gRPC's `if_none_match` holds it.
    pub fn of(text: &str) -> Self {
        Self(Self::split(text).take(Self::MAX).collect())
    }

    /// Our own ETags hold no comma, so that one that does is never ours.
    fn split(value: &str) -> impl Iterator<Item = String> + '_ {
        value.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|t| t.strip_prefix("W/").unwrap_or(t).to_owned())
    }

    /// Whether the caller has this content already (weak comparison, RFC 9110 section 13.1.2).
    pub fn contains(&self, etag: &str) -> bool {
        self.0.iter().any(|known| known == "*" || known == etag)
    }
}

/// Which state an answer reflects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The tenant's epoch.
    pub epoch: Epoch,
    /// The tenant's revision.
    pub mark: RevisionMark,
    /// How long ago, in milliseconds, a quorum confirmed it; rounded up.
    pub age_ms: u64,
}

impl State {
    /// Says it in the headers.
    pub fn write(&self, out: &mut HeaderMap) {
        out.insert(HeaderName::from_static(headers::EPOCH), HeaderValue::from(self.epoch.0));
        put(out, HeaderName::from_static(headers::REVISION), value(&self.mark.to_string()).as_ref());
        out.insert(HeaderName::from_static(headers::AGE_MS), headers::unrepeated(self.age_ms.into()));
    }
}

/// What the headers say of a version, made once for all its answers.
#[derive(Debug, Clone)]
pub struct Head {
    version: HeaderValue,
    // Everything that comes here was made from checked parts; what could not be a header is left out.
    etag: Option<HeaderValue>,
    hash: Option<HeaderValue>,
    media_type: Option<HeaderValue>,
}

impl Head {
    /// Of a version with this number, ETag (quoted), hash (`sha256:..`) and media type.
    pub fn new(version: u64, etag: &str, hash: &str, media_type: &str) -> Self {
        let version = HeaderValue::from(version);
        Self { version, etag: value(etag), hash: value(hash).map(headers::unrepeated), media_type: value(media_type) }
    }

    /// 200 with the content, or without one 304.
    pub fn answer(&self, state: &State, content: Option<Bytes>) -> Response<Bytes> {
        let has_content = content.is_some();
        let mut response = Response::new(content.unwrap_or_default());
        if !has_content {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let out = response.headers_mut();
        out.reserve(12);
        state.write(out);
        private(out);
        put(out, header::ETAG, self.etag.as_ref());
        out.insert(HeaderName::from_static(headers::CONFIG_VERSION), self.version.clone());
        put(out, HeaderName::from_static(headers::CONFIG_HASH), self.hash.as_ref());
        if has_content {
            put(out, header::CONTENT_TYPE, self.media_type.as_ref());
        }
        response
    }
}

/// No shared cache may keep it: another client may be served something else.
pub fn private(out: &mut HeaderMap) {
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

fn put(out: &mut HeaderMap, name: HeaderName, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        out.insert(name, value.clone());
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

    /// Proxies send lists and weak ETags; a client that has the content must get 304 for them too.
    #[test]
    fn known_etags_are_lists_weak_or_a_star() {
        let known = KnownEtags::read(&headers(&[("if-none-match", "\"a\", W/\"b\""), ("if-none-match", "\"c\"")]));
        for etag in ["\"a\"", "\"b\"", "\"c\""] {
            assert!(known.contains(etag), "{etag}");
        }
        assert!(!known.contains("\"d\""));
        assert!(KnownEtags::of("*").contains("\"d\""));
        assert!(!KnownEtags::of("").contains("\"d\""));
    }

    /// Labels decide what a client is served: a header given twice is ambiguous.
    #[test]
    fn labels_come_from_their_headers() {
        let one = labels(&headers(&[("x-client-label-region", "eu"), ("accept", "*/*")])).unwrap();
        assert_eq!((one.get("region"), one.len()), (Some("eu"), 1));
        assert!(labels(&headers(&[("x-client-label-region", "eu"), ("x-client-label-region", "us")])).is_err());
    }

    /// A client that has the content gets no media type, since there is nothing of one.
    #[test]
    fn an_answer_says_what_it_is_of() {
        let state = State { epoch: Epoch(3), mark: "2.17".parse().unwrap(), age_ms: 40 };
        let head = Head::new(7, "\"e\"", "sha256:00", "application/json");
        let shown = |response: &Response<Bytes>| {
            let text = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
            ["x-conflux-epoch", "x-conflux-revision", "x-conflux-age-ms", "etag", "x-config-version", "content-type"]
                .map(|name| text(name).unwrap_or_default())
        };
        let whole = head.answer(&state, Some(Bytes::from_static(b"{}")));
        assert_eq!(shown(&whole), ["3", "2.17", "40", "\"e\"", "7", "application/json"]);
        assert_eq!((whole.status(), &whole.body()[..]), (StatusCode::OK, &b"{}"[..]));
        let known = head.answer(&state, None);
        assert_eq!(shown(&known), ["3", "2.17", "40", "\"e\"", "7", ""]);
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    }
}
