//! What of a client's headers goes on to a shard: nothing that only the gateway may say, and no secret.

use std::time::SystemTime;

use conflux_common::{error::ApiError, headers};
use http::{HeaderMap, HeaderName, header};

/// At most so many header lines.
pub const MAX_HEADERS: usize = 100;
/// At most so many bytes of names and values.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The longest idempotency key.
const MAX_KEY: usize = 255;

/// Refuses a head that is larger than any honest client's.
pub fn check_size(headers: &HeaderMap) -> Result<(), ApiError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let bound = format!("the headers are beyond {MAX_HEADERS} lines or {MAX_HEADER_BYTES} bytes");
        return Err(ApiError::too_large(bound));
    }
    Ok(())
}

/// Takes out what a client may not say, what ends at this connection, and what proves who it is.
pub fn strip(headers: &mut HeaderMap) {
    let named_by_connection: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let gone: Vec<HeaderName> = headers.keys().filter(|name| is_stripped(name.as_str())).cloned().collect();
    for name in gone.into_iter().chain(named_by_connection) {
        headers.remove(name);
    }
}

fn is_stripped(name: &str) -> bool {
    headers::is_internal(name)
        || name.starts_with("x-forwarded-")
        || name.starts_with("proxy-")
        || matches!(
            name,
            // Says who asks from where: only we know.
            "forwarded" | "x-real-ip" | "via" | "x-client-ip" | "true-client-ip" | "cf-connecting-ip"
            // Secrets end here.
            | "authorization" | "x-api-key" | "cookie"
            // Of this connection.
            | "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "expect"
            | "http2-settings" | "host" | "content-length"
        )
}

/// The one value of a header that may be given once only.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|other| other != first) {
        return Err(ApiError::invalid(name, "given twice, with different values"));
    }
    first.to_str().map(Some).map_err(|_| ApiError::invalid(name, "only printable ASCII is allowed"))
}

/// The key under which the client wants a write to be repeatable, from either of its two headers, which are taken out.
pub fn take_idempotency_key(headers: &mut HeaderMap) -> Result<Option<String>, ApiError> {
    let one = single(headers, headers::IDEMPOTENCY_KEY)?.map(str::to_owned);
    let other = single(headers, headers::X_IDEMPOTENCY_KEY)?.map(str::to_owned);
    headers.remove(headers::IDEMPOTENCY_KEY);
    headers.remove(headers::X_IDEMPOTENCY_KEY);
    let key = match (one, other) {
        (Some(one), Some(other)) if one != other => {
            return Err(ApiError::invalid(headers::IDEMPOTENCY_KEY, "differs from x-idempotency-key"));
        }
        (one, other) => one.or(other),
    };
    match &key {
        Some(key) if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|b| b.is_ascii_graphic()) => {
            let rule = format!("1 to {MAX_KEY} printable characters without spaces");
            Err(ApiError::invalid(headers::IDEMPOTENCY_KEY, rule))
        }
        _ => Ok(key),
    }
}

/// The client's request id if it is one that may go into logs as it is, else a new one.
pub fn request_id(headers: &HeaderMap) -> String {
    let sane =
        |id: &str| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let given = headers.get(headers::REQUEST_ID).and_then(|v| v.to_str().ok()).filter(|id| sane(id));
    given.map_or_else(new_request_id, str::to_owned)
}

/// Ordered by time, as `Uuid::now_v7` would make it, but for its random part: that asks the kernel each time.
fn new_request_id() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn forged_headers_do_not_pass() {
        // reference/attacks.md, line 5.
        let mut headers = map(&[
            ("x-conflux-principal", "forged"),
            ("X-Conflux-Tenant-Id", "7"),
            ("x-conflux-route-epoch", "9"),
            ("x-conflux-gateway-key", "k"),
            ("x-conflux-retry", "not-leader"),
            ("x-conflux-anything-new", "x"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-client-cert", "Subject=\"CN=operator\""),
            ("x-real-ip", "1.2.3.4"),
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("cookie", "a=b"),
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-conflux-tenant", "acme"),
            ("x-client-label-region", "eu"),
            ("if-match", "\"3\""),
            ("content-type", "application/json"),
            ("user-agent", "curl"),
        ]);
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "if-match", "user-agent", "x-client-label-region", "x-conflux-tenant"]);
    }

    #[test]
    fn either_key_header_counts_and_both_must_agree() {
        for (pairs, expected) in [
            (vec![("idempotency-key", "a")], Some("a")),
            (vec![("x-idempotency-key", "a")], Some("a")),
            (vec![("idempotency-key", "a"), ("x-idempotency-key", "a")], Some("a")),
            (vec![], None),
        ] {
            assert_eq!(take_idempotency_key(&mut map(&pairs)).unwrap().as_deref(), expected);
        }
        let long = "k".repeat(256);
        for pairs in [
            vec![("idempotency-key", "a"), ("x-idempotency-key", "b")],
            vec![("idempotency-key", "a"), ("idempotency-key", "b")],
            vec![("idempotency-key", "")],
            vec![("idempotency-key", "a b")],
            vec![("idempotency-key", long.as_str())],
        ] {
            assert!(take_idempotency_key(&mut map(&pairs)).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn a_request_id_is_only_taken_over_when_it_is_harmless() {
        // Attack 29: it goes into logs and records.
        assert_eq!(request_id(&map(&[("x-request-id", "abc-1.2_3")])), "abc-1.2_3");
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            assert_ne!(request_id(&map(&[("x-request-id", bad)])), bad);
        }
        let (one, other) = (request_id(&map(&[])), request_id(&map(&[])));
        assert_ne!(one, other);
        assert_eq!(one.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
    }

    #[test]
    fn a_head_is_bounded_in_lines_and_bytes() {
        let many: HeaderMap =
            (0..=MAX_HEADERS).map(|n| (format!("h{n}").parse().unwrap(), "v".parse().unwrap())).collect();
        assert_eq!(check_size(&many).unwrap_err().http_status(), 413);
        let large = map(&[("a", &"v".repeat(MAX_HEADER_BYTES))]);
        assert_eq!(check_size(&large).unwrap_err().http_status(), 413);
        assert!(check_size(&map(&[("a", "v")])).is_ok());
    }
}
