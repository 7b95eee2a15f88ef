//! The description of the API, which whoever runs the gateway hands over: `/openapi.json` and, for people, `/docs`.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// One of the two, ready to be sent.
#[derive(Debug, Clone, Default)]
pub struct Sheet {
    /// What is answered.
    pub body: Bytes,
    /// Its media type.
    pub media_type: &'static str,
    /// Of its content, quoted.
    pub etag: String,
    /// `Content-Security-Policy`: what a browser may load for it, which is nothing from elsewhere.
    pub policy: String,
}

/// Both.
#[derive(Debug, Clone, Default)]
pub struct Document {
    /// `/openapi.json`
    pub json: Sheet,
    /// `/docs`
    pub page: Sheet,
}

impl Sheet {
    /// 200, or 304 for a reader who has it.
    pub fn answer(&self, asked: &HeaderMap) -> Response<Body> {
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        let known = known.flat_map(|v| v.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == self.etag);
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.body.clone()) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        out.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        for (name, value) in [(header::ETAG, &self.etag), (header::CONTENT_SECURITY_POLICY, &self.policy)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                out.insert(name, value);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document is some hundred kilobytes: who has it need not load it again.
    #[test]
    fn who_has_it_is_told_so() {
        let sheet =
            Sheet { body: "{}".into(), media_type: "application/json", etag: "\"a\"".into(), ..Sheet::default() };
        let asked = |tag: &'static str| HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(tag))]);
        assert_eq!(sheet.answer(&HeaderMap::new()).status(), StatusCode::OK);
        assert_eq!(sheet.answer(&asked("\"b\"")).status(), StatusCode::OK);
        assert_eq!(sheet.answer(&asked("\"b\", W/\"a\"")).status(), StatusCode::NOT_MODIFIED);
    }
}
