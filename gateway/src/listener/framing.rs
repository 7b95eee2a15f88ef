//! How an HTTP/1 request says where it ends: one way, or it is refused.
//!
//! pingora repairs what says it in two ways (it drops the length). Whoever stands before us may have read it the other
//! way, and what is a body to them would be a request to us.

use http::{Version, header};
use pingora::protocols::http::ServerSession;

/// Why a head that could be read is refused, if it is.
pub(super) fn refusal(session: &ServerSession) -> Option<&'static str> {
    let ServerSession::H1(http1) = session else { return None };
    let head = http1.req_header();
    if head.version == Version::HTTP_11 && !head.headers.contains_key(header::HOST) {
        return Some("no Host");
    }
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    // We decode no other coding: its bytes would pass for the content.
    if codings.next().is_some() || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Some("a transfer coding other than chunked");
    }
    names_length(&http1.get_headers_raw_bytes()).then_some("Content-Length beside Transfer-Encoding")
}

/// Whether a head, as it came, has a Content-Length line.
fn names_length(raw: &[u8]) -> bool {
    raw.split(|b| *b == b'\n').skip(1).any(|line| {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_found_however_it_is_written() {
        // pingora has taken it out of the headers by then.
        assert!(names_length(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"));
        assert!(names_length(b"PUT / HTTP/1.1\ncONTENT-lENGTH:5\n\n"));
        assert!(!names_length(b"PUT /content-length:5 HTTP/1.1\r\nX-Content-Length: 5\r\n\r\n"));
    }
}
