//! One form for each request target; anything that could be read in two ways is refused.
//!
//! Names hold only unreserved characters and `:`, `@`, `+` (DESIGN section 6), so a path needs no escapes. The three that
//! careful clients write for those characters are decoded, once; every other escape could only hide something.

use conflux_common::error::ApiError;

/// At most so many bytes of path.
pub const MAX_PATH: usize = 2048;
/// At most so many bytes of query.
pub const MAX_QUERY: usize = 4096;

/// A path and query of which there is only one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Begins with `/`; has no escapes, empty, `.` or `..` segments.
    pub path: String,
    /// As it came, without the `?`.
    pub query: Option<String>,
}

impl Target {
    /// The segments after the first `/`.
    pub fn segments(&self) -> Vec<&str> {
        self.path[1..].split('/').collect()
    }

    /// The query's pairs, decoded.
    pub fn pairs(&self) -> Result<Vec<(String, String)>, ApiError> {
        let Some(query) = &self.query else { return Ok(Vec::new()) };
        let uri = format!("/?{query}").parse().map_err(|_| ApiError::invalid("query", "not a valid query string"))?;
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
        pairs.map(|q| q.0).map_err(|_| ApiError::invalid("query", "not a valid query string"))
    }
}

/// Reads a request target as it came over the wire. An absolute URI loses its scheme and authority.
pub fn canonical(raw: &[u8]) -> Result<Target, ApiError> {
    let refuse = |why: &str| ApiError::invalid("path", why);
    let text = std::str::from_utf8(raw).map_err(|_| refuse("only ASCII is allowed"))?;
    let text = origin_form(text).ok_or_else(|| refuse("it must begin with /"))?;
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    if path.len() > MAX_PATH {
        return Err(ApiError::invalid("path", format!("longer than {MAX_PATH} bytes")));
    }
    let path =
        decode(path).ok_or_else(|| refuse("it holds an escape that no name needs (only %3A, %40 and %2B are read)"))?;
    check_path(&path).map_err(refuse)?;
    if let Some(query) = query {
        check_query(query)?;
    }
    Ok(Target { path, query: query.filter(|q| !q.is_empty()).map(str::to_owned) })
}

/// Cuts `https://host:port` off.
fn origin_form(text: &str) -> Option<&str> {
    if text.starts_with('/') {
        return Some(text);
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    Some(rest.find('/').map_or("/", |at| &rest[at..]))
}

/// Decodes the three harmless escapes; `None` at any other.
fn decode(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        out.push(match rest.get(at + 1..at + 3)?.to_ascii_uppercase().as_str() {
            "3A" => ':',
            "40" => '@',
            "2B" => '+',
            _ => return None,
        });
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Some(out)
}

fn check_path(path: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._~:@+-".contains(&b);
    if !path.bytes().all(plain) {
        return Err("only letters, digits and / . _ ~ : @ + - are allowed");
    }
    if path == "/" {
        return Ok(());
    }
    for segment in path[1..].split('/') {
        match segment {
            "" => return Err("it has an empty segment"),
            "." | ".." => return Err("it has a segment that points elsewhere"),
            _ => {}
        }
    }
    Ok(())
}

fn check_query(query: &str) -> Result<(), ApiError> {
    if query.len() > MAX_QUERY {
        return Err(ApiError::invalid("query", format!("longer than {MAX_QUERY} bytes")));
    }
    if !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'\\') {
        return Err(ApiError::invalid("query", "only printable ASCII is allowed; escape the rest"));
    }
    let upper = query.to_ascii_uppercase();
    if ["%00", "%0A", "%0D"].iter().any(|control| upper.contains(control)) {
        return Err(ApiError::invalid("query", "NUL and line breaks are not allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_one_reading_passes() {
        // Left: as it came. Right: what the shard is asked.
        for (raw, path, query) in [
            ("/", "/", None),
            ("/api/v1/watch/acme?app=a&from=x%2Fy", "/api/v1/watch/acme", Some("app=a&from=x%2Fy")),
            ("/a/b.yaml:v1@eu+x", "/a/b.yaml:v1@eu+x", None),
            ("/a/b%3Av1%40eu%2Bx", "/a/b:v1@eu+x", None),
            ("/a/b%3av1%2bx", "/a/b:v1+x", None),
            ("https://gateway.example:8443/a/b?c", "/a/b", Some("c")),
            ("http://gateway.example", "/", None),
            ("/conflux.v1.ConfigService/Fetch", "/conflux.v1.ConfigService/Fetch", None),
            ("/a?", "/a", None),
            ("/.well-known/x", "/.well-known/x", None),
        ] {
            let target = canonical(raw.as_bytes()).unwrap_or_else(|e| panic!("{raw}: {e}"));
            assert_eq!((target.path.as_str(), target.query.as_deref()), (path, query), "{raw}");
        }
    }

    #[test]
    fn what_could_be_read_otherwise_is_refused() {
        // reference/attacks.md, line 11, and what Nacos, Apollo and gRPC-Go were broken with.
        let long = format!("/{}", "a".repeat(MAX_PATH));
        let long_query = format!("/a?{}", "b".repeat(MAX_QUERY + 1));
        for raw in [
            "",
            "a/b",
            "*",
            "//",
            "/a//b",
            "/a/",
            "/a/../b",
            "/a/..",
            "/./a",
            "/a/.",
            "/..",
            "/%2e%2e/a",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a;x/b",
            "/a;x=1",
            "/a%00",
            "/a\0",
            "/a%41",
            "/a%61",
            "/a%252f",
            "/a%25",
            "/a%",
            "/a%3",
            "/a%3Ax%2e",
            "/ä",
            "/a b",
            "/a%20b",
            "/a+b c",
            "/a\tb",
            "/a\r\nb",
            "/a#b",
            "/a{b",
            "/a|b",
            "/a\"b",
            "/a'b",
            "/a*b",
            "/a,b",
            "/a!b",
            "/a(b",
            "/a$b",
            "/a&b",
            "/a=b",
            "/a\u{7f}b",
            "/%c0%ae%c0%ae/",
            "/%u002e/",
            "ftp://h/a",
            "file:///a",
            "/a?b#c",
            "/a?b c",
            "/a?b\\c",
            "/a?x=%00",
            "/a?x=%0d%0aX",
            &long,
            &long_query,
        ] {
            assert!(canonical(raw.as_bytes()).is_err(), "{raw:?} passed");
        }
        assert!(canonical(b"/\xff\xfe").is_err());
        assert!(canonical(b"/\xc0\xae").is_err());
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(raw in "[/a.%2Be:@+-]{0,24}") {
            // Whoever reads it a second time (the shard) must see the same.
            if let Ok(target) = canonical(raw.as_bytes()) {
                prop_assert!(!target.path.contains('%'));
                let again = canonical(target.path.as_bytes()).unwrap();
                prop_assert_eq!(again.path, target.path);
            }
        }

        #[test]
        fn no_input_panics(raw: Vec<u8>) {
            let _ = canonical(&raw);
        }
    }
}
